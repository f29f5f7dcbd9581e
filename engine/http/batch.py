"""Batches: many jobs in one request, submitted while the request is still being read, with bounded memory.

A job that cannot be submitted is reported by its index and stops no other. Past MAX_COUNT jobs, or once the server is
away, the rest is reported and not submitted, so that the answer always says what became of each. One Batch belongs to
one request and owns what it has gathered.
"""

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from headrace.config import limits
from headrace.jobs.errors import BrokerUnavailable, DuplicateJob, HeadraceError, QueueFull

from ..broker.port import Submission
from .gateway import Fleet, Gateway
from .records import BatchReport, JobRequest, Rejection

#: Jobs of one request: their ids are held until the answer is sent, some 100 bytes each.
MAX_COUNT: Final = 100_000
#: Rejections of one request, for the same reason.
MAX_REJECTED_COUNT: Final = 10_000
#: Envelopes that wait for their batch to fill; with many queues each holds a few.
PENDING_MAX_BYTES: Final = 4 * 1024 * 1024

_decode = msgspec.json.Decoder(JobRequest).decode


class Batch:
    """Takes jobs one by one and submits them queue by queue.

    Args:
        gateway: Through which.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._pending: dict[str, list[tuple[int, Submission]]] = {}
        self._pending_bytes = 0
        self._ids: dict[int, str] = {}
        self._rejected: list[Rejection] = []
        self._count = 0
        self._fleet = Fleet()
        self._full: QueueFull | None = None
        self._away: BrokerUnavailable | None = None
        self._closed = False

    async def refresh(self) -> None:
        """Look at what handlers there are; at most once a second does this go to the server."""
        if self._away is None:
            try:
                self._fleet = await self._gateway.fleet()
            except BrokerUnavailable as error:
                self._away = error

    async def add(self, line: bytes | msgspec.Raw) -> None:
        """Take one job as JSON; what is wrong with it goes into the report."""
        index = self._next_index()
        if index is None:
            return
        if self._away is not None:  # each further try may wait until it times out
            self._reject(index, str(self._away))
            return
        try:
            queue, submission = self._gateway.prepare(_decode(line), self._fleet)
        except HeadraceError as error:
            self._reject(index, str(error))
        except (ValueError, RecursionError) as error:
            self._reject(index, shown(error))
        else:
            if submission.unique:
                await self._submit_alone(index, queue, submission)
                return
            waiting = self._pending.setdefault(queue, [])
            waiting.append((index, submission))
            self._pending_bytes += len(submission.body)
            if len(waiting) >= limits.SUBMIT_BATCH_COUNT:
                await self._flush(queue)
            elif self._pending_bytes > PENDING_MAX_BYTES:
                await self._flush_all()

    def reject_next(self, why: str) -> None:
        """Take a job that could not even be read."""
        index = self._next_index()
        if index is not None:
            self._reject(index, why)

    async def finish(self) -> BatchReport:
        """Submit what is left and return what became of each.

        Raises:
            QueueFull: not one job was accepted, since the queue is full.
            BrokerUnavailable: not one job was accepted, since the server is away.
        """
        await self._flush_all()
        refusal = self._away or self._full
        if refusal is not None and not self._ids:
            raise refusal
        ordered = [self._ids[index] for index in sorted(self._ids)]
        return BatchReport(len(ordered), ordered, sorted(self._rejected, key=lambda rejection: rejection.index))

    async def _submit_alone(self, index: int, queue: str, submission: Submission) -> None:
        """Submit a job with a unique key, behind those that came before it; a duplicate is rejected for itself."""
        if queue in self._pending:
            await self._flush(queue)
        try:
            self._ids[index] = await self._gateway.submit_prepared(queue, submission)
        except (BrokerUnavailable, QueueFull, DuplicateJob) as error:
            if isinstance(error, BrokerUnavailable):
                self._away = error
            if isinstance(error, QueueFull):
                self._full = error
            self._reject(index, str(error))

    def _next_index(self) -> int | None:
        """Return the next job's index; None when no more is taken."""
        if self._closed:
            return None
        index = self._count
        self._count += 1
        if index >= MAX_COUNT or len(self._rejected) >= MAX_REJECTED_COUNT:
            self._closed = True
            self._reject(
                index,
                f"a request takes {MAX_COUNT:,} jobs, and {MAX_REJECTED_COUNT:,} that are rejected: neither this one "
                f"nor any after it was submitted; send them in another request",
            )
            return None
        return index

    def _reject(self, index: int, why: str) -> None:
        self._rejected.append(Rejection(index, why))

    async def _flush_all(self) -> None:
        for queue in list(self._pending):
            await self._flush(queue)

    async def _flush(self, queue: str) -> None:
        waiting = self._pending.pop(queue)
        self._pending_bytes -= sum(len(submission.body) for _, submission in waiting)
        ids: list[str] = []
        refusal: HeadraceError | None = self._away
        if refusal is None:
            ids, refusal = await self._gateway.submit_batch(queue, [submission for _, submission in waiting])
            if isinstance(refusal, BrokerUnavailable):
                self._away = refusal
            else:
                self._full = refusal or self._full
        for (index, _), job_id in zip(waiting, ids, strict=False):
            self._ids[index] = job_id
        for index, _ in waiting[len(ids) :]:
            self._reject(index, str(refusal))


async def take_lines(batch: Batch, chunks: AsyncIterator[bytes], line_max_bytes: int) -> None:
    """Feed a batch with the lines of a body that arrives in pieces; blank lines count for nothing.

    Args:
        batch: What is fed.
        chunks: The body's pieces.
        line_max_bytes: A longer line is rejected, and not held in memory.
    """
    rest = bytearray()
    skipping = False
    async for chunk in chunks:
        await batch.refresh()
        *lines, last = chunk.split(b"\n")
        for piece in lines:
            rest += piece
            if skipping:
                skipping = False
            elif len(rest) > line_max_bytes:
                batch.reject_next(_too_long(line_max_bytes))
            elif rest.strip():
                await batch.add(bytes(rest))
            rest.clear()
        rest += last
        if not skipping and len(rest) > line_max_bytes:
            batch.reject_next(_too_long(line_max_bytes))
            skipping = True
        if skipping:
            rest.clear()
    if rest.strip() and not skipping:
        await batch.add(bytes(rest))


async def take_array(batch: Batch, body: bytes) -> None:
    """Feed a batch with the items of a JSON array.

    Raises:
        ValueError: it is no JSON array.
        RecursionError: it is nested too deeply.
    """
    items = msgspec.json.decode(body, type=list[msgspec.Raw])
    await batch.refresh()
    for item in items:
        await batch.add(item)


def shown(error: Exception) -> str:
    """Return what is wrong with a JSON document, in one line."""
    return "the JSON is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _too_long(line_max_bytes: int) -> str:
    return f"the line has more than {line_max_bytes:,} bytes, which is max_payload; send where the data is instead"
