"""The feed: one reader of the server's events for all streams of this process, and each stream's own place in them.

Followers that keep up are handed what the one reader finds; one that joins late, or falls behind its bounded buffer,
reads on by itself from its own place until it has caught up, so a slow client costs memory a bounded amount and others
nothing, and misses only what the server keeps no more, of which it is told. No part of it needs a loop of its own: the
followers take turns at reading for all. Owned by one event loop.
"""

import random
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from typing import Final

import anyio
import msgspec

from headrace.config import limits
from headrace.config.logs import logger
from headrace.jobs.codec import Malformed
from headrace.jobs.cursor import NOWHERE, Cursor
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.events import Event, events_of, unpack

from ..broker.control import OpenBroker
from ..broker.courier import Courier
from ..broker.events import Entry
from ..events import AWAY_FIRST_S, AWAY_LONGEST_S, EntryReader, Gap
from ..observe.seldom import Seldom
from .records import StreamedEvent, StreamedGap

seldom = Seldom(logger("headrace.http"))

#: Batches of a queue that a follower which catches up reads at a time: they wait, packed, for its client.
REPLAY_COUNT: Final = 16
REPLAY_THREADS_COUNT: Final = 2
#: Events that are sent at a time, and their text: only the last one's id says where to go on, and takes up to 8 KiB.
PIECE_MAX_COUNT: Final = 100
PIECE_MAX_CHARS: Final = 64 * 1024


class FeedBounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a feed may take.

    Attributes:
        streams_max_count: Streams at a time.
        buffer_max_bytes: What waits for one client: as text, while it keeps up; beyond that it reads by itself, at
            most so much at a time.
    """

    streams_max_count: int = limits.HTTP_STREAMS_MAX_COUNT
    buffer_max_bytes: int = limits.HTTP_STREAM_BUFFER_BYTES


class TooManyStreams(Exception):
    """A stream more than the feed may have."""


class Packet:
    """One batch of events, written once for all followers.

    Args:
        entry: The batch, packed.
        until_ms: With it read, of no queue anything is unread from before that time.
    """

    def __init__(self, entry: Entry, until_ms: int) -> None:
        self.queue = entry.queue
        self.entry = entry.id
        self.until_ms = min(_order(entry.id)[0], until_ms)
        self._data = entry.data

    @cached_property
    def rows(self) -> list[tuple[int, str, str]]:
        """Each event's row in the batch, the end of its id, and its text."""
        try:
            batch = unpack(self._data)
        except Malformed as error:
            seldom.warning("not an event", queue=self.queue, entry=self.entry, error=str(error))
            return []
        events = events_of(self.queue, self.entry, batch, skip=0, cursor=Cursor())
        last = len(batch.ids) - 1
        return [(_row(event.cursor, last), event.cursor, _text(event.kind, _streamed(event))) for event in events]

    def piece(self, skip: int, others: str) -> tuple[str, int | None]:
        """Return the text of the next events, and the row of the last of them; None when no row is behind it.

        Args:
            skip: Rows that were sent before.
            others: What stands behind this queue's part in the id.
        """
        texts: list[str] = []
        left = PIECE_MAX_CHARS
        begin = bisect_left(self.rows, skip, key=lambda each: each[0])
        for at in range(begin, len(self.rows)):
            row, place, text = self.rows[at]
            left -= len(text)
            is_last = at + 1 == len(self.rows)
            if is_last or len(texts) + 1 == PIECE_MAX_COUNT or left - len(self.rows[at + 1][2]) < 0:
                texts.append(f"id: {place}{others}\n{text}")
                return "".join(texts), None if is_last else row
            texts.append(text)
        return "", None

    @cached_property
    def size_bytes(self) -> int:
        """Characters of its text."""
        return sum(len(text) for _, _, text in self.rows)


