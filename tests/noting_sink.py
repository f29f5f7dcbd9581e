"""A sink in memory that notes what it is given, and waits or fails when a test wants it to."""

from collections.abc import Sequence

import anyio
import anyio.lowlevel

from headrace.engine.sinks.port import SinkStatistics
from headrace.jobs.outcome import Outcome


class NotingSink:
    """Notes the batches it takes; waits at its gate, and raises what it is told to."""

    def __init__(self, name: str = "noting", fails_at: int | None = None) -> None:
        self.name = name
        self.fails_at = fails_at
        self.batches: list[list[int]] = []
        self.outcomes: list[Outcome] = []
        self.is_open = False
        self.gate = anyio.Event()
        self.gate.set()
        self.offered = 0

    @property
    def numbers(self) -> list[int]:
        return [number for batch in self.batches for number in batch]

    async def open(self) -> None:
        self.is_open = True

    async def write(self, outcomes: Sequence[Outcome]) -> None:
        self.offered += 1
        await self.gate.wait()
        if self.fails_at is not None and len(self.batches) >= self.fails_at:
            raise OSError(f"{self.name} is full")
        self.batches.append([getattr(outcome.work, "number", -1) for outcome in outcomes])
        self.outcomes += outcomes

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.is_open = False

    def statistics(self) -> SinkStatistics:
        return SinkStatistics(name=self.name, written=len(self.numbers))
