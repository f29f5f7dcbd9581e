"""A pool on a stage: work made of plain functions, a pool that runs in the test's group, and what came of it."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from headrace.jobs.outcome import Outcome
from headrace.workers.outbox import Outbox
from headrace.workers.pool import Pool
from headrace.workers.slot import Slot
from runner_handlers import until

#: Generous: only a test that hangs meets it.
DEADLINE_S = 60.0


class Piece:
    """Work that awaits a function; `seen` holds the slots that it was started in."""

    def __init__(self, function: Callable[..., Awaitable[Any]], *args: Any, timeout_s: float = 0.0) -> None:
        self.function = function
        self.args = args
        self.timeout_s = timeout_s
        self.label = getattr(function, "__name__", "piece")
        self.offered_at_s = time.monotonic()
        self.seen: list[Slot] = []

    def start(self, slot: Slot) -> Awaitable[Any]:
        self.seen.append(slot)
        return self.function(*self.args)


class Stage:
    """A running pool and its outbox."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self.pool = pool
        self.outbox = outbox

    async def play(self, pieces: Sequence[Piece]) -> list[Outcome]:
        """Offer pieces and return their outcomes in the pieces' order; fails when one has none or two."""
        before = len(self.outbox)
        self.pool.offer(pieces)
        await until(lambda: len(self.outbox) >= before + len(pieces))
        await self.pool.wait_quiet()
        came = self.outbox.items[before:]
        by_piece = {outcome.work: outcome for outcome in came}
        assert len(pieces) == len(came) == len(by_piece)
        return [by_piece[piece] for piece in pieces]

    def is_whole(self, slots: int) -> bool:
        """Whether the pool has all its slots and nothing in them."""
        statistics = self.pool.statistics()
        shown = (statistics.slots, statistics.busy, statistics.ready, statistics.stuck)
        return shown == (slots, 0, 0, ()) and len(self.pool._slots) == slots


async def settle() -> None:
    """Let everything that can go on now go on.

    anyio's wait_all_tasks_blocked waits in steps of 100 ms, and may find the watchdog awake at each of them.
    """
    for _ in range(30):
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def stage(slots: int, **options: Any) -> AsyncIterator[Stage]:
    """Run a pool with a roomy outbox that nobody empties."""
    outbox = Outbox(bound=options.pop("bound", 1_000_000), count_due=256)
    pool = Pool("async", slots, outbox, **options)
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            await group.start(pool.run)
            yield Stage(pool, outbox)
            group.cancel_scope.cancel()


async def quick() -> str:
    return "done"


async def short() -> str:
    await anyio.sleep(0.001)
    return "done"
