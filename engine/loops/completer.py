"""The completer: takes outcomes from the outbox and hands them to the sinks, a batch at a time.

It promises that each outcome reaches every sink once and in order, that nothing waits in vain for company, and that a
sink which does not keep up makes the slots wait. A sink that fails is written to no more: the others still get their
outcomes, and its error is raised. It decides nothing about a job: the broker sink's policy does.
"""

import math
import time
from collections.abc import Callable, Sequence

import anyio
import msgspec

from headrace.config import limits
from headrace.config.logs import logger
from headrace.jobs.batch import BatchRule
from headrace.jobs.outcome import Outcome
from headrace.workers.outbox import Outbox

from ..sinks.port import Sink

log = logger("headrace.completer")

#: 256 outcomes or 2 ms make a round trip worth its while: at 100,000 jobs/s both are reached together.
RULE = BatchRule(count=256, age_s=0.002, count_max=limits.SETTLE_BATCH_MAX_COUNT)


class Completer:
    """Moves outcomes from one outbox to its sinks.

    Args:
        outbox: Where slots leave outcomes.
        sinks: Where they go, in this order.
        is_idle: Whether no further outcome is coming soon.
        on_batch: Called with each batch before the sinks are; fills tickets, counts.
    """

    def __init__(
        self,
        outbox: Outbox,
        sinks: Sequence[Sink],
        *,
        is_idle: Callable[[], bool],
        on_batch: Callable[[Sequence[Outcome]], None] | None = None,
    ) -> None:
        self._outbox = outbox
        self._sinks = tuple(sinks)
        self._is_idle = is_idle
        self._on_batch = on_batch
        # A small outbox is full before the usual batch is: then nobody is left to wait for.
        self._rule = msgspec.structs.replace(RULE, count=min(RULE.count, outbox.count_due))
        self._settled: list[anyio.Event] = []
        self._hurry_s: float | None = None
        self._deadlines: dict[str, float] = {}
        self._writing: tuple[Sink, anyio.CancelScope] | None = None
        self._unwritten: dict[str, int] = {}

    @property
    def pending(self) -> int:
        """Outcomes that have not reached every sink."""
        return len(self._outbox) + self._outbox.in_hand

    async def run(self) -> None:
        """Complete until cancelled; outcomes still in the outbox then are left to `finish`.

        Raises:
            Exception: what a sink raised; a group when several did.
        """
        outbox = self._outbox
        while True:
            if not outbox.items:
                await outbox.wait_any()
            if not self._is_idle():
                wait_s = self._rule.wait_s(len(outbox), time.monotonic() - outbox.first_at_s, idle=False)
                if wait_s:
                    await outbox.wait_due(wait_s)
            _raise_all(await self._complete(outbox.take(self._rule.count_max)))

    def hurry(self, timeout_s: float) -> None:
        """Give each sink this long for all that is left, the write under way included."""
        if self._hurry_s is None:
            self._hurry_s = timeout_s
            if self._writing is not None:
                sink, scope = self._writing
                scope.deadline = self._deadline_of(sink)

    async def finish(self) -> None:
        """Complete what is in the outbox, at once; for closing, when `run` has ended.

        Raises:
            Exception: what a sink raised; TimeoutError when it took longer than `hurry` allows. A group for several.
        """
        errors: list[Exception] = []
        while self._outbox.items:
            errors += await self._complete(self._outbox.take(self._rule.count_max))
        for name, count in self._unwritten.items():
            log.error("outcomes not written", sink=name, outcomes=count, why="the sink had failed")
        _raise_all(errors)

    async def wait_empty(self) -> None:
        """Return once every outcome put so far has reached every sink."""
        while self.pending:
            event = anyio.Event()
            self._settled.append(event)
            await event.wait()

    async def _complete(self, batch: list[Outcome]) -> list[Exception]:
        """Hand a batch to everyone; return what sinks raised that had not failed before."""
        errors: list[Exception] = []
        # Shielded: a batch that was taken has no other place to be; cancelled half-way it would be lost to some sinks.
        with anyio.CancelScope(shield=True):
            if self._on_batch is not None:
                self._on_batch(batch)
            for sink in self._sinks:
                if sink.name in self._unwritten:
                    self._unwritten[sink.name] += len(batch)
                elif (error := await self._write(sink, batch)) is not None:
                    self._unwritten[sink.name] = len(batch)
                    errors.append(error)
            self._outbox.written()
        if not self._outbox.items and self._settled:
            for event in self._settled:
                event.set()
            self._settled.clear()
        return errors

    async def _write(self, sink: Sink, batch: list[Outcome]) -> Exception | None:
        with anyio.CancelScope(deadline=self._deadline_of(sink)) as scope:
            self._writing = sink, scope
            try:
                await sink.write(batch)
            except Exception as error:  # noqa: BLE001 - raised by the caller, when the other sinks have the batch too
                return error
            finally:
                self._writing = None
        if scope.cancelled_caught:
            return TimeoutError(
                f"sink {sink.name} did not take its last outcomes within {self._hurry_s} s of the stop; see what it "
                f"writes to, for {len(batch)} outcomes or more are not there"
            )
        return None

    def _deadline_of(self, sink: Sink) -> float:
        """Return until when a sink may write, by the loop's clock; a dead one takes no time of another's."""
        if self._hurry_s is None:
            return math.inf
        return self._deadlines.setdefault(sink.name, anyio.current_time() + self._hurry_s)


def _raise_all(errors: Sequence[Exception]) -> None:
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup("several sinks failed", errors)
