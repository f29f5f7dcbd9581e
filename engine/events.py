"""Reading events: a replay from a cursor on, then what happens, as it happens.

It promises that nothing between two events is left out while the streams keep it, over lost connections too, and to
notice where they kept it no more; after a worker lost a reply an event may come twice. Each reader reads for itself at
its own speed and is woken by the watch of the process. Owned by one event loop.
"""

import random
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Self, TypeVar

import anyio

from headrace.config.logs import logger
from headrace.jobs.codec import Malformed
from headrace.jobs.cursor import NOWHERE, Cursor, before
from headrace.jobs.errors import BrokerUnavailable, ConfigError
from headrace.jobs.events import KINDS, Event, events_of, unpack
from headrace.jobs.ids import check_queue
from headrace.jobs.registry import Registry
from headrace.workers.runners.portal import Portal

from .broker.control import OpenBroker
from .broker.courier import Courier
from .broker.events import Entry
from .broker.followed import Wake
from .broker.watch import watch_of
from .loops.telling import OnEvent
from .observe.seldom import Seldom
from .results import Results

seldom = Seldom(logger("headrace.events"))

#: How often a reader looks although nobody woke it, and for queues that are new.
LOOK_EVERY_S: Final = 1.0
#: Batches of a queue in one read: a few MB at the most.
READ_COUNT: Final = 64
#: Pauses while the server is away.
AWAY_FIRST_S, AWAY_LONGEST_S = 0.05, 2.0


OnEventT = TypeVar("OnEventT", bound=OnEvent)


class EventSource:
    """What an engine has of events: `events` and `on`."""

    registry: Registry

    def __init__(self) -> None:
        super().__init__()
        self._on: dict[str, list[OnEvent]] = {}

    def on(self, *kinds: str) -> Callable[[OnEventT], OnEventT]:
        """Have `function(event)` called in the worker after events of these kinds, such as "job.dead".

        Best effort: at most 1,000 events wait, more are dropped and counted (`backpressure.sinks.on`), and nothing is
        told again after a crash. A coroutine function runs in the worker's loop, a plain one in a thread, for 30 s at
        most; a thread that takes longer is left behind, and while four such run, plain functions are not called and
        what they miss counts as dropped. For all events, from anywhere, and again after a restart, read `events`.

        Raises:
            ConfigError: there is no such kind.
        """
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ConfigError(f"on{kinds!r}: name kinds of events, out of {', '.join(KINDS)}")

        def declare(function: OnEventT) -> OnEventT:
            for kind in dict.fromkeys(kinds):
                self._on.setdefault(kind, []).append(function)
            return function

        return declare

    def events(self, after: str | None = None, queue: str | None = None) -> "EventReader":
        """Return an async iterator over what happens to jobs, workers and queues.

        Args:
            after: The `cursor` of the event behind which to go on; "0" for all that is kept, None for what happens
                from now on. An event may come twice, none is left out while it is kept.
            queue: The queue; None for all.

        Raises:
            InvalidArguments: no cursor has such a text, or no queue such a name.
            ConfigError: the engine is not open.
        """
        return EventReader(EntryReader(self._open()[1].broker, after, queue, self.registry.queues()))

    def _open(self) -> tuple[object, Results]:
        raise NotImplementedError


class Gap(NamedTuple):
    """A place in a queue's stream that is not kept any more: what followed it may be lost to who reads on from there.

    Attributes:
        queue: The queue.
        after: The entry that was read last.
        first: The first entry that is kept behind it; empty where there is none.
    """

    queue: str
    after: str
    first: str


class Look(NamedTuple):
    """What one look at the streams found.

    Attributes:
        entries: Behind the cursor, the oldest first.
        gaps: Places of the cursor that are gone.
        is_all: Whether that was all there is.
        until_ms: With these read, of no queue anything is unread from before that time.
    """

    entries: list[Entry]
    gaps: list[Gap]
    is_all: bool
    until_ms: int


