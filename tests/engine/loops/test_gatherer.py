"""The gatherer by itself: when a call is handed to its pool."""

import time

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


def make(
    slots: int, batch: int = 10, *, ttl_s: float = 10.0, linger_s: float = 0.01
) -> tuple[Gatherer, Pool, BoundHandler]:
    """Return a gatherer and its pool, which runs nothing."""
    options = options_from(
        index, name=None, aliases=(), queue="default", timeout=None, retry=1, result_ttl=None, runner="auto",
        batch=batch, batch_linger=linger_s,
    )  # fmt: skip
    bound = BoundHandler(HandlerPlan(index, options), index, terms=Terms(timeout_s=1, ttl_ms=1, max_deliveries=5))
    pool = Pool("async", slots, Outbox(100, 10))
    return Gatherer(bound, pool, ttl_s), pool, bound


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


async def test_what_is_withdrawn_waits_no_more() -> None:
    """The jobs that were chosen are taken out, wherever they are in line; the others keep their order and their age."""
    gatherer, _, bound = make(slots=5)
    every = jobs(bound, 5)
    gatherer.add(every)
    assert [every[0], every[3]] == gatherer.withdraw(lambda job: job in (every[0], every[3]))
    assert [] == gatherer.withdraw(lambda job: job is every[0])
    assert [every[1], every[2], every[4]] == gatherer.take_back()
    work = BatchWork(every)
    assert every[:1] == work.withdraw(lambda job: job is every[0])
    assert every[1:] == work.items


async def test_a_job_lingers_no_longer_than_its_time_to_live() -> None:
    """A lone job goes to a free slot after ttl_s where batch_linger is longer, however young those behind it are."""
    gatherer, pool, bound = make(slots=5, ttl_s=0.05, linger_s=60.0)
    async with anyio.create_task_group() as group:
        group.start_soon(gatherer.run)
        gatherer.add(jobs(bound, 2))
        with anyio.fail_after(10):
            while len(gatherer):
                await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert [2] == calls(pool)


async def test_only_what_finds_no_slot_is_old() -> None:
    """Jobs that came before a moment are taken only while no slot is free; the younger stay."""
    gatherer, pool, bound = make(slots=1)
    old, young = jobs(bound, 2), jobs(bound, 1)
    gatherer.add(old)
    await anyio.sleep(0.01)
    between_s = time.monotonic()
    gatherer.add(young)
    assert [] == gatherer.take_old(between_s)
    pool.offer((BatchWork(jobs(bound, 1)),))
    assert old == gatherer.take_old(between_s)
    assert young == gatherer.take_back()
