"""The watch: one thread and one connection that tell all waiters of a process what has ended and where events came.

Whoever wants to be told first follows a queue, then looks, then waits: what happens in between is behind the place from
which the watch reads, so nothing is missed, over a lost connection neither. What no event can tell has causes, and at
each the watch tells the waiters to look: the connection was lost, the queue was, or the place in its stream is gone.
While nobody follows anything, nothing is read and no connection is waited on. A forked child begins anew. All state is
guarded by one lock; those who are told are called from the watch's thread, briefly, and must not raise.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from headrace.config.logs import logger
from headrace.jobs.codec import Malformed, ResultRecord
from headrace.jobs.cursor import before
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.events import Batch, ended_ids, tells_loss, unpack

from ..observe.seldom import Seldom
from .control import OpenBroker
from .events import Entry
from .followed import Ear, Followed, Wake

if TYPE_CHECKING:
    from .looks import Looks

log = logger("headrace.watch")
seldom = Seldom(log)

#: How long one read waits at the server.
READ_S: Final = 4.0
#: Entries of a queue in one read; each holds up to a settled batch.
READ_COUNT: Final = 64
#: Records asked for in one command.
RECORDS_COUNT: Final = 500
#: An idle thread ends after this long; the next waiter starts another.
IDLE_S: Final = 10.0
#: The last backstop: how long after the last one all waiters look although there is no cause, at least; up to half
#: as long again, so that programs which were started together do not look together.
LOOK_S: Final = 60.0
#: Pauses while the server is away.
AWAY_FIRST_S, AWAY_LONGEST_S = 0.05, 2.0

#: Where there was no event yet.
_NOWHERE: Final = "0-0"


#: Called with those who waited for jobs and their records, or None for who has cause to look for what became of it:
#: all that is told at once. From the watch's thread, must be short and must not raise.
Hear = Callable[[Sequence[tuple[Ear, ResultRecord | None]]], None]
_making: Final = threading.Lock()


def watch_of(broker: OpenBroker) -> "Watch":
    """Return the one watch of a broker."""
    with _making:
        watch = broker.events.watch
        if watch is None:
            watch = broker.events.watch = Watch(broker)
        return watch


class Watch:
    """Tells waiters.

    Args:
        broker: Whose events and records.

    Attributes:
        away: Why events cannot be read now; None while they can.
        looks: What its waiters look with, once there is one; see looks.py.
        hear: What is told for them.
    """

    def __init__(self, broker: OpenBroker) -> None:
        self._broker = broker
        self.away: BrokerUnavailable | None = None
        self.looks: Looks | None = None
        self.hear: Hear | None = None
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
                        self._queues[queue] = Followed(ends[queue], now_s)
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

    def add(self, queue: str, ears: Iterable[Ear]) -> bool:
        """Have `hear` told of each soon after its job has ended, or when there is cause to look for it.

        Args:
            queue: The queue of all these jobs.
            ears: Who is to be told: with a record once and then no more, and without one more than once at worst.

        Returns:
            False when the queue is not followed any more; then nothing was added.
        """
        with self._lock:
            followed = self._queues.get(queue)
            if followed is None:
                return False
            followed.add(ears)
            return True

    def drop(self, queue: str, ears: Iterable[Ear]) -> None:
        """Tell them no more."""
        with self._lock:
            followed = self._queues.get(queue)
            if followed is None:
                return
            followed.drop(ears)
            if not followed.ears:
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
        """End the thread; whoever still waits looks, and finds the broker closed."""
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
        self._queues: dict[str, Followed] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        self.away = None
        self._check_at_s = self._look_at_s = 0.0

    def _run_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headrace-watch", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        pause_s = AWAY_FIRST_S
        self._check_at_s, self._look_at_s = time.monotonic() + READ_S, _next_look_s()
        while (after := self._places()) is not None:
            if self.looks is not None:
                self.looks.forget()
            try:
                self._deliver(self._broker.events.wait(after, READ_COUNT, READ_S))
                self._check()
            except BrokerUnavailable as error:
                if self._broker.events.closed:
                    continue
                self._note_outage(error, pause_s)
                time.sleep(pause_s * (0.5 + random.random() / 2))
                pause_s = min(AWAY_LONGEST_S, pause_s * 2)
            except Exception as error:
                log.error("the watch failed", exc_info=error)
                self._have_all_look(after)
                time.sleep(AWAY_LONGEST_S)
            else:
                is_back, self.away, pause_s = self.away is not None, None, AWAY_FIRST_S
                if is_back or time.monotonic() >= self._look_at_s:
                    self._look_at_s = _next_look_s()
                    self._have_all_look(after)

    def _note_outage(self, error: BrokerUnavailable, pause_s: float) -> None:
        """Have the waiters look, now and then: other connections may work, and bring back a server of our own."""
        now_s = time.monotonic()
        if any(followed.ears or followed.wakes for followed in tuple(self._queues.values())):
            seldom.warning("server away", retry_in_s=round(pause_s, 2), error=str(error))
        if self.away is None or now_s >= self._check_at_s:
            self._check_at_s = now_s + READ_S
            self._have_all_look(tuple(self._queues))
        self.away = error

    def _check(self) -> None:
        """See, now and then, that each place is still where it was; an emptied server lacks it, and tells nobody."""
        if time.monotonic() < self._check_at_s:
            return
        with self._lock:
            waited = {queue: each for queue, each in self._queues.items() if each.ears}
            places = {queue: each.entry for queue, each in waited.items() if each.entry != _NOWHERE}
            # A queue that never had an event has no place: there any one job stands for all.
            jobs = {q: f"{q}:{next(iter(each.ears)).decode()}" for q, each in waited.items() if q not in places}
        gone = []
        if places:
            first = self._broker.events.read({queue: before(entry) for queue, entry in places.items()}, 1)
            found = {(each.queue, each.id) for each in first}
            gone = [place[0] for place in places.items() if place not in found]
            self._go_back({queue: places[queue] for queue in gone})
        if jobs:
            alive = self._broker.alive(list(jobs.values()))
            gone += [queue for queue, is_alive in zip(jobs, alive, strict=True) if not is_alive]
        self._check_at_s = time.monotonic() + READ_S
        self._have_all_look(gone)

    def _go_back(self, places: Mapping[str, str]) -> None:
        """Read on from the ends of streams that are behind us, as after a failover: what comes next is not."""
        if not places:
            return
        ends = self._broker.events.ends(tuple(places))
        with self._lock:
            for queue, entry in places.items():
                followed = self._queues.get(queue)
                if followed is not None and followed.entry == entry and _order(ends[queue]) < _order(entry):
                    followed.entry = ends[queue]

    def _have_all_look(self, queues: Iterable[str]) -> None:
        with self._lock:
            every = [self._queues[queue] for queue in queues if queue in self._queues]
            ears = [ear for followed in every for rest in followed.ears for ear in followed.of(rest)]
        self._say([(ear, None) for ear in ears])

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
            self._thread = self.away = None
            ears = [ear for followed in self._queues.values() for rest in followed.ears for ear in followed.of(rest)]
            wakes = [wake for followed in self._queues.values() for wake in followed.wakes]
            self._queues.clear()
        self._say([(ear, None) for ear in ears])  # the broker was closed under them: they look, and see it
        for wake in wakes:
            wake()
        return None

    def _say(self, told: Sequence[tuple[Ear, ResultRecord | None]]) -> None:
        if told and self.hear is not None:
            self.hear(told)

    def _tell(self, ended: Sequence[tuple[str, bytes, str]]) -> None:
        """Tell the waiters of jobs that have ended."""
        records: Sequence[ResultRecord | None]
        try:
            records = self._broker.records([job_id for _, _, job_id in ended])
        except Malformed:  # one is of another version: whoever waits for it sees that when it looks
            records = [None] * len(ended)
        told: list[tuple[Ear, ResultRecord | None]] = []
        now_s = time.monotonic()
        with self._lock:
            for (queue, rest, _), record in zip(ended, records, strict=True):
                followed = self._queues.get(queue)
                if followed is not None and rest in followed.ears:
                    ears = followed.of(rest) if record is None else followed.pop(rest)
                    told += [(ear, record) for ear in ears]
                    followed.left_at_s = now_s
        self._say(told)

    def _deliver(self, entries: Sequence[Entry]) -> None:
        """Tell of what came; only then is it behind us, so that a lost connection loses nothing."""
        ended: list[tuple[str, bytes, str]] = []
        last: dict[str, str] = {}
        lost: dict[str, None] = {}
        wakes: list[Wake] = []
        with self._lock:
            for queue, entry, data in entries:
                followed = self._queues.get(queue)
                if followed is None:
                    continue
                last[queue] = entry
                wakes += followed.wakes if followed.entry != entry else ()
                if followed.ears and (batch := _read(data)) is not None:
                    ears = followed.ears
                    ended += [(queue, rest, ears[rest].job_id) for rest in ended_ids(batch) if rest in ears]
                    if tells_loss(batch):
                        lost[queue] = None
        for wake in dict.fromkeys(wakes):
            wake()
        for start in range(0, len(ended), RECORDS_COUNT):
            self._tell(ended[start : start + RECORDS_COUNT])
        self._have_all_look(lost)
        with self._lock:
            for queue, entry in last.items():
                if queue in self._queues:
                    self._queues[queue].entry = entry


def _read(data: bytes) -> Batch | None:
    try:
        return unpack(data)
    except Malformed:  # somebody else wrote to the stream
        return None


def _next_look_s() -> float:
    return time.monotonic() + LOOK_S * (1 + random.random() / 2)


def _order(entry: str) -> tuple[int, int]:
    at, _, number = entry.partition("-")
    return int(at), int(number)
