"""The watch: one thread and one connection that tell all waiters of a process what has ended and where events came.

Whoever wants to be told first follows a queue, then looks, then waits: what happens in between is behind the place from
which the watch reads, so nothing is missed, over a lost connection neither. While nobody follows anything, nothing is
read and no connection is waited on. A forked child begins anew. All state is guarded by one lock; those who are told
are called from the watch's thread, briefly, and must not raise.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from headrace.config.logs import logger
from headrace.jobs.codec import Malformed, ResultRecord
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.events import ended_ids, unpack

from ..observe.seldom import Seldom
from .control import OpenBroker
from .events import Entry

seldom = Seldom(logger("headrace.watch"))

#: How long a queue is read on after its last waiter left: whoever submits and waits in a row follows it once.
LINGER_S: Final = 2.0
#: How long one read waits at the server.
READ_S: Final = 4.0
#: Entries of a queue in one read; each holds up to a settled batch.
READ_COUNT: Final = 64
#: Records asked for in one command.
RECORDS_COUNT: Final = 500
#: An idle thread ends after this long; the next waiter starts another.
IDLE_S: Final = 10.0
#: Pauses while the server is away.
AWAY_FIRST_S, AWAY_LONGEST_S = 0.05, 2.0

#: Called with a job's record, or None when it ended and no record is kept.
Tell = Callable[[ResultRecord | None], None]
#: Called when events came to a queue.
Wake = Callable[[], None]


_making: Final = threading.Lock()


def watch_of(broker: OpenBroker) -> "Watch":
    """Return the one watch of a broker."""
    with _making:
        watch = broker.events.watch
        if watch is None:
            watch = broker.events.watch = Watch(broker)
        return watch


class _Followed:
    """One queue that is read."""

    __slots__ = ("entry", "left_at_s", "tells", "wakes")

    def __init__(self, entry: str, now_s: float) -> None:
        self.entry = entry
        self.left_at_s = now_s
        self.tells: dict[bytes, list[Tell]] = {}
        self.wakes: list[Wake] = []

    def is_over(self, now_s: float) -> bool:
        return not self.tells and not self.wakes and now_s - self.left_at_s > LINGER_S


class Watch:
    """Tells waiters.

    Args:
        broker: Whose events and records.
    """

    def __init__(self, broker: OpenBroker) -> None:
        self._broker = broker
        self._begin()

    def follow(self, queues: Sequence[str]) -> None:
        """Begin to read queues; blocks for a round trip unless all are read already.

        Raises:
            BrokerUnavailable: the server is away.
        """
        if not self.follows(queues):
            ends = self._broker.events.ends(queues)
            now_s = time.monotonic()
            with self._lock:
                for queue in queues:
                    if queue not in self._queues:
                        self._queues[queue] = _Followed(ends[queue], now_s)
                self._run_thread()
            self._broker.events.wake()

    def follows(self, queues: Sequence[str]) -> bool:
        """Return whether all are read, and will be for LINGER_S."""
        if self._pid != os.getpid():
            self._begin()
        now_s = time.monotonic()
        with self._lock:
            for queue in queues:
                followed = self._queues.get(queue)
                if followed is None:
                    return False
                followed.left_at_s = now_s
        return True

    def add(self, queue: str, rest: bytes, tell: Tell) -> None:
        """Have `tell` called when a job has ended, soon after; the queue is followed.

        Args:
            queue: The job's queue.
            rest: What follows the colon in its id.
            tell: Called from the watch's thread, more than once at worst.
        """
        with self._lock:
            followed = self._queues.get(queue)
            if followed is not None:  # else whoever waits looks again by and by
                followed.tells.setdefault(rest, []).append(tell)

    def drop(self, queue: str, rest: bytes, tell: Tell) -> None:
        """Call it no more."""
        with self._lock:
            followed = self._queues.get(queue)
            tells = followed.tells.get(rest) if followed is not None else None
            if followed is None or tells is None or tell not in tells:
                return
            tells.remove(tell)
            if not tells:
                del followed.tells[rest]
                followed.left_at_s = time.monotonic()

    def listen(self, queue: str, wake: Wake) -> None:
        """Have `wake` called whenever events came to a followed queue."""
        with self._lock:
            followed = self._queues.get(queue)
            if followed is not None:
                followed.wakes.append(wake)

    def ignore(self, queue: str, wake: Wake) -> None:
        """Call it no more."""
        with self._lock:
            followed = self._queues.get(queue)
            if followed is not None and wake in followed.wakes:
                followed.wakes.remove(wake)
                followed.left_at_s = time.monotonic()

    def close(self) -> None:
        """End the thread; whoever still waits looks by and by and then finds the broker closed."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            self._broker.events.wake()
            thread.join(READ_S)

    def end(self) -> None:
        """See that the broker was closed; what `close` of its events calls."""
        if self._pid == os.getpid():
            with self._lock:
                self._changed.notify_all()

    def _begin(self) -> None:
        """Start afresh: in a forked child there is no thread, and the lock may be held for ever."""
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a reader's end may come out of any allocation in here
        self._changed = threading.Condition(self._lock)
        self._queues: dict[str, _Followed] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def _run_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headrace-watch", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        pause_s = AWAY_FIRST_S
        while (after := self._places()) is not None:
            try:
                entries = self._broker.events.wait(after, READ_COUNT, READ_S)
                self._deliver(entries)
                pause_s = AWAY_FIRST_S
            except BrokerUnavailable as error:
                if self._broker.events.closed:
                    continue
                if any(followed.tells or followed.wakes for followed in tuple(self._queues.values())):
                    seldom.warning("server away", retry_in_s=round(pause_s, 2), error=str(error))
                time.sleep(pause_s * (0.5 + random.random() / 2))
                pause_s = min(AWAY_LONGEST_S, pause_s * 2)

    def _places(self) -> dict[str, str] | None:
        """Return from where to read on in each queue; waits while there is none; None when the thread should end."""
        with self._lock:
            idle_at_s = time.monotonic() + IDLE_S
            while not self._broker.events.closed:
                now_s = time.monotonic()
                for queue in [name for name, followed in self._queues.items() if followed.is_over(now_s)]:
                    del self._queues[queue]
                if self._queues:
                    return {queue: followed.entry for queue, followed in self._queues.items()}
                if now_s >= idle_at_s:
                    break
                self._changed.wait(idle_at_s - now_s)
            self._thread = None
            tells = [tell for followed in self._queues.values() for some in followed.tells.values() for tell in some]
            wakes = [wake for followed in self._queues.values() for wake in followed.wakes]
            self._queues.clear()
        for tell in tells:  # the broker was closed under them: they look, and see it
            tell(None)
        for wake in wakes:
            wake()
        return None

    def _deliver(self, entries: Sequence[Entry]) -> None:
        """Tell of what came; only then is it behind us, so that a lost connection loses nothing."""
        ended: list[tuple[str, bytes]] = []
        last: dict[str, str] = {}
        wakes: list[Wake] = []
        with self._lock:
            for queue, entry, data in entries:
                followed = self._queues.get(queue)
                if followed is None:
                    continue
                last[queue] = entry
                wakes += followed.wakes if followed.entry != entry else ()
                if followed.tells:
                    ended += [(queue, rest) for rest in _ended(data) if rest in followed.tells]
        for wake in dict.fromkeys(wakes):
            wake()
        for start in range(0, len(ended), RECORDS_COUNT):
            part = ended[start : start + RECORDS_COUNT]
            records = self._broker.records([f"{queue}:{rest.decode()}" for queue, rest in part])
            for (queue, rest), record in zip(part, records, strict=True):
                with self._lock:
                    followed = self._queues.get(queue)
                    tells = tuple(followed.tells.get(rest, ())) if followed is not None else ()
                for tell in tells:
                    tell(record)
        with self._lock:
            for queue, entry in last.items():
                if queue in self._queues:
                    self._queues[queue].entry = entry


def _ended(data: bytes) -> list[bytes]:
    try:
        return ended_ids(unpack(data))
    except Malformed:  # somebody else wrote to the stream; waiters look by and by
        return []
