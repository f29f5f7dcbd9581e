"""The completer: batches, order, waits, and sinks that fail or hang."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace

import anyio
import pytest

from headrace.config import limits
from headrace.engine.loops.completer import RULE, Completer
from headrace.jobs.outcome import Outcome, Status
from headrace.workers.outbox import Outbox
from noting_sink import NotingSink
from pool_scene import settle

pytestmark = pytest.mark.anyio


def put(outbox: Outbox, numbers: Sequence[int]) -> None:
    for number in numbers:
        outbox.put(Outcome(SimpleNamespace(number=number), Status.SUCCEEDED))


def completer_of(*sinks: NotingSink, idle: bool = False, bound: int = 10_000) -> tuple[Outbox, Completer]:
    outbox = Outbox(bound, RULE.count)
    return outbox, Completer(outbox, sinks, is_idle=lambda: idle)


@asynccontextmanager
async def running(completer: Completer) -> AsyncIterator[None]:
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(completer.run)
            yield
            group.cancel_scope.cancel()


async def test_order_is_kept_and_batches_are_bounded() -> None:
    """Whatever the pace, the sink gets everything in order, in batches no larger than the rule allows."""
    sink = NotingSink()
    outbox, completer = completer_of(sink)
    async with running(completer):
        first = 0
        for count in (1, 300, 2, 5000, 1, 255, 256, 257):
            put(outbox, range(first, first + count))
            first += count
            await anyio.lowlevel.checkpoint()
        await completer.wait_empty()
    assert list(range(first)) == sink.numbers
    assert limits.SETTLE_BATCH_MAX_COUNT == RULE.count_max >= max(len(batch) for batch in sink.batches)
    assert 0 == completer.pending


async def test_a_lone_outcome_goes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome with nothing running beside it waits for no company."""

    async def never(wait_s: float) -> None:
        raise AssertionError("it waited")

    sink = NotingSink()
    outbox, completer = completer_of(sink, idle=True)
    monkeypatch.setattr(Outbox, "wait_due", lambda self, wait_s: never(wait_s))
    async with running(completer):
        put(outbox, [1])
        await completer.wait_empty()
    assert [[1]] == sink.batches


async def test_what_comes_meanwhile_is_the_next_batch() -> None:
    """While the sink is busy outcomes gather, and go together."""
    sink = NotingSink()
    sink.gate = anyio.Event()
    outbox, completer = completer_of(sink, idle=True)
    async with running(completer):
        put(outbox, [0])
        await settle()
        put(outbox, range(1, 50))
        await settle()
        assert 50 == completer.pending
        sink.gate.set()
        await completer.wait_empty()
    assert [1, 49] == [len(batch) for batch in sink.batches]


async def test_a_small_outbox_is_written_when_full() -> None:
    """With a bound of one, the completer does not wait for a second outcome, busy or not."""
    sink = NotingSink()
    outbox, completer = completer_of(sink, bound=1)
    async with running(completer):
        put(outbox, [1])
        await settle()
        assert [[1]] == sink.batches


async def test_cancelled_it_finishes_its_batch() -> None:
    """A batch that was taken reaches all sinks although the completer is cancelled; the rest is left to finish."""
    first, second = NotingSink("first"), NotingSink("second")
    first.gate = anyio.Event()
    outbox, completer = completer_of(first, second, idle=True)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(completer.run)
            put(outbox, [1, 2])
            await settle()
            put(outbox, [3])
            group.cancel_scope.cancel()
            first.gate.set()
        assert [1, 2] == first.numbers[:2]
        assert first.numbers == second.numbers
        await completer.finish()
    assert [1, 2, 3] == first.numbers == second.numbers


async def test_a_failing_sink_costs_the_others_nothing() -> None:
    """When a sink fails, its error is raised, the others get every outcome, and it is written to no more."""
    bad, good = NotingSink("bad", fails_at=1), NotingSink("good")
    outbox, completer = completer_of(bad, good, idle=True)
    with anyio.fail_after(30), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group raises at its end
        async with anyio.create_task_group() as group:
            group.start_soon(completer.run)
            put(outbox, [1])
            await completer.wait_empty()
            put(outbox, [2])
            await settle()
    assert ["bad is full"] == [str(error) for error in caught.value.exceptions]
    put(outbox, [3])
    await completer.finish()
    assert ([1], [1, 2, 3], 2) == (bad.numbers, good.numbers, bad.offered)


async def test_finish_does_not_wait_for_a_dead_sink(caplog: pytest.LogCaptureFixture) -> None:
    """Told to hurry, finish gives up on a sink that does not answer, says so, and serves the next one."""
    dead, good = NotingSink("dead"), NotingSink("good")
    dead.gate = anyio.Event()
    outbox, completer = completer_of(dead, good)
    put(outbox, range(3000))
    completer.hurry(0.05)
    with anyio.fail_after(30), pytest.raises(TimeoutError, match="dead"):
        await completer.finish()
    assert (list(range(3000)), [], 1, 0) == (good.numbers, dead.numbers, dead.offered, completer.pending)
    assert "outcomes=3000" in caplog.text


async def test_hurry_bounds_the_write_under_way() -> None:
    """Told to hurry while a sink does not answer, the completer gives that sink up in time."""
    dead = NotingSink("dead")
    dead.gate = anyio.Event()
    outbox, completer = completer_of(dead, idle=True)
    with anyio.fail_after(30), pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group raises at its end
        async with anyio.create_task_group() as group:
            group.start_soon(completer.run)
            put(outbox, [1])
            await settle()
            group.cancel_scope.cancel()
            completer.hurry(0.05)
    assert [TimeoutError] == [type(error) for error in caught.value.exceptions]


async def test_two_sinks_that_fail_together_are_both_named() -> None:
    """When two sinks fail with one batch, both errors are raised."""
    outbox, completer = completer_of(NotingSink("first", fails_at=0), NotingSink("second", fails_at=0))
    put(outbox, [1])
    with pytest.raises(ExceptionGroup) as caught:
        await completer.finish()
    assert ["first is full", "second is full"] == [str(error) for error in caught.value.exceptions]
