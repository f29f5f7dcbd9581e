"""Looks: one thread that looks for what became of jobs, for all waiters of a process together, when there is cause to.

A waiter looks when it begins and when the watch says so; it asks for it and waits on. Looks of many travel together,
those of one job are one. While the server is away they are put off, with rising and jittered pauses, for as long as
anybody waits; an outage that lasts is told at once. A forked child begins anew. All state is guarded by one lock.
"""

import os
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from headrace.jobs import ids
from headrace.jobs.codec import ResultRecord
from headrace.jobs.errors import BrokerUnavailable, HeadraceError, Outlook, ResultUnavailable
from headrace.jobs.results import missing
from headrace.jobs.states import ENDED

from .control import OpenBroker
from .views import BrokerViews, JobView
from .watch import AWAY_FIRST_S, AWAY_LONGEST_S, IDLE_S, RECORDS_COUNT, Watch, seldom, watch_of

_making: Final = threading.Lock()


def looks_of(broker: OpenBroker) -> "Looks":
    """Return the one Looks of a broker."""
    watch = watch_of(broker)
    with _making:
        if watch.looks is None:
            watch.looks = Looks(broker, watch)
            watch.hear = watch.looks.hear
        return watch.looks


class Inbox(Protocol):
    """Where waits are told of: that of all waiters of a loop, or of a thread."""

    def hear(self, waits: "Sequence[Wait]", /) -> None:
        """Learn that these are done or were looked for; from any thread, must be short and must not raise."""


class Wait(msgspec.Struct, eq=False):
    """Somebody who waits for one job; done when there is a record or an error.

    Attributes:
        job_id: The job, by whichever id.
        inbox: Told when something of this has changed, together with others of the same inbox.
        record: How the job ended.
        error: Why no record will ever come.
        was_answered: Whether it has been looked for, in vain or not.
        has_left: Whether it is waited for no longer.
        queue: With `rest`, where the watch has it; empty while it has not.
        rest: What follows the colon in the id.
    """

    job_id: str
    inbox: Inbox
    record: ResultRecord | None = None
    error: Exception | None = None
    was_answered: bool = False
    has_left: bool = False
    queue: str = ""
    rest: bytes = b""

    @property
    def done(self) -> bool:
        """Whether the wait is over."""
        return self.record is not None or self.error is not None

    def answer(self, record: ResultRecord | None = None, error: Exception | None = None) -> None:
        """Take what was found; what came first stands. Whoever calls this tells the inbox."""
        if self.record is None and self.error is None:
            self.record, self.error = record, error
        self.was_answered = True


def tell(waits: Iterable[Wait]) -> None:
    """Tell inboxes of waits that were answered, each of its own together."""
    told: dict[Inbox, list[Wait]] = {}
    for wait in waits:
        some = told.get(wait.inbox)
        if some is None:
            told[wait.inbox] = [wait]
        else:
            some.append(wait)
    for inbox, some in told.items():
        inbox.hear(some)


