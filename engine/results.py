"""Waiting for results: told by the watch of the process, never by asking again and again.

A wait is handed to the Looks of the broker, which follow the queue, look, and look again when the watch says that there
is cause; here it is only waited for being told, until the deadline. An outage of the server is waited out; one that
lasts until somebody mends something is raised. `Results` is owned by one event loop; `wait_blocking` is for threads.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final

from headrace.jobs.codec import ResultRecord
from headrace.jobs.errors import BrokerUnavailable, WaitTimeout
from headrace.workers import native
from headrace.workers.runners.portal import Portal

from .broker.control import OpenBroker, cancel_one
from .broker.courier import Courier
from .broker.looks import Looks, Wait, looks_of, unavailable_again
from .broker.views import JobView, Progress
from .deadlines import Deadlines

#: How long past its deadline a wait stays for the answer to its first look, so that a wait of no time looks once.
FIRST_LOOK_S: Final = 1.0


class _Sleeper(Wait, kw_only=True, eq=False):
    """A coroutine's wait."""

    place: Any
    is_late: bool = False


class _LoopInbox:
    """Begins and wakes the waits of one loop, those of a round of it together.

    Args:
        put: Takes waits that begin.
    """

    def __init__(self, put: Callable[[list[Wait]], None]) -> None:
        self.parking = native.parking()
        self.deadlines: Deadlines[_Sleeper] = Deadlines(self._be_late)
        self._put = put
        self._portal = Portal.open()
        self._new: list[Wait] = []
        self._told: deque[Sequence[Wait]] = deque()

    def begin(self, wait: Wait) -> None:
        """Have a wait put, with all others that begin before the loop comes round; in the loop."""
        if not self._new:
            self._portal.post(self._put_new)
        self._new.append(wait)

    def hear(self, waits: Sequence[Wait]) -> None:
        """Wake, in the loop, those of these waits that have an end."""
        self._told.append(waits)
        self._portal.post(self._wake_told)

    def _put_new(self) -> None:
        new, self._new = self._new, []
        self._put(new)

    def _wake_told(self) -> None:
        told, wake = self._told, self.parking.wake
        while told:
            for wait in told.popleft():
                # Who was looked for in vain sleeps on, but for those who are late and have only waited for that look.
                if isinstance(wait, _Sleeper) and (wait.done or wait.is_late):
                    wake(wait.place)

    def _be_late(self, wait: _Sleeper) -> None:
        wait.is_late = True
        self.parking.wake(wait.place)


class Results:
    """Waits for the records of jobs.

    Args:
        broker: Whom to ask, and whose watch tells.
        waits: Whether asking may wait for a server.
    """

    def __init__(self, broker: OpenBroker, waits: bool) -> None:
        self._views = broker
        self._looks = looks_of(broker)
        self._courier = Courier(waits)
        self._inbox: _LoopInbox | None = None

    @property
    def looks(self) -> Looks:
        """What looks for jobs."""
        return self._looks

    @property
    def broker(self) -> OpenBroker:
        """Whom to ask."""
        return self._views

    async def record(self, job_id: str, timeout_s: float | None) -> ResultRecord:
        """Return the record once the job has ended; waits through outages of the server.

        Args:
            job_id: The job.
            timeout_s: Seconds to wait; None waits as long as it takes.

        Raises:
            WaitTimeout: the wait ended before the job did; its cause is a BrokerUnavailable where the server was away.
            JobNotFound: there is no such job.
            ResultUnavailable: it ended, and its record is gone.
            BrokerUnavailable: the server refuses us until somebody mends the settings, or the engine was closed.
        """
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = _LoopInbox(self._looks.put)
        parking = inbox.parking
        place = parking.place()
        wait = _Sleeper(job_id, inbox, place=place)
        inbox.begin(wait)
        try:
            if timeout_s is None:
                await parking.park(place)
            elif timeout_s > 0:
                inbox.deadlines.add(wait, timeout_s)
                try:
                    await parking.park(place)
                finally:
                    inbox.deadlines.remove(wait, timeout_s)
            if wait.record is not None:
                return wait.record
            await self._stay_for_the_first_look(wait, inbox)
        except GeneratorExit:  # the coroutine is thrown away, perhaps by the garbage collector
            self._looks.leave_later((wait,))
            raise
        finally:
            if wait.record is None and not wait.has_left:
                self._looks.leave((wait,))
        return end(wait, self._looks, timeout_s)

    async def _stay_for_the_first_look(self, wait: _Sleeper, inbox: _LoopInbox) -> None:
        wait.is_late = True
        if is_unanswered(wait, self._looks):
            wait.place = inbox.parking.place()
            inbox.deadlines.add(wait, FIRST_LOOK_S)
            try:
                await inbox.parking.park(wait.place)
            finally:
                inbox.deadlines.remove(wait, FIRST_LOOK_S)

    async def view(self, job_id: str) -> JobView | None:
        """Return what is known of a job; None when it never was."""
        return (await self._courier.call(self._views.lookup, [job_id]))[0]

    async def progress(self, job_id: str) -> Progress | None:
        """Return how far a job says that it is; None when it said nothing."""
        return (await self._courier.call(self._views.progress, [job_id]))[0]

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; see `cancel_one`."""
        return await self._courier.call(cancel_one, self._views, job_id)


class Bell:
    """Wakes the one thread that waits."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Wake the thread; it sees for itself."""
        self._rung.put(None)

    def hear(self, _: Sequence[Wait]) -> None:
        """Wake the thread; what an inbox does."""
        self._rung.put(None)

    def wait(self, ends_s: float | None) -> bool:
        """Wait to be woken; return False when the time was over before."""
        try:
            self._rung.get(timeout=None if ends_s is None else max(0.0, ends_s - time.monotonic()))
        except Empty:
            return False
        return True


def wait_blocking(broker: OpenBroker, job_id: str, timeout_s: float | None) -> ResultRecord:
    """Do what `Results.record` does, for a thread."""
    looks, bell = looks_of(broker), Bell()
    wait = Wait(job_id, bell)
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    looks.put([wait])
    try:
        while not wait.done and bell.wait(ends_s):
            pass
        last_s = time.monotonic() + FIRST_LOOK_S
        while is_unanswered(wait, looks) and bell.wait(last_s):
            pass
    finally:
        looks.leave((wait,))
    return end(wait, looks, timeout_s)


def is_unanswered(wait: Wait, looks: Looks) -> bool:
    """Return whether the first look for a wait is still to come, and the server not away."""
    return not wait.done and not wait.was_answered and looks.away is None


def end(wait: Wait, looks: Looks, timeout_s: float | None) -> ResultRecord:
    """Return how the job ended, or raise why that is not known."""
    if wait.record is not None:
        return wait.record
    if wait.error is not None:
        raise wait.error
    away = looks.away
    if away is None:
        raise too_long(wait.job_id, timeout_s or 0.0)
    away = unavailable_again(away)
    raise too_long(wait.job_id, timeout_s or 0.0, away) from away


def too_long(job_id: str, waited_s: float, away: BrokerUnavailable | None = None) -> WaitTimeout:
    """Return the error of a wait that ended before the job did, as far as is known."""
    if away is not None:
        return WaitTimeout(
            f"whether job {job_id} has ended is not known after {waited_s:g} s: the server could not be asked; "
            f"only the wait ended: ask again when the server is back ({away})"
        )
    return WaitTimeout(
        f"job {job_id} had not ended after {waited_s:g} s; only the wait ended, the job goes on: ask again, "
        f"wait longer, or see that a worker reads its queue and that nobody paused it (`headrace queues list`)"
    )
