"""Waiting for results: told by the watch of the process, never by asking again and again.

Follow the queue, look once, then wait to be told; a look every SAFETY_S makes up for what no event tells, such as a
server that lost its memory. Looks of many waiters travel together. Owned by one event loop; the blocking twin for
threads is `wait_blocking`, and both share the watch.
"""

import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

import anyio

from headrace.jobs import ids
from headrace.jobs.codec import ResultRecord
from headrace.jobs.errors import BrokerUnavailable, WaitTimeout
from headrace.jobs.results import missing
from headrace.jobs.states import ENDED
from headrace.workers.runners.portal import Portal

from .broker.control import OpenBroker, cancel_one
from .broker.courier import Courier
from .broker.views import BrokerViews, JobView, Progress
from .broker.watch import watch_of

#: How often a waiter looks although nothing was told.
SAFETY_S: Final = 3.0
#: Ids in one look.
BATCH_COUNT: Final = 500


class _Wait:
    """Somebody who waits for one job."""

    __slots__ = ("error", "event", "in_line", "job_id", "look_at_s", "record")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.event = anyio.Event()
        self.record: ResultRecord | None = None
        self.error: Exception | None = None
        self.look_at_s = 0.0
        self.in_line = False

    @property
    def done(self) -> bool:
        return self.record is not None or self.error is not None

    def tell(self, record: ResultRecord | None) -> None:
        """Take the record; without one, look at once for what became of the job."""
        if record is not None:
            self.record = record
        else:
            self.look_at_s = 0.0
        self.event.set()