class Follower:
    """One stream's place in the events.

    Args:
        feed: Who hands events on.
        reader: Its own way to what it was not handed; its cursor is the follower's.
        queue: The queue whose events it wants; None for all.

    Attributes:
        scope: What its stream runs in; cancelled when the feed ends.
    """

    def __init__(self, feed: "Feed", reader: EntryReader, queue: str | None) -> None:
        self._feed = feed
        self._reader = reader
        self._queue = queue
        self._behind = True
        self._replayed: deque[Packet] = deque()
        self._handed: deque[Packet] = deque()
        self._handed_bytes = 0
        self._notices: deque[bytes] = deque()
        self._told: dict[str, str] = {}
        self._replay_count = REPLAY_COUNT
        self._came = anyio.Event()
        self.scope = anyio.CancelScope()

    @property
    def place(self) -> str:
        """Behind what it is: the text of a cursor."""
        return self._reader.cursor.text

    async def next(self) -> bytes:
        """Return the next events as text, when there are any; cancelled, it loses nothing."""
        pause_s = AWAY_FIRST_S
        while True:
            if self._notices:
                return self._notices.popleft()
            if text := self._take():
                return text
            if not self._behind:
                self._came = anyio.Event()
                await self._came.wait()
                continue
            try:
                await self.catch_up()
            except BrokerUnavailable as error:
                seldom.warning("server away", retry_in_s=round(pause_s, 2), error=str(error))
                await anyio.sleep(pause_s * (0.5 + random.random() / 2))
                pause_s = min(AWAY_LONGEST_S, pause_s * 2)

    async def catch_up(self) -> None:
        """Read what is behind its place; when that is all, whatever comes later is handed on by the feed.

        Raises:
            BrokerUnavailable: the server is away.
        """
        await self._feed.ready()
        self._behind = False  # it has joined before it looks: nothing can be in between
        try:
            found = await self._reader.look(self._replay_count)
        except BaseException:
            self._fall_behind()
            raise
        for gap in found.gaps:
            if self._told.get(gap.queue) != gap.after:  # it is found again while its queue waits its turn
                self._note(gap)
        sizes = accumulate(len(entry.data) for entry in found.entries)
        held = max(1, bisect_right(list(sizes), self._feed.bounds.buffer_max_bytes))
        self._replayed.extend(Packet(entry, found.until_ms) for entry in found.entries[:held])
        if held < len(found.entries):
            self._replay_count = max(1, self._replay_count // 2)
        if held < len(found.entries) or not found.is_all:
            self._fall_behind()

    def wants(self, queue: str) -> bool:
        """Return whether it is handed a queue's events now."""
        return not self._behind and self._queue in {None, queue}

    def offer(self, packet: Packet) -> None:
        """Take events that the feed's reader found; beyond the buffer's bound, fall behind."""
        self._handed.append(packet)
        self._handed_bytes += packet.size_bytes
        if self._handed_bytes > self._feed.bounds.buffer_max_bytes:
            self._fall_behind()
        self._came.set()

    def tell(self, gap: Gap) -> None:
        """Take word of what is kept no more."""
        self._note(gap)
        self._came.set()

    def _fall_behind(self) -> None:
        self._behind = True
        self._handed.clear()
        self._handed_bytes = 0

    def _note(self, gap: Gap) -> None:
        self._notices.append(_text("gap", StreamedGap(gap.queue, gap.after, gap.first)).encode())
        self._told[gap.queue] = gap.after
        if not gap.first:
            self._reader.cursor.move(gap.queue, NOWHERE)

    def _take(self) -> bytes:
        """Return the next piece as text, without what was taken before; empty when there is none. It is behind then."""
        cursor = self._reader.cursor
        while waiting := self._replayed or self._handed:
            packet, text, row = waiting[0], "", None
            if _order(packet.entry) > _order(cursor.read_from(packet.queue)):
                text, row = packet.piece(cursor.skip(packet.queue, packet.entry), cursor.behind(packet.queue))
                cursor.move(packet.queue, packet.entry, row)
            if row is None:
                if waiting is self._handed:
                    self._handed_bytes -= packet.size_bytes
                waiting.popleft()
                cursor.read_until(packet.until_ms)
            if text:
                return text.encode()
        return b""


class Feed:
    """Hands events on to followers.

    Args:
        broker: Whose.
        known: Queues that may not be in the server's list yet.
        bounds: What it may take.

    Attributes:
        bounds: What it may take.
        dropped_count: Streams that were ended because their clients did not read.
        sent_bytes: What was sent to all.
    """

    def __init__(self, broker: OpenBroker, known: Iterable[str] = (), bounds: FeedBounds | None = None) -> None:
        self._broker = broker
        self._known = tuple(known)
        self.bounds = bounds or FeedBounds()
        self._courier = Courier(broker.waits, REPLAY_THREADS_COUNT)
        self._followers: set[Follower] = set()
        self._reader: EntryReader | None = None
        self._turn: anyio.Lock | None = None
        self._ended = False
        self.dropped_count = 0
        self.sent_bytes = 0

    @property
    def streams_count(self) -> int:
        """How many streams there are."""
        return len(self._followers)

    async def follow(self, after: str | None, queue: str | None) -> Follower:
        """Return a new follower, which has looked once; `leave` ends it.

        Args:
            after: The cursor behind which it begins; "0" for all that is kept, None for what happens from now on.
            queue: The queue whose events it wants; None for all.

        Raises:
            InvalidArguments: no cursor has such a text, or no queue such a name.
            TooManyStreams: the feed has as many as it may, or has ended.
            BrokerUnavailable: the server is away.
        """
        if self._ended or len(self._followers) >= self.bounds.streams_max_count:
            raise TooManyStreams
        follower = Follower(self, EntryReader(self._broker, after, queue, self._known, self._courier), queue)
        self._followers.add(follower)
        try:
            await follower.catch_up()
        except BaseException:
            self.leave(follower)
            raise
        return follower

    def leave(self, follower: Follower) -> None:
        """Hand a follower nothing any more; without followers nothing is read."""
        self._followers.discard(follower)
        if not self._followers:
            self._reader = None

    async def ready(self) -> None:
        """Return once the reader has a place: what comes behind it is handed on. Raises BrokerUnavailable."""
        if self._turn is None:
            self._turn = anyio.Lock()
        while self._reader is None:
            reader = EntryReader(self._broker, None, None, self._known)
            await reader.look(1)  # what it finds is found again: its place stays
            self._reader = self._reader or reader

    async def pump(self) -> None:
        """Read for all, when it is this follower's turn, until cancelled."""
        assert self._turn is not None
        async with self._turn:
            while True:
                await self.ready()
                reader = self._reader
                assert reader is not None
                found = await reader.next()
                for gap in found.gaps:
                    for follower in self._followers:
                        if follower.wants(gap.queue):
                            follower.tell(gap)
                    if not gap.first:
                        reader.cursor.move(gap.queue, NOWHERE)
                for entry in found.entries:
                    packet = Packet(entry, found.until_ms)
                    for follower in self._followers:
                        if follower.wants(packet.queue):
                            follower.offer(packet)
                    reader.cursor.move(entry.queue, entry.id)

    def end(self) -> None:
        """End all streams at once, and take no more."""
        self._ended = True
        for follower in self._followers:
            follower.scope.cancel()


def _row(cursor: str, last: int) -> int:
    _, dot, row = cursor.rpartition("=")[2].partition(".")
    return int(row) if dot else last


def _streamed(event: Event) -> StreamedEvent:
    return StreamedEvent(
        event.kind, event.queue, event.at_ms, event.id, event.name, event.attempt, event.reason, event.worker
    )


def _text(kind: str, record: StreamedEvent | StreamedGap) -> str:
    return f"event: {kind}\ndata: {msgspec.json.encode(record).decode()}\n\n"


def _order(entry: str) -> tuple[int, int]:
    at, _, number = entry.partition("-")
    return int(at), int(number)
