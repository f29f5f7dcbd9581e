"""The client: submits jobs and reads what became of them, from an event loop.

It promises that a returned id stands for a job that the server holds, and that a submission which is sent twice because
a reply was lost adds one job. Single submissions that come while one is on its way travel together in the next round
trip, see carrier.py. Owned by one event loop.
"""

import contextlib
import random
import secrets
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final

import anyio
import anyio.lowlevel

from headrace.config import limits
from headrace.jobs.errors import QueueFull
from headrace.jobs.submission import SubmitOptions
from headrace.workers.runners.portal import Portal

from .broker.courier import Courier
from .broker.port import Bound, Broker, Submission
from .carrier import Carrier
from .ferry import Crossing, Ferry
from .packing import duplicate
from .waiting import backoffs_s

#: A batch of so many takes longer to pack and to send than a thread takes to start.
FERRY_FROM_COUNT: Final = 100
#: A batch under way.
Sent = Crossing[list[str]]


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
        self._carrier: Carrier | None = None
        self.refused_count = 0

    async def submit(self, queue: str, submission: Submission, options: SubmitOptions) -> str:
        """Submit one job and return its id.

        Raises:
            DuplicateJob: another job has its id or unique key, and the submission does not ask for that one.
            QueueFull: the queue is at its bound, and stayed there for as long as `options` says to wait.
            BrokerUnavailable: the server is away.
        """
        if (options.on_full or self._on_full) == "reject":
            return str(await self.submit_or_find(queue, submission))
        for pause_s in backoffs_s(options.wait_timeout_s, random.random):
            try:
                return str(await self.submit_or_find(queue, submission))
            except QueueFull as error:
                if pause_s is None:
                    raise waited_too_long(error, options.wait_timeout_s) from None
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
        with contextlib.closing(self._under_way(queue, jobs)) as crossings:
            for batch, token, crossing in crossings:
                ids += refuse_duplicates(batch, await self._publish_patiently(queue, batch, token, options, crossing))
        return ids

    def _under_way(
        self, queue: str, jobs: Iterable[Submission]
    ) -> Generator[tuple[list[Submission], str, Sent | None]]:
        """Yield each batch and its token; where it is worth a thread, the next is packed while it is on its way."""
        coming = batches(jobs, self._bound)
        batch, ferry = next(coming, []), None
        try:
            while batch:
                token = new_token()
                if ferry is None and len(batch) >= FERRY_FROM_COUNT and self._broker.waits:
                    ferry = Ferry(Portal.open())
                if ferry is None:
                    yield batch, token, None
                    batch = next(coming, [])
                else:
                    crossing = ferry.send(self._broker.publish, queue, batch, token, self._bound)
                    following = _next_or_error(coming)
                    yield batch, token, crossing
                    if isinstance(following, Exception):
                        raise following  # only now: what comes before it is submitted
                    batch = following
        finally:
            if ferry is not None:
                ferry.close()

    async def _publish_patiently(
        self, queue: str, batch: Sequence[Submission], token: str, options: SubmitOptions, crossing: Sent | None
    ) -> list[str]:
        """Publish a batch that may be under way, and again while the queue is full."""
        for pause_s in backoffs_s(options.wait_timeout_s, random.random):
            try:
                if crossing is not None:
                    under_way, crossing = crossing, None
                    return await under_way.wait()
                return await self._courier.call(self._broker.publish, queue, batch, token, self._bound)
            except QueueFull as error:
                self.refused_count += len(batch)
                if options.on_full == "reject":
                    raise
                if pause_s is None:
                    raise waited_too_long(error, options.wait_timeout_s) from None
                await anyio.sleep(pause_s)
        raise AssertionError("backoffs_s ends with None")

    def close(self) -> None:
        """Let go of the carrier's thread; what is on its way arrives."""
        if self._carrier is not None:
            self._carrier.close()
            self._carrier = None

    async def submit_or_find(self, queue: str, submission: Submission) -> str:
        """Submit one job and return its id; a FirstId where an earlier job stands for it, as the submission asks.

        Raises:
            DuplicateJob: as for `submit`.
            QueueFull: the queue is at its bound.
            BrokerUnavailable: the server is away.
        """
        try:
            job_id = await self._carried(queue, submission)
        except QueueFull:
            self.refused_count += 1
            raise
        error = duplicate(submission, job_id)
        if error is not None:
            raise error
        return job_id

    async def _carried(self, queue: str, submission: Submission) -> str:
        if not self._broker.waits:
            await anyio.lowlevel.checkpoint()
            return self._publish(queue, [submission])[0]
        if self._carrier is None:
            self._carrier = Carrier(self._publish, Portal.open())
        return await self._carrier.carry(queue, submission)

    def _publish(self, queue: str, jobs: Sequence[Submission]) -> list[str]:
        return self._broker.publish(queue, jobs, new_token(), self._bound)


def _next_or_error(coming: Iterator[list[Submission]]) -> list[Submission] | Exception:
    try:
        return next(coming, [])
    except Exception as error:  # noqa: BLE001 - raised by whoever asked, when its turn comes
        return error


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
    if {str}.issuperset(map(type, ids)):
        return ids
    for job, job_id in zip(jobs, ids, strict=True):
        if (error := duplicate(job, job_id)) is not None:
            raise error
    return [str(job_id) for job_id in ids]


def new_token() -> str:
    """Return a token for one batch; random, so that no two producers ever share one."""
    return f"{time.time_ns():x}{secrets.token_hex(8)}"


def waited_too_long(error: QueueFull, waited_s: float) -> QueueFull:
    """Return the error of a wait for room that ended before there was any."""
    return QueueFull(
        f"waited {waited_s:g} s for room: {error}", queue=error.queue, depth=error.depth, bound=error.bound,
        reason=error.reason, drain_s=error.drain_s,
    )  # fmt: skip