class Results:
    """Waits for the records of jobs.

    Args:
        broker: Whom to ask, and whose watch tells.
        waits: Whether asking may wait for a server.
    """

    def __init__(self, broker: OpenBroker, waits: bool) -> None:
        self._views = broker
        self._watch = watch_of(broker)
        self._courier = Courier(waits)
        self._portal: Portal | None = None
        self._to_look: deque[_Wait] = deque()
        self._looking = False

    @property
    def broker(self) -> OpenBroker:
        """Whom to ask."""
        return self._views

    async def record(self, job_id: str, timeout_s: float | None) -> ResultRecord:
        """Return the record once the job has ended.

        Args:
            job_id: The job.
            timeout_s: Seconds to wait; None waits as long as it takes.

        Raises:
            WaitTimeout: the wait ended before the job did.
            JobNotFound: there is no such job.
            ResultUnavailable: it ended, and its record is gone.
            BrokerUnavailable: the server is away.
        """
        parts = ids.parse(job_id) or _named(job_id, await self.view(job_id))
        job_id = f"{parts.queue}:{parts.entry}"
        wait, rest = _Wait(job_id), parts.entry.encode()
        if self._portal is None:
            self._portal = Portal.open()
        tell = partial(_post, self._portal, wait)
        queues = (parts.queue,)
        with anyio.move_on_after(timeout_s):
            if not self._watch.follows(queues):
                await self._courier.call(self._watch.follow, queues)
            self._watch.add(parts.queue, rest, tell)
            try:
                await self._until_done(wait)
            finally:
                self._watch.drop(parts.queue, rest, tell)
        if wait.error is not None:
            raise wait.error
        if wait.record is None:
            raise too_long(job_id, timeout_s or 0.0)
        return wait.record

    async def view(self, job_id: str) -> JobView | None:
        """Return what is known of a job; None when it never was."""
        return (await self._courier.call(self._views.lookup, [job_id]))[0]

    async def progress(self, job_id: str) -> Progress | None:
        """Return how far a job says that it is; None when it said nothing."""
        return (await self._courier.call(self._views.progress, [job_id]))[0]

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; see `cancel_one`."""
        return await self._courier.call(cancel_one, self._views, job_id)

    async def _until_done(self, wait: _Wait) -> None:
        while not wait.done:
            left_s = wait.look_at_s - time.monotonic()
            if left_s <= 0:
                await self._look(wait)
                continue
            with anyio.move_on_after(left_s):
                await wait.event.wait()
            wait.event = anyio.Event()

    async def _look(self, wait: _Wait) -> None:
        """Look for this job, and for those of others who want to look now: whoever comes first looks for all."""
        self._to_look.append(wait)
        wait.in_line = True
        try:
            while wait.in_line:
                if self._looking:
                    await wait.event.wait()
                    wait.event = anyio.Event()
                else:
                    await self._look_for_all()
        finally:
            if wait.in_line:
                self._to_look.remove(wait)
            if self._to_look and not self._looking:
                self._to_look[0].event.set()

    async def _look_for_all(self) -> None:
        waits = [self._to_look.popleft() for _ in range(min(BATCH_COUNT, len(self._to_look)))]
        self._looking = True
        for wait in waits:
            wait.in_line = False
        try:
            with anyio.CancelScope(shield=True):  # others ride along: one who gives up must not stop them
                await self._ask([wait for wait in waits if not wait.done])
        except BrokerUnavailable as error:
            for wait in waits:
                wait.error = error
        finally:
            self._looking = False
            for wait in waits:
                wait.event.set()

    async def _ask(self, waits: list[_Wait]) -> None:
        look_at_s = time.monotonic() + SAFETY_S
        for wait in waits:
            wait.look_at_s = look_at_s  # before the question: what is told meanwhile may want another look
        seen = await self._courier.call(_see, self._views, [wait.job_id for wait in waits])
        for wait in waits:
            record, error = seen[wait.job_id]
            if wait.record is None:
                wait.record, wait.error = record, error


def _see(views: BrokerViews, job_ids: Iterable[str]) -> dict[str, tuple[ResultRecord | None, Exception | None]]:
    """Return for each job its record, or why there will be none, or neither while it has not ended."""
    each = list(dict.fromkeys(job_ids))
    seen: dict[str, tuple[ResultRecord | None, Exception | None]] = {
        job_id: (record, None) for job_id, record in zip(each, views.records(each), strict=True)
    }
    doubtful = [job_id for job_id, (record, _) in seen.items() if record is None]
    for job_id, view in zip(doubtful, views.lookup(doubtful) if doubtful else (), strict=True):
        if view is not None and view.record is not None:
            seen[job_id] = (view.record, None)
        elif is_gone(view):
            seen[job_id] = (None, missing(job_id, existed=view is not None))
    return seen


def _post(portal: Portal, wait: _Wait, record: ResultRecord | None) -> None:
    portal.post(partial(wait.tell, record))


def is_gone(view: JobView | None) -> bool:
    """Return whether no record will ever come."""
    return view is None or (view.record is None and (view.state is None or view.state in ENDED))


def too_long(job_id: str, waited_s: float) -> WaitTimeout:
    """Return the error of a wait that ended before the job did."""
    return WaitTimeout(
        f"job {job_id} had not ended after {waited_s:g} s; only the wait ended, the job goes on: ask again, "
        f"wait longer, or see that a worker reads its queue"
    )


def _named(caller_id: str, view: JobView | None) -> ids.JobId:
    """Return the id of the job that its caller knows by another one; raises JobNotFound where there is none."""
    parts = ids.parse(view.id) if view is not None else None
    if parts is None:
        raise missing(caller_id, existed=False)
    return parts


def wait_blocking(broker: OpenBroker, job_id: str, timeout_s: float | None) -> ResultRecord:
    """Do what `Results.record` does, for a thread."""
    parts, watch = ids.parse(job_id) or _named(job_id, broker.lookup([job_id])[0]), watch_of(broker)
    job_id = f"{parts.queue}:{parts.entry}"
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    rest, told = parts.entry.encode(), SimpleQueue[ResultRecord | None]()
    watch.follow((parts.queue,))
    watch.add(parts.queue, rest, told.put)
    try:
        while True:
            record, error = _see(broker, (job_id,))[job_id]
            if error is not None:
                raise error
            left_s = SAFETY_S if ends_s is None else min(SAFETY_S, ends_s - time.monotonic())
            if record is None and left_s > 0:
                with suppress(Empty):
                    record = told.get(timeout=left_s)
            if record is not None:
                return record
            if left_s <= 0:
                raise too_long(job_id, timeout_s or 0.0)
    finally:
        watch.drop(parts.queue, rest, told.put)
