"""Waiting for results: many waiters, one question to the server at a time.

Whoever waits alone asks for all; the pauses between questions rise from FIRST_S to LONGEST_S while nothing comes. Owned
by one event loop; the blocking twin for threads is `wait_blocking`.
"""

import time
from collections.abc import Callable
from typing import Final

import anyio

from headrace.jobs.codec import ResultRecord
from headrace.jobs.errors import WaitTimeout
from headrace.jobs.results import missing
from headrace.jobs.states import ENDED

from .broker.courier import Courier
from .broker.views import BrokerViews, JobView

#: The first question comes this long after the wait began, twice that before the next, and so on.
FIRST_S: Final = 0.001
LONGEST_S: Final = 0.05
#: How often a waiter makes sure that its job still exists.
LOOKUP_EVERY_S: Final = 0.25
#: Ids in one question.
BATCH_COUNT: Final = 500


class _Wait:
    __slots__ = ("error", "event", "looked_up_s", "record")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.record: ResultRecord | None = None
        self.error: Exception | None = None
        self.looked_up_s = 0.0


class Results:
    """Waits for the records of jobs.

    Args:
        views: Whom to ask.
        waits: Whether asking may wait for a server.
    """

    def __init__(self, views: BrokerViews, waits: bool) -> None:
        self._views = views
        self._courier = Courier(waits)
        self._waiting: dict[str, list[_Wait]] = {}
        self._asking = False

    async def record(self, job_id: str, timeout_s: float | None) -> ResultRecord:
        """Return the record once the job has ended.

        Args:
            job_id: The job.
            timeout_s: Seconds to wait; None waits as long as it takes.

        Raises:
            WaitTimeout: the wait ended before the job did.
            JobNotFound: there is no such job.
            ResultUnavailable: it ended, and its record is gone.
        """
        wait = _Wait()
        self._waiting.setdefault(job_id, []).append(wait)
        try:
            with anyio.move_on_after(timeout_s):
                while not wait.record and not wait.error:
                    if self._asking:
                        await wait.event.wait()
                        wait.event = anyio.Event()
                    else:
                        await self._ask_until(wait)
        finally:
            waits = self._waiting[job_id]
            waits.remove(wait)
            if not waits:
                del self._waiting[job_id]
            if not self._asking:  # the one that was to ask next may be the one that leaves
                self._wake_another(wait)
        if wait.error is not None:
            raise wait.error
        if wait.record is None:
            raise too_long(job_id, timeout_s or 0.0)
        return wait.record

    async def view(self, job_id: str) -> JobView | None:
        """Return what is known of a job; None when it never was."""
        return (await self._courier.call(self._views.lookup, [job_id]))[0]

    async def _ask_until(self, mine: _Wait) -> None:
        """Ask for everybody until my own answer is there; then hand the asking on."""
        self._asking = True
        pause_s = FIRST_S
        try:
            while not mine.record and not mine.error:
                ids = list(self._waiting)
                answered = 0
                for start in range(0, len(ids), BATCH_COUNT):
                    answered += await self._ask(ids[start : start + BATCH_COUNT])
                if mine.record or mine.error:
                    return
                pause_s = FIRST_S if answered else min(LONGEST_S, pause_s * 2)
                await anyio.sleep(pause_s)
        finally:
            self._asking = False
            self._wake_another(mine)

    def _wake_another(self, mine: _Wait) -> None:
        """Have one of those who still wait do the asking from now on."""
        others = (wait for waits in self._waiting.values() for wait in waits if wait is not mine)
        for wait in others:
            if not wait.record and not wait.error:
                wait.event.set()
                return

    async def _ask(self, ids: list[str]) -> int:
        records = await self._courier.call(self._views.records, ids)
        answered = 0
        now_s = time.monotonic()
        doubtful = []
        for job_id, record in zip(ids, records, strict=True):
            waits = self._waiting.get(job_id, ())
            if record is not None:
                answered += 1
                for wait in waits:
                    wait.record = record
                    wait.event.set()
            elif any(now_s - wait.looked_up_s > LOOKUP_EVERY_S for wait in waits):
                doubtful.append(job_id)
        if doubtful:
            self._note(doubtful, await self._courier.call(self._views.lookup, doubtful), now_s)
        return answered

    def _note(self, ids: list[str], views: list[JobView | None], now_s: float) -> None:
        for job_id, view in zip(ids, views, strict=True):
            for wait in self._waiting.get(job_id, ()):
                wait.looked_up_s = now_s
                if view is not None and view.record is not None:
                    wait.record = view.record
                elif is_gone(view):
                    wait.error = missing(job_id, existed=view is not None)
                else:
                    continue
                wait.event.set()


def is_gone(view: JobView | None) -> bool:
    """Return whether no record will ever come."""
    return view is None or (view.record is None and (view.state is None or view.state in ENDED))


def too_long(job_id: str, waited_s: float) -> WaitTimeout:
    """Return the error of a wait that ended before the job did."""
    return WaitTimeout(
        f"job {job_id} had not ended after {waited_s:g} s; only the wait ended, the job goes on: ask again, "
        f"wait longer, or see that a worker reads its queue"
    )


def wait_blocking(
    views: BrokerViews, job_id: str, timeout_s: float | None, sleep: Callable[[float], None] = time.sleep
) -> ResultRecord:
    """Do what `Results.record` does, for a thread."""
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s, looked_up_s = FIRST_S, 0.0
    while True:
        record = views.records([job_id])[0]
        now_s = time.monotonic()
        if record is None and now_s - looked_up_s > LOOKUP_EVERY_S:
            looked_up_s = now_s
            view = views.lookup([job_id])[0]
            record = view.record if view is not None else None
            if record is None and is_gone(view):
                raise missing(job_id, existed=view is not None)
        if record is not None:
            return record
        if ends_s is not None and now_s >= ends_s:
            raise too_long(job_id, timeout_s or 0.0)
        sleep(pause_s if ends_s is None else min(pause_s, ends_s - now_s))
        pause_s = min(LONGEST_S, pause_s * 2)
