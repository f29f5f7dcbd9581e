"""The gatherer by itself: when a call is handed to its pool."""

import anyio
import pytest

from headrace.engine.broker.port import Lease, Source
from headrace.engine.loops import gatherer as module
from headrace.engine.loops.assignment import Assignment, BoundHandler, Terms
from headrace.engine.loops.gatherer import BatchWork, Gatherer
from headrace.jobs import codec
from headrace.jobs.handler import HandlerPlan, options_from
from headrace.workers.outbox import Outbox
from headrace.workers.pool import Pool

pytestmark = pytest.mark.anyio


async def index(rows: list[int]) -> list[int]:
    return rows


def make(slots: int, batch: int = 10) -> tuple[Gatherer, Pool, BoundHandler]:
    """Return a gatherer and its pool, which runs nothing."""
    options = options_from(
        index, name=None, aliases=(), queue="default", timeout=None, retry=1, result_ttl=None, runner="auto",
        batch=batch, batch_linger=0.01,
    )  # fmt: skip
    bound = BoundHandler(HandlerPlan(index, options), index, terms=Terms(timeout_s=1, ttl_ms=1, max_deliveries=5))
    pool = Pool("async", slots, Outbox(100, 10))
    return Gatherer(bound, pool), pool, bound


def jobs(bound: BoundHandler, count: int) -> list[Assignment]:
    """Return leased jobs."""
    body = codec.pack_foreign("index", [1], {})
    source = Source("default", "w:1")
    return [
        Assignment(Lease(source, b"%d-0" % number, body), codec.unpack_envelope(body), bound, "index", 1.0, 0.0)
        for number in range(count)
    ]


def calls(pool: Pool) -> list[int]:
    """Return how many jobs each call in the pool has."""
    return [len(work.items) for work in pool.ready if isinstance(work, BatchWork)]


async def test_a_full_call_goes_at_once() -> None:
    """Nobody waits for a call that is full; the rest waits here."""
    gatherer, pool, bound = make(slots=5)
    gatherer.add(jobs(bound, 23))
    assert ([10, 10], 3) == (calls(pool), len(gatherer))
    assert 3 == len(gatherer.take_back())
    assert 0 == len(gatherer)


async def test_jobs_gather_while_no_slot_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due goes on gathering without a free slot, but not for long: then the pool has it, to give back."""
    monkeypatch.setattr(module, "HOLD_S", 0.2)
    gatherer, pool, bound = make(slots=1)
    pool.offer((BatchWork(jobs(bound, 1)),))
    async with anyio.create_task_group() as group:
        group.start_soon(gatherer.run)
        gatherer.add(jobs(bound, 2))
        await anyio.sleep(0.05)
        gatherer.add(jobs(bound, 3))
        assert [1] == calls(pool)
        with anyio.fail_after(10):
            while len(gatherer):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert [1, 5] == calls(pool)


async def test_a_free_slot_is_noticed() -> None:
    """As soon as a slot is free, what is due goes."""
    gatherer, pool, bound = make(slots=1)
    pool.offer((BatchWork(jobs(bound, 1)),))
    async with anyio.create_task_group() as group:
        group.start_soon(gatherer.run)
        gatherer.add(jobs(bound, 2))
        await anyio.sleep(0.05)
        pool.take_back()
        gatherer.on_room()
        with anyio.fail_after(10):
            while len(gatherer):
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert [2] == calls(pool)