class Looks:
    """Looks for jobs.

    Args:
        broker: Whom to ask.
        watch: Tells when to look again.
    """

    def __init__(self, broker: OpenBroker, watch: Watch) -> None:
        self._broker = broker
        self._watch = watch
        self._away: BrokerUnavailable | None = None
        self._begin()

    @property
    def away(self) -> BrokerUnavailable | None:
        """Why the server cannot be asked now; None while it can."""
        return self._away or self._watch.away

    def put(self, waits: Iterable[Wait]) -> None:
        """Look for jobs soon, and from then on whenever there is cause, until each has ended or `leave`."""
        if self._pid != os.getpid():
            self._begin()
        self.forget()
        with self._lock:
            for wait in waits:
                if not wait.has_left and not wait.done:
                    self._line[wait] = None
            if self._line:
                self._run_thread()

    def leave(self, waits: Iterable[Wait]) -> None:
        """Look no more for those who wait no longer; one who has a record need not say so."""
        waits = tuple(waits)
        with self._lock:
            for wait in waits:
                wait.has_left = True
                self._line.pop(wait, None)
        self._have_untold(waits)

    def leave_later(self, waits: Iterable[Wait]) -> None:
        """Do what `leave` does, soon; for what the garbage collector may end in any allocation, under any lock."""
        for wait in waits:
            wait.has_left = True
            self._left.append(wait)

    def forget(self) -> None:
        """Leave for those who were to leave later; the threads here and of the watch do so now and then."""
        left: list[Wait] = []
        while self._left:
            left.append(self._left.popleft())
        if left:
            self.leave(left)

    def hear(self, told: Sequence[tuple[Any, ResultRecord | None]]) -> None:
        """Learn from the watch how jobs ended, or with None that there is cause to look for them."""
        for wait, record in told:
            if record is not None:
                wait.answer(record)
        tell(wait for wait, record in told if record is not None)
        again = [wait for wait, record in told if record is None]
        if again:
            self.put(again)

    def _begin(self) -> None:
        """Start afresh: in a forked child there is no thread, and the lock may be held for ever."""
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a waiter's end may come out of any allocation in here
        self._changed = threading.Condition(self._lock)
        self._line: dict[Wait, None] = {}  #: in their order
        self._left: deque[Wait] = deque()  #: who is to leave later
        self._thread: threading.Thread | None = None
        self._away = None
        self._are_ended = False  #: whether most jobs had, when they were looked for last

    def _run_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headrace-looks", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        pause_s = AWAY_FIRST_S
        while waits := self._next():
            self.forget()
            try:
                self._look(waits)
                self._away, pause_s = None, AWAY_FIRST_S
            except BrokerUnavailable as error:
                if error.outlook is Outlook.LASTS or self._broker.events.closed:
                    self._tell_all(waits, error)
                    continue
                self._put_off(waits, error, pause_s)
                time.sleep(pause_s * (0.5 + random.random() / 2))
                pause_s = min(AWAY_LONGEST_S, pause_s * 2)

    def _next(self) -> list[Wait]:
        """Return whom to look for next; waits while there is nobody; empty when the thread should end."""
        with self._lock:
            idle_at_s = time.monotonic() + IDLE_S
            if not self._line:  # whoever was put off has left, and nobody finds out how the server is now
                self._away = None
            while not self._line:
                left_s = idle_at_s - time.monotonic()
                if left_s <= 0 or self._broker.events.closed:
                    self._thread = None
                    return []
                self._changed.wait(left_s)
            waits = [wait for wait, _ in zip(self._line, range(RECORDS_COUNT), strict=False)]
            for wait in waits:
                del self._line[wait]
            return waits

    def _look(self, waits: Sequence[Wait]) -> None:
        """Look for jobs; what goes wrong with one of them, such as a record of another version, is told to that one."""
        try:
            self._look_together(waits)
        except BrokerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting
            if len(waits) > 1:
                for wait in waits:
                    self._look([wait])
            else:
                self._have_untold(waits)
                ours = isinstance(error, HeadraceError)
                waits[0].answer(error=error if ours else _unreadable(waits[0].job_id, error))
                tell(waits)

    def _look_together(self, waits: Sequence[Wait]) -> None:
        # Who reads results behind the workers finds nearly all of them there, and needs neither watch nor second look.
        rest = self._take(waits) if self._are_ended else waits
        count = len(waits) - len(rest)
        if rest:
            count += self._look_and_follow(rest)
        self._are_ended = 2 * count > len(waits)

    def _take(self, waits: Sequence[Wait]) -> list[Wait]:
        """Answer those whose jobs have a record; return the others."""
        records = self._broker.records([wait.job_id for wait in waits])
        found = [wait for wait, record in zip(waits, records, strict=True) if record is not None]
        self._have_untold([wait for wait in found if wait.queue])
        for wait, record in zip(waits, records, strict=True):
            if record is not None:
                wait.answer(record)
        tell(found)
        return [wait for wait, record in zip(waits, records, strict=True) if record is None]

    def _look_and_follow(self, waits: Sequence[Wait]) -> int:
        """Have the watch tell them, then look; return how many records were there."""
        self._name(waits)
        waits = [wait for wait in waits if not wait.done and not wait.has_left]
        self._have_told(waits)
        records, gone = see(self._broker, dict.fromkeys(wait.job_id for wait in waits))
        self._have_untold([wait for wait in waits if wait.job_id in records or wait.job_id in gone])
        for wait in waits:
            error = missing(wait.job_id, existed=gone[wait.job_id]) if wait.job_id in gone else None
            wait.answer(records.get(wait.job_id), error)
        tell(waits)
        if self._broker.events.closed and not all(wait.done for wait in waits):  # else the watch says so, and we look
            raise BrokerUnavailable("the broker was closed by this program while a result was awaited; open it again")
        return len(records)

    def _name(self, waits: Sequence[Wait]) -> None:
        """Give those that were asked for by callers' own ids the ids of their jobs."""
        if ids.are_plain([wait.job_id for wait in waits]):
            return
        others = [wait for wait in waits if ids.parse(wait.job_id) is None]
        if not others:
            return
        views = self._broker.lookup([wait.job_id for wait in others])
        for wait, view in zip(others, views, strict=True):
            if view is None:
                wait.answer(error=missing(wait.job_id, existed=False))
            else:
                wait.job_id = view.id
        tell(wait for wait in others if wait.done)

    def _have_told(self, waits: Sequence[Wait]) -> None:
        """Have the watch tell them from now on: before the look, so that nothing falls in between."""
        new: dict[str, list[Wait]] = {}
        for wait in waits:
            if not wait.queue:
                new.setdefault(wait.job_id.partition(":")[0], []).append(wait)
        self._watch.follow(tuple(new))
        for queue, some in new.items():
            while not self._broker.events.closed and not self._add(queue, some):
                self._watch.follow((queue,))

    def _add(self, queue: str, waits: Sequence[Wait]) -> bool:
        with self._lock:
            start = len(queue) + 1
            here = [wait for wait in waits if not wait.has_left]
            for wait in here:
                wait.rest = wait.job_id[start:].encode()
            if not self._watch.add(queue, here):
                return False
            for wait in here:
                wait.queue = queue
        return True

    def _have_untold(self, waits: Sequence[Wait]) -> None:
        """Have the watch leave them alone."""
        by_queue: dict[str, list[Wait]] = {}
        with self._lock:
            for wait in waits:
                if wait.queue:
                    by_queue.setdefault(wait.queue, []).append(wait)
                    wait.queue = ""
        for queue, some in by_queue.items():
            self._watch.drop(queue, some)

    def _put_off(self, waits: Sequence[Wait], error: BrokerUnavailable, pause_s: float) -> None:
        seldom.warning("server away", retry_in_s=round(pause_s, 2), error=str(error))
        with self._lock:
            self._away = error
            for wait in waits:
                if not wait.has_left:
                    self._line[wait] = None
            unanswered = [wait for wait in self._line if not wait.was_answered]
        for wait in unanswered:
            wait.answer()
        tell(unanswered)

    def _tell_all(self, waits: Sequence[Wait], error: BrokerUnavailable) -> None:
        """Tell of an outage that lasts; to each an error of its own, since they raise it in threads of their own."""
        self._have_untold(waits)
        for wait in waits:
            wait.answer(error=unavailable_again(error))
        tell(waits)


