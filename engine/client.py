"""The client: submits jobs and reads what became of them, from an event loop.

It promises that a returned id stands for a job that the server holds, and that a submission which is sent twice because
a reply was lost adds one job. Single submissions that come while one is on its way travel together in the next round
trip: whoever comes first carries the others, so no background work is needed. Owned by one event loop.
"""

import random
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import anyio
import anyio.lowlevel

from headrace.config import limits
from headrace.jobs.errors import HeadraceError, QueueFull
from headrace.jobs.submission import SubmitOptions

from .broker.courier import Courier
from .broker.port import Bound, Broker, Submission
from .packing import duplicate
from .waiting import backoffs_s


class _Passenger:
    """A submission that waits for its id."""

    __slots__ = ("error", "event", "job_id", "leads", "submission")

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.job_id: str | None = None
        self.error: Exception | None = None
        self.leads = False
        self.event: anyio.Event | None = None

    @property
    def done(self) -> bool:
        return self.job_id is not None or self.error is not None

    def wake(self) -> None:
        if self.event is not None:
            self.event.set()


class _Lane:
    """What waits for one queue."""

    __slots__ = ("flying", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Passenger] = deque()
        self.flying = False


class Client:
    """Submits jobs.

    Args:
        broker: Where to.
        bound: How full a queue may become.
        on_full: What to do at the bound when the submission does not say: "reject" or "wait".
    """

    def __init__(self, broker: Broker, bound: Bound, on_full: str = "reject") -> None:
        self._broker = broker
        self._bound = bound
        self._on_full = on_full
        self._courier = Courier(broker.waits, threads=4)
        self._lanes: dict[str, _Lane] = {}
        self.refused_count = 0

    async def submit(self, queue: str, submission: Submission, options: SubmitOptions) -> str:
        """Submit one job and return its id.

        Raises:
            DuplicateJob: another job has its id or unique key, and the submission does not ask for that one.
            QueueFull: the queue is at its bound, and stayed there for as long as `options` says to wait.
            BrokerUnavailable: the server is away.
        """
        if (options.on_full or self._on_full) == "reject":
            return await self._ride(queue, submission)
        for pause_s in backoffs_s(options.wait_timeout_s, random.random):
            try:
                return await self._ride(queue, submission)
            except QueueFull as error:
                if pause_s is None:
                    raise _waited_too_long(error, options.wait_timeout_s) from None
                await anyio.sleep(pause_s)
        raise AssertionError("backoffs_s ends with None")

    async def submit_many(self, queue: str, jobs: Iterable[Submission], options: SubmitOptions) -> list[str]:
        """Submit jobs in batches of bounded size and return their ids in order; waits while the queue is full.

        Raises:
            DuplicateJob: another job has the unique key of one; those before and some behind it were submitted.
            QueueFull: the queue stayed at its bound; the jobs before were submitted.
            BrokerUnavailable: the server is away; the same.
        """
        ids: list[str] = []
        for batch in batches(jobs, self._bound):
            ids += refuse_duplicates(batch, await self._publish_patiently(queue, batch, options))
        return ids

    async def _publish_patiently(self, queue: str, batch: Sequence[Submission], options: SubmitOptions) -> list[str]:
        token = new_token()
        for pause_s in backoffs_s(options.wait_timeout_s, random.random):
            try:
                return await self._courier.call(self._broker.publish, queue, batch, token, self._bound)
            except QueueFull as error:
                self.refused_count += len(batch)
                if options.on_full == "reject":
                    raise
                if pause_s is None:
                    raise _waited_too_long(error, options.wait_timeout_s) from None
                await anyio.sleep(pause_s)
        raise AssertionError("backoffs_s ends with None")

    async def _ride(self, queue: str, submission: Submission) -> str:
        lane = self._lanes.get(queue)
        if lane is None:
            lane = self._lanes[queue] = _Lane()
        me = _Passenger(submission)
        lane.waiting.append(me)
        try:
            while not me.done:
                if not lane.flying:
                    await self._fly(queue, lane)
                    continue
                me.event = anyio.Event()
                await me.event.wait()
        except BaseException:
            if me in lane.waiting:  # cancelled before it left: nobody may think that it was submitted
                lane.waiting.remove(me)
            self._pass_on(lane)
            raise
        if me.error is not None:
            raise me.error
        assert me.job_id is not None
        return me.job_id

    async def _fly(self, queue: str, lane: _Lane) -> None:
        """Carry what waits, one batch of it."""
        lane.flying = True
        if len(lane.waiting) == 1:
            # Others that are about to submit in this turn of the loop come along; costs a lone job some 10 us.
            await anyio.lowlevel.checkpoint()
        batch: list[_Passenger] = []
        size_bytes = 0
        while lane.waiting and len(batch) < limits.SUBMIT_BATCH_COUNT and size_bytes < limits.SUBMIT_BATCH_BYTES:
            batch.append(lane.waiting.popleft())
            size_bytes += len(batch[-1].submission.body)
        try:
            with anyio.CancelScope(shield=True):
                await self._carry(queue, batch)
        finally:
            lane.flying = False
            for passenger in batch:
                passenger.wake()
            self._pass_on(lane)

    async def _carry(self, queue: str, batch: Sequence[_Passenger]) -> None:
        jobs = [passenger.submission for passenger in batch]
        try:
            ids = await self._courier.call(self._broker.publish, queue, jobs, new_token(), self._bound)
        except QueueFull as error:
            if len(batch) == 1:
                self.refused_count += 1
                batch[0].error = error
                return
            # There may be room for some: each tries alone, in order, and the first refusal stands for those behind.
            for position, passenger in enumerate(batch):
                await self._carry(queue, [passenger])
                if passenger.error is not None:
                    for other in batch[position + 1 :]:
                        other.error = error
                    self.refused_count += len(batch) - position - 1
                    return
        except HeadraceError as error:
            for passenger in batch:
                passenger.error = error
        else:
            for passenger, job_id in zip(batch, ids, strict=True):
                passenger.error = duplicate(passenger.submission, job_id)
                passenger.job_id = str(job_id)

    def _pass_on(self, lane: _Lane) -> None:
        """Wake the next in line to carry the rest."""
        if lane.waiting and not lane.flying:
            lane.waiting[0].wake()


