"""Batches: many jobs in one request, submitted while the request is still being read, with bounded memory.

Jobs gather to a part, and while a part is on its way the next is read; what becomes of each goes into the report, in
their order. A job that cannot be submitted stops no other. A full queue is waited for, and as hardly anything is read
meanwhile the client waits too; once that took too long, or once the server or the client is away, the rest is rejected,
so that the answer always says what became of each. One Batch belongs to one request and owns what it has gathered.
"""

import random
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, cast

import anyio

from headrace.config import limits
from headrace.jobs.errors import BrokerUnavailable, HeadraceError, QueueFull
from headrace.workers.runners.portal import Portal

from ..broker.port import Submission
from ..client import FERRY_FROM_COUNT
from ..ferry import Crossing, Ferry
from ..waiting import backoffs_s
from .bodies import shown
from .gateway import Fleet, Gateway
from .parts import Fate
from .report import Report
from .streams import Reader, Unreadable

#: What waits for its part to fill; with many queues each holds a few.
PENDING_MAX_BYTES: Final = 4 * 1024 * 1024
#: What a pending job takes beside its envelope, in records, names and numbers; an envelope may have ten bytes.
PENDING_JOB_BYTES: Final = 400
#: How long a full queue is waited for, unless the request says otherwise; as submit_many and --batch do.
WAIT_S: Final = limits.WAIT_TIMEOUT_S


class Pending(NamedTuple):
    """A job that is to be submitted, by its place in the request."""

    place: int
    queue: str
    submission: Submission


class Batch:
    """Takes jobs one by one and submits them part by part.

    Args:
        gateway: Through which.
        key: The request's idempotency key; empty for none.
        wait_s: Seconds to wait for room in a full queue.
        watch: Called when it waits; returns the event by which the client goes away.
    """

    def __init__(
        self,
        gateway: Gateway,
        key: str = "",
        wait_s: float = WAIT_S,
        watch: Callable[[], anyio.Event] = anyio.Event,
    ) -> None:
        self.report = Report()
        self._gateway = gateway
        self._key = key
        self._wait_s = wait_s
        self._watch = watch
        self._fleet = Fleet()
        self._count = 0
        self._bad: list[tuple[int, str, HeadraceError | None]] = []
        self._part: list[Pending] = []
        self._part_bytes = 0
        self._by_queue: dict[str, int] = {}
        self._most = 0  # of one queue's
        self._ferry: Ferry | None = None
        self._under_way: tuple[list[Pending], Crossing[list[Fate]]] | None = None
        self._refusal: QueueFull | BrokerUnavailable | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ferry is not None:
            self._ferry.close()
        if error is not None:
            self.report.close()

    async def take(self, reader: Reader, pieces: AsyncIterator[bytes]) -> None:
        """Submit the jobs of a body.

        Raises:
            ValueError: what follows cannot be read; all before it was taken.
        """
        async for piece in pieces:
            await self._refresh()
            for item in reader.feed(piece):
                self._add(reader, item)
                if self._is_due:
                    await self._send()
        await self._refresh()
        for item in reader.end():
            self._add(reader, item)

    async def finish(self) -> Report:
        """Submit what is left and return what became of each; the report is the caller's now.

        Raises:
            QueueFull: not one job was accepted, since the queue is full.
            BrokerUnavailable: not one job was accepted, since the server is away.
        """
        await self._send()
        await self._settle()
        if self._refusal is not None and not self.report.accepted:
            raise self._refusal
        return self.report

    @property
    def has_sent(self) -> bool:
        """Whether jobs were sent to the server already."""
        return self._under_way is not None or bool(self.report.accepted or self.report.rejected_count)

    @property
    def _is_due(self) -> bool:
        return (
            self._most >= limits.SUBMIT_BATCH_COUNT
            or self._part_bytes > PENDING_MAX_BYTES
            or len(self._bad) >= limits.SUBMIT_BATCH_COUNT
        )

    async def _refresh(self) -> None:
        """Look at what handlers there are; at most once a second does this go to the server."""
        if not isinstance(self._refusal, BrokerUnavailable):
            try:
                self._fleet = await self._gateway.fleet()
            except BrokerUnavailable as error:
                self._refusal = error

    def _add(self, reader: Reader, item: Any) -> None:
        index, self._count = self._count, self._count + 1
        if isinstance(self._refusal, BrokerUnavailable):  # each further try may wait until it times out
            self._bad.append((index, str(self._refusal), self._refusal))
            return
        if isinstance(item, Unreadable):
            self._bad.append((index, item.why, None))
            return
        caller_id = f"http-batch:{self._key}:{index}" if self._key else ""
        try:
            queue, submission = self._gateway.prepare(reader.decode(item), self._fleet, caller_id)
        except HeadraceError as error:
            self._bad.append((index, str(error), error))
        except (ValueError, RecursionError) as error:
            self._bad.append((index, shown(error), None))
        else:
            self._part.append(Pending(index, queue, submission))
            self._part_bytes += len(submission.body) + PENDING_JOB_BYTES
            count = self._by_queue[queue] = self._by_queue.get(queue, 0) + 1
            self._most = max(self._most, count)

    async def _send(self) -> None:
        """Have the part that has gathered sent, once the one before it has arrived."""
        await self._settle()
        for index, why, error in self._bad:
            self.report.reject(index, why, error)
        self._bad.clear()
        if not self._part:
            return
        part, self._part, self._part_bytes, self._most = self._part, [], 0, 0
        self._by_queue.clear()
        jobs = [(each.queue, each.submission) for each in part]
        if self._ferry is None and self._gateway.waits and len(part) >= FERRY_FROM_COUNT:
            self._ferry = Ferry(Portal.open())
        if self._ferry is not None:
            self._under_way = part, self._ferry.send(self._gateway.publish_part, jobs)
        else:
            await self._note(part, await self._gateway.submit_part(jobs))

    async def _settle(self) -> None:
        if self._under_way is not None:
            part, crossing = self._under_way
            self._under_way = None
            await self._note(part, await crossing.wait())

    async def _note(self, part: list[Pending], fates: list[Fate]) -> None:
        """Put into the report what became of a part, after waiting for room for what found none."""
        if set(map(type, fates)) == {str}:
            self.report.accept(cast(list[str], fates))
            return
        fates = await self._wait_for_room(part, fates)
        self.report.accept([fate for fate in fates if isinstance(fate, str)])
        for pending, fate in zip(part, fates, strict=True):
            if not isinstance(fate, str):
                if isinstance(fate, QueueFull | BrokerUnavailable):
                    self._refusal = fate
                self.report.reject(pending.place, str(fate), fate)

    async def _wait_for_room(self, part: list[Pending], fates: list[Fate]) -> list[Fate]:
        """Send again what found its queue full, as long as the request wants to wait since there was any room.

        Where its client has gone nobody would be told of what is added later, so the waiting ends.
        """
        pauses = backoffs_s(self._wait_s, random.random)
        while full := [place for place, fate in enumerate(fates) if isinstance(fate, QueueFull)]:
            pause_s = next(pauses)
            if pause_s is None or not await self._gateway.linger(pause_s, self._watch()):
                self._wait_s = 0.0  # those behind are tried, and not waited for again
                break
            again = await self._gateway.submit_part([(part[place].queue, part[place].submission) for place in full])
            for place, fate in zip(full, again, strict=True):
                fates[place] = fate
            if any(not isinstance(fate, QueueFull) for fate in again):
                pauses = backoffs_s(self._wait_s, random.random)
        return fates