def unavailable_again(error: BrokerUnavailable) -> BrokerUnavailable:
    """Return another error that says the same."""
    return BrokerUnavailable(str(error), outlook=error.outlook)


def _unreadable(job_id: str, error: Exception) -> ResultUnavailable:
    unavailable = ResultUnavailable(f"job {job_id} has ended, but its record cannot be read here: {error}")
    unavailable.__cause__ = error
    return unavailable


def see(views: BrokerViews, job_ids: Iterable[str]) -> tuple[dict[str, ResultRecord], dict[str, bool]]:
    """Return the records of jobs that have ended, and for those that will never have one whether they existed."""
    asked = list(job_ids)
    found = zip(asked, views.records(asked) if asked else (), strict=True)
    records = {job_id: record for job_id, record in found if record is not None}
    rest = [job_id for job_id in asked if job_id not in records]
    ended = [job_id for job_id, is_alive in zip(rest, views.alive(rest), strict=True) if not is_alive]
    gone: dict[str, bool] = {}
    for job_id, view in zip(ended, views.lookup(ended) if ended else (), strict=True):
        if view is not None and view.record is not None:
            records[job_id] = view.record
        elif is_gone(view):
            gone[job_id] = view is not None
    return records, gone


def is_gone(view: JobView | None) -> bool:
    """Return whether no record will ever come."""
    return view is None or (view.record is None and (view.state is None or view.state in ENDED))
