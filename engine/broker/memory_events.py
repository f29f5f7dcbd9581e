"""The streams of events of the memory broker: bounded lists in this process, and a condition for those who wait.

The log belongs to a MemoryState and is guarded by its lock; the adapter is each broker's own way to it.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from headrace.config import limits

from .events import Entry

if TYPE_CHECKING:
    from .memory_access import Access
    from .watch import Watch


class EventLog:
    """What happened, queue by queue; every method expects the caller to hold the lock.

    Args:
        lock: The state's.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self.came = threading.Condition(lock)
        self._streams: dict[str, deque[tuple[tuple[int, int], bytes]]] = {}
        self._bytes: dict[str, int] = {}
        self._last: dict[str, tuple[int, int]] = {}

    def add(self, queue: str, data: bytes, now_ms: int) -> None:
        """Append a packed batch, and drop the oldest above the bounds."""
        stream = self._streams.setdefault(queue, deque())
        at_ms, number = self._last.get(queue, (0, 0))
        place = self._last[queue] = (now_ms, 0) if now_ms > at_ms else (at_ms, number + 1)
        stream.append((place, data))
        size_bytes = self._bytes.get(queue, 0) + len(data)
        while len(stream) > limits.EVENTS_MAX_COUNT or size_bytes > limits.EVENTS_MAX_BYTES:
            size_bytes -= len(stream.popleft()[1])
        self._bytes[queue] = size_bytes
        self.came.notify_all()

    def end(self, queue: str) -> str:
        """Return the last entry's id."""
        return "{}-{}".format(*self._last.get(queue, (0, 0)))

    def behind(self, after: Mapping[str, str], count: int) -> list[Entry]:
        """Return up to `count` entries of each queue behind the named ones."""
        found: list[Entry] = []
        for queue, entry in after.items():
            stream = self._streams.get(queue)
            at, _, number = entry.partition("-")
            last = (int(at), int(number))
            if stream is None or not stream or stream[-1][0] <= last:
                continue
            newer = 0
            for place, _data in reversed(stream):
                if place <= last:
                    break
                newer += 1
            rows = islice(stream, len(stream) - newer, len(stream) - newer + count)
            found += [Entry(queue, f"{place[0]}-{place[1]}", data) for place, data in rows]
        return found


class MemoryEvents:
    """EventStreams in this process's memory.

    Args:
        access: The broker's way to its state.
    """

    def __init__(self, access: "Access") -> None:
        self._access = access
        self._woken = False
        self.closed = False
        self.watch: Watch | None = None

    def ends(self, queues: Sequence[str]) -> dict[str, str]:
        """Return for each queue the entry behind which there is nothing yet."""
        with self._access.verb("ends") as (state, _):
            return {queue: state.events.end(queue) for queue in queues}

    def read(self, after: Mapping[str, str], count: int) -> list[Entry]:
        """Return what is there behind the named entries."""
        with self._access.verb("read") as (state, _):
            return state.events.behind(after, count)

    def wait(self, after: Mapping[str, str], count: int, wait_s: float) -> list[Entry]:
        """Return what is there or comes in time, by the real clock."""
        log, ends_s = self._access.state.events, time.monotonic() + wait_s
        with log.came:
            while True:
                found = log.behind(after, count)
                left_s = ends_s - time.monotonic()
                if found or self._woken or self.closed or left_s <= 0:
                    self._woken = False
                    return found
                log.came.wait(left_s)

    def wake(self) -> None:
        """End a waiting `wait` early."""
        log = self._access.state.events
        with log.came:
            self._woken = True
            log.came.notify_all()

    def close(self) -> None:
        """End a waiting `wait` for good."""
        self.closed = True
        self.wake()
        if self.watch is not None:
            self.watch.end()

    def announce(self, queues: Sequence[str], data: bytes) -> None:
        """Write one packed batch to the streams of some queues."""
        with self._access.verb("announce") as (state, now_ms):
            for queue in queues:
                state.events.add(queue, data, now_ms)


if TYPE_CHECKING:
    from .events import EventStreams
    from .watch import Watch

    _fills_the_port: type[EventStreams] = MemoryEvents
