"""The stream of events over many connections: where each goes on, and how long to wait before the next.

It holds the place behind the last event and the stream at hand; no I/O.
"""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.config import logger
from headrace.jobs.events import KINDS, Event

from ..http.records import StreamedGap
from ..observe.seldom import Seldom
from .patience import PAUSE_FIRST_S, PAUSE_LONGEST_S, retry_after_s
from .replies import error_in
from .stream import Stream
from .wire import Reply

seldom = Seldom(logger("headrace.events"))
#: The server says that it is there four times in this time.
SILENCE_MAX_S = 60.0
CONNECT_TIMEOUT_S = 10.0
#: Answers that say nothing against the request: it came too slowly, or there are too many.
_LOST = frozenset({408, 429})


class Feeding:
    """What one reader of events knows.

    Args:
        after: The place to begin behind; None for what happens from now on.
        queue: The queue; None for all.
    """

    def __init__(self, after: str | None, queue: str | None) -> None:
        self._last_id = after or ""
        self._queue = queue
        self._stream = Stream(self._last_id)
        self._losses_count = 0
        self._wait_s = 0.0

    def request(self) -> dict[str, Any]:
        """Return the arguments of the next connection's request."""
        self._stream = Stream(self._last_id)
        headers = {"accept": "text/event-stream", "cache-control": "no-store", "accept-encoding": "identity"}
        if self._last_id:
            headers["last-event-id"] = self._last_id
        return {
            "params": {} if self._queue is None else {"queue": self._queue},
            "headers": headers,
            "timeout": (CONNECT_TIMEOUT_S, SILENCE_MAX_S, CONNECT_TIMEOUT_S, CONNECT_TIMEOUT_S),
        }

    def take(self, piece: bytes) -> Iterator[Event]:
        """Take what arrived, and yield the events that are complete by it; those of unknown kinds are left out."""
        self._losses_count = 0
        told_of = self._stream.feed(piece)
        for told in told_of:
            self._last_id = told.id
            if told.kind in KINDS:
                yield msgspec.structs.replace(
                    msgspec.json.decode(told.data, type=_Event).event(told.kind), cursor=told.id
                )
            elif told.kind == "gap":
                gap = msgspec.json.decode(told.data, type=StreamedGap)
                seldom.warning("events missed", queue=gap.queue, after=gap.after, first=gap.first)
        self._last_id = self._stream.last_id  # a server may tell a place without an event

    def refused(self, reply: Reply) -> None:
        """Note an answer that is no stream.

        Raises:
            HeadraceError: the request is wrong, so that another would be no better.
        """
        if reply.status < 500 and reply.status not in _LOST:
            raise error_in(reply)
        self._wait_s = retry_after_s(reply)
        self.lost()

    def lost(self) -> None:
        """Note that there was no connection, or no more."""
        self._losses_count += 1

    def pause_s(self) -> float:
        """Return the seconds to wait before the next connection."""
        rising_s = min(PAUSE_LONGEST_S, PAUSE_FIRST_S * 2.0 ** min(self._losses_count, 10))
        asked_s, self._wait_s = max(self._stream.retry_s or 0.0, self._wait_s), 0.0
        return max(asked_s, rising_s * (0.5 + random.random() / 2))


class _Event(msgspec.Struct, frozen=True):
    """An event's data; what it does not say is empty."""

    queue: str = ""
    at_ms: int = 0
    id: str = ""
    name: str = ""
    attempt: int = 0
    reason: str = ""
    worker: str = ""

    def event(self, kind: str) -> Event:
        return Event(kind=kind, **msgspec.structs.asdict(self))