def batches(jobs: Iterable[Submission], bound: Bound) -> Iterator[list[Submission]]:
    """Yield jobs in batches that a queue can take whole, since it takes a batch whole or not at all.

    Args:
        jobs: Read no further than the batch at hand, so that memory is bounded however many there are.
        bound: The queue's.
    """
    count_max = min(limits.SUBMIT_BATCH_COUNT, max(1, bound.length // 4)) if bound.length else limits.SUBMIT_BATCH_COUNT
    most_bytes = limits.SUBMIT_BATCH_BYTES
    if bound.size_bytes:
        most_bytes = min(most_bytes, bound.size_bytes // 4)
    batch: list[Submission] = []
    size_bytes = 0
    for job in jobs:
        batch.append(job)
        size_bytes += len(job.body)
        if len(batch) >= count_max or size_bytes >= most_bytes:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def refuse_duplicates(jobs: Sequence[Submission], ids: list[str]) -> list[str]:
    """Return the ids of a batch; raises DuplicateJob for the first that another job's key kept out."""
    for job, job_id in zip(jobs, ids, strict=True):
        if (error := duplicate(job, job_id)) is not None:
            raise error
    return [str(job_id) for job_id in ids]


def new_token() -> str:
    """Return a token for one batch; random, so that no two producers ever share one."""
    return f"{time.time_ns():x}{secrets.token_hex(8)}"


def _waited_too_long(error: QueueFull, waited_s: float) -> QueueFull:
    return QueueFull(
        f"waited {waited_s:g} s for room: {error}", queue=error.queue, depth=error.depth, bound=error.bound,
        reason=error.reason, drain_s=error.drain_s,
    )  # fmt: skip