class EntryReader:
    """Reads the packed batches of one queue's events, or of all queues'.

    Args:
        broker: Whose.
        after: The cursor behind which to begin; "0" for all that is kept, None for what happens from now on.
        queue: The queue; None for all, those that come later too.
        known: Queues that may not be in the server's list yet.
        courier: The way to the server; one of its own by default.

    Attributes:
        cursor: Behind which batches are read; whoever has taken one in moves it on.

    Raises:
        InvalidArguments: no cursor has such a text, or no queue such a name.
    """

    def __init__(
        self,
        broker: OpenBroker,
        after: str | None,
        queue: str | None,
        known: Iterable[str] = (),
        courier: Courier | None = None,
    ) -> None:
        self._wake: Wake | None = None
        self._broker = broker
        self._watch = watch_of(broker)
        self._courier = courier or Courier(broker.waits)
        self._queue = check_queue(queue) if queue is not None else None
        self.cursor = Cursor() if after is None else Cursor.parse(after)
        for named in self.cursor.places:
            check_queue(named)
        self._known = frozenset(known)
        self._from_now = after is None
        self._queues: tuple[str, ...] = ()
        self._came = anyio.Event()
        self._pause_s = AWAY_FIRST_S
        self._compared = False

    async def look(self, count: int = READ_COUNT) -> Look:
        """Return what is behind the cursor now, at most `count` batches of each queue; raises BrokerUnavailable."""
        return await self._courier.call(self._look, None, count)

    async def next(self) -> Look:
        """Return what is behind the cursor; waits while there is nothing, or the server is away.

        Cancelled, it loses nothing.

        Raises:
            BrokerUnavailable: the broker was closed.
        """
        if self._wake is None:
            self._wake = _waker(Portal.open(), weakref.ref(self))
        while True:
            self._came = anyio.Event()
            try:
                # One hop: follow, so that what comes from now on wakes; then read what is there.
                found = await self._courier.call(self._look, self._wake, READ_COUNT)
                self._pause_s = AWAY_FIRST_S
            except BrokerUnavailable as error:
                if self._broker.events.closed:
                    raise
                seldom.warning("server away", retry_in_s=round(self._pause_s, 2), error=str(error))
                await anyio.sleep(self._pause_s * (0.5 + random.random() / 2))
                self._pause_s = min(AWAY_LONGEST_S, self._pause_s * 2)
                continue
            if found.entries or found.gaps:
                return found
            with anyio.move_on_after(LOOK_EVERY_S):
                await self._came.wait()

    def __del__(self) -> None:
        if self._wake is not None:
            for queue in self._queues:
                self._watch.ignore(queue, self._wake)

    def note(self) -> None:
        """Look again soon."""
        self._came.set()

    def _look(self, wake: Wake | None, count: int) -> Look:
        if self._queue is not None:
            queues: tuple[str, ...] = (self._queue,)
        else:
            queues = tuple(sorted(self._known.union(self._broker.queue_names(), self.cursor.places)))
        if wake is not None and (queues != self._queues or not self._watch.follows(queues)):
            self._watch.follow(queues)
            for queue in queues:
                self._watch.ignore(queue, wake)
                self._watch.listen(queue, wake)
            self._queues = queues
        if self._from_now:
            ends = self._broker.events.ends(queues)
            for queue, entry in sorted(ends.items(), key=lambda end: _order(end[1])):
                self.cursor.move(queue, entry)
                self.cursor.read_until(_order(entry)[0])
            self._from_now, self._compared = False, True
        entries = self._broker.events.read({queue: self.cursor.read_from(queue) for queue in queues}, count)
        entries.sort(key=_age)
        found = Counter(entry.queue for entry in entries)
        full = [queue for queue in found if found[queue] >= count]
        # A stream keeps more batches than one look returns; so only who begins, or is far behind, may have missed some.
        gaps = self._gaps(full if self._compared else queues)
        self._compared = True
        # Where not all was returned, more is behind the last one of such a queue.
        last = {entry.queue: _age(entry)[0] for entry in entries}
        until_ms = min((last[queue] for queue in full), default=max(last.values(), default=0))
        return Look(entries, gaps, not full, until_ms)

    def _gaps(self, queues: Iterable[str]) -> list[Gap]:
        places = {queue: self.cursor.places[queue][0] for queue in queues if queue in self.cursor.places}
        places = {queue: place for queue, place in places.items() if place != NOWHERE}
        if not places:
            return []
        read = self._broker.events.read({queue: before(place) for queue, place in places.items()}, 1)
        first = {entry.queue: entry.id for entry in read}
        return [Gap(queue, place, first.get(queue, "")) for queue, place in places.items() if first.get(queue) != place]


class EventReader:
    """Reads the events of one queue, or of all.

    Args:
        entries: Where they come from, packed.
    """

    def __init__(self, entries: EntryReader) -> None:
        self._entries = entries
        self._ready: deque[Event] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            found = await self._entries.next()
            for gap in found.gaps:
                seldom.warning("events missed", queue=gap.queue, after=gap.after, first=gap.first)
            for entry in found.entries:
                self._ready += self._events(entry)
                self._entries.cursor.read_until(min(_age(entry)[0], found.until_ms))
        return self._ready.popleft()

    def _events(self, entry: Entry) -> list[Event]:
        cursor, queue = self._entries.cursor, entry.queue
        try:
            events = events_of(queue, entry.id, unpack(entry.data), skip=cursor.skip(queue, entry.id), cursor=cursor)
        except Malformed as error:
            seldom.warning("not an event", queue=queue, entry=entry.id, error=str(error))
            events = []
        cursor.move(queue, entry.id)
        return events


def _waker(portal: Portal, reader: "weakref.ref[EntryReader]") -> Wake:
    """Return what wakes a reader, from any thread, and does not keep one alive that nobody reads any more."""

    def note() -> None:
        found = reader()
        if found is not None:
            found.note()

    def wake() -> None:
        portal.post(note)

    return wake


def _age(entry: Entry) -> tuple[int, int]:
    return _order(entry.id)


def _order(entry: str) -> tuple[int, int]:
    at, _, number = entry.partition("-")
    return int(at), int(number)
