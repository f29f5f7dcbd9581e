"""The completer: takes outcomes from the outbox and hands them to the sinks, a batch at a time.

It promises that each outcome reaches every sink once and in order, that nothing waits in vain for company, and that a
sink which does not keep up makes the slots wait. It decides nothing about a job: the broker sink's policy does.
"""

import time
from collections.abc import Callable, Sequence

import anyio

from headrace.config import limits
from headrace.jobs.batch import BatchRule
from headrace.jobs.outcome import Outcome
from headrace.workers.outbox import Outbox

from ..sinks.port import Sink

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
        self._settled: list[anyio.Event] = []

    @property
    def pending(self) -> int:
        """Outcomes that have not reached every sink."""
        return len(self._outbox) + self._outbox.in_hand

    async def run(self) -> None:
        """Complete until cancelled; outcomes still in the outbox then are left to `finish`."""
        outbox = self._outbox
        while True:
            if not outbox.items:
                await outbox.wait_any()
            if not self._is_idle():
                wait_s = RULE.wait_s(len(outbox), time.monotonic() - outbox.first_at_s, idle=False)
                if wait_s:
                    await outbox.wait_due(wait_s)
            await self._complete(outbox.take(RULE.count_max))

    async def finish(self) -> None:
        """Complete what is in the outbox, at once; for closing, when `run` has ended."""
        while self._outbox.items:
            await self._complete(self._outbox.take(RULE.count_max))

    async def wait_empty(self) -> None:
        """Return once every outcome put so far has reached every sink."""
        while self.pending:
            event = anyio.Event()
            self._settled.append(event)
            await event.wait()

    async def _complete(self, batch: list[Outcome]) -> None:
        # Shielded: a batch that was taken has no other place to be; cancelled half-way it would be lost to some sinks.
        with anyio.CancelScope(shield=True):
            if self._on_batch is not None:
                self._on_batch(batch)
            for sink in self._sinks:
                await sink.write(batch)
            self._outbox.written()
        if not self._outbox.items and self._settled:
            for event in self._settled:
                event.set()
            self._settled.clear()
