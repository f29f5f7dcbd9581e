"""Waiting for results: told by the watch of the process, never by asking again and again.

A wait is handed to the Looks of the broker, which follow the queue, look, and look again when the watch says that there
is cause; here it is only waited for being told, until the deadline. An outage of the server is waited out; one that
lasts until somebody mends something is raised. `Results` is owned by one event loop; `wait_blocking` is for threads.
"""

import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

import anyio

from headrace.jobs.codec import ResultRecord
from headrace.jobs.errors import BrokerUnavailable, WaitTimeout
from headrace.workers import native
from headrace.workers.runners.portal import Portal

from .broker.control import OpenBroker, cancel_one
from .broker.courier import Courier
from .broker.looks import Looks, Wait, looks_of, unavailable_again
from .broker.views import JobView, Progress

#: How long past its deadline a wait stays for the answer to its first look, so that a wait of no time looks once.
FIRST_LOOK_S: Final = 1.0


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
        self._portal: Portal | None = None
        self._new: list[Wait] = []  #: begun since the loop went round last

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
        if self._portal is None:
            self._portal = Portal.open()
        notices = _Notices()
        wait = Wait(job_id, partial(self._portal.post, notices.note))
        if not self._new:
            self._portal.post(self._put)
        self._new.append(wait)
        try:
            await notices.until(lambda: wait.done, timeout_s)
            if _is_unanswered(wait, self._looks):
                await notices.until(lambda: not _is_unanswered(wait, self._looks), FIRST_LOOK_S)
        finally:
            if wait.record is None:
                self._looks.leave(wait)
        return _end(wait, self._looks, timeout_s)

    def _put(self) -> None:
        """Hand on those who began to wait since the last time, together."""
        new, self._new = self._new, []
        self._looks.put(new)

    async def view(self, job_id: str) -> JobView | None:
        """Return what is known of a job; None when it never was."""
        return (await self._courier.call(self._views.lookup, [job_id]))[0]

    async def progress(self, job_id: str) -> Progress | None:
        """Return how far a job says that it is; None when it said nothing."""
        return (await self._courier.call(self._views.progress, [job_id]))[0]

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; see `cancel_one`."""
        return await self._courier.call(cancel_one, self._views, job_id)


class _Notices:
    """Wakes the one coroutine that waits; in its loop."""

    __slots__ = ("_came", "_event", "_is_late")

    def __init__(self) -> None:
        self._came = self._is_late = False
        self._event: anyio.Event | None = None

    def note(self) -> None:
        self._came = True
        if self._event is not None:
            self._event.set()

    async def until(self, is_over: Callable[[], bool], timeout_s: float | None) -> None:
        """Return once something is over, asked at each notice, or the time is."""
        if timeout_s is None:
            await self._until(is_over)
            return
        self._is_late = False
        call_off = native.call_later(timeout_s, self._be_late)
        if call_off is None:
            with anyio.move_on_after(timeout_s):
                await self._until(is_over)
            return
        try:
            await self._until(is_over)
        finally:
            call_off()

    async def _until(self, is_over: Callable[[], bool]) -> None:
        while not is_over() and not self._is_late:
            if not self._came:
                self._event = anyio.Event()
                await self._event.wait()
            self._came = False

    def _be_late(self) -> None:
        self._is_late = True
        self.note()


def wait_blocking(broker: OpenBroker, job_id: str, timeout_s: float | None) -> ResultRecord:
    """Do what `Results.record` does, for a thread."""
    looks, notices = looks_of(broker), SimpleQueue[None]()
    wait = Wait(job_id, partial(notices.put, None))
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    looks.put([wait])
    try:
        while not wait.done and _waited(notices, ends_s):
            pass
        last_s = time.monotonic() + FIRST_LOOK_S
        while _is_unanswered(wait, looks) and _waited(notices, last_s):
            pass
    finally:
        looks.leave(wait)
    return _end(wait, looks, timeout_s)


def _waited(notices: "SimpleQueue[None]", ends_s: float | None) -> bool:
    """Wait for a notice; return False when the time was over before."""
    try:
        notices.get(timeout=None if ends_s is None else max(0.0, ends_s - time.monotonic()))
    except Empty:
        return False
    return True


def _is_unanswered(wait: Wait, looks: Looks) -> bool:
    return not wait.done and not wait.was_answered and looks.away is None


def _end(wait: Wait, looks: Looks, timeout_s: float | None) -> ResultRecord:
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
