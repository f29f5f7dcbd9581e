"""The pool's time and size: timeouts in great numbers, work that does not stop, slots that come and go."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from headrace.config import limits
from headrace.jobs.outcome import Status
from headrace.workers import native, watchdog
from headrace.workers.context import Context, JobInfo
from headrace.workers.pool import Pool
from headrace.workers.runners.thread import ThreadRunner
from pool_scene import Piece, Stage, quick, settle, short, stage
from runner_handlers import plan_of, until

pytestmark = pytest.mark.anyio


def living_count() -> int:
    """Return how many coroutines the loop runs."""
    if native.on_asyncio():
        return len(asyncio.all_tasks())
    import trio

    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def thread_stage(slots: int) -> AsyncIterator[tuple[Stage, ThreadRunner]]:
    """Run a pool for threads."""
    async with (
        ThreadRunner(slots) as runner,
        stage(slots, stops_on_cancel=False, stack_of=runner.stack_of) as on,
    ):
        yield on, runner


async def test_ten_thousand_timeouts() -> None:
    """Each of 10,000 jobs that sleep forever times out at its 50 ms, and nothing is left over."""
    async with stage(1000) as on:
        await on.play([Piece(quick)])
        coroutines, threads = living_count(), threading.active_count()
        came = await on.play([Piece(anyio.sleep_forever, timeout_s=0.05) for _ in range(10_000)])
        assert {Status.TIMED_OUT: 10_000} == Counter(outcome.status for outcome in came)
        assert 0.05 <= min(outcome.run_s for outcome in came)
        assert {Status.SUCCEEDED: 1000} == Counter(
            outcome.status for outcome in await on.play([Piece(short) for _ in range(1000)])
        )
        assert coroutines == living_count()
        # Those of other tests may have ended meanwhile; and trio, a guest in tests, has one to wait for its events in,
        # once it has had to wait.
        assert threads + 1 >= threading.active_count()
        assert on.is_whole(1000)


async def test_ends_around_the_deadline() -> None:
    """Handlers that end just when their time is up give one outcome each, and no job after them is cancelled."""
    given_up: list[Piece] = []

    async def near(delay_s: float) -> str:
        await anyio.sleep(delay_s)
        return "done"

    pieces: list[Piece] = []
    for number in range(3000):
        # From 1 ms before the deadline to 1 ms after the watchdog's next look; between them jobs without a deadline.
        pieces.append(Piece(near, 0.019 + number % 13 * 0.001, timeout_s=0.02))
        pieces.append(Piece(short if number % 2 else quick))
    async with stage(300) as on:
        came = await on.play(pieces)
        for piece, outcome in zip(pieces, came, strict=True):
            if piece.timeout_s:
                assert outcome.status in (Status.SUCCEEDED, Status.TIMED_OUT)
                assert (outcome.status is Status.SUCCEEDED) == (outcome.value == "done")
                if outcome.status is Status.TIMED_OUT:
                    given_up.append(piece)
            else:
                assert (Status.SUCCEEDED, "done") == (outcome.status, outcome.value)
        assert on.is_whole(300)
    assert 0 < len(given_up) < 3000, "the deadlines were not near"


async def test_a_thread_past_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """A thread that runs on keeps its slot and is listed with its stack; its outcome, timed out, comes when it ends."""
    release = threading.Event()

    def stubborn_in_a_thread() -> str:
        release.wait(60)
        return "too late"

    async with thread_stage(2) as (on, runner):
        piece = Piece(runner.bind(plan_of(stubborn_in_a_thread, "thread")), timeout_s=0.02)
        piece.label = "stubborn"
        on.pool.offer([piece])
        await until(lambda: on.pool.statistics().stuck != ())
        statistics = on.pool.statistics()
        assert (("stubborn",), 1, 0) == (statistics.stuck, statistics.busy, len(on.outbox))
        assert "release.wait(60)" in statistics.stacks[0]
        assert "release.wait(60)" in caplog.text
        release.set()
        await on.pool.wait_quiet()
        assert on.is_whole(2)
    (outcome,) = on.outbox.items
    assert (Status.TIMED_OUT, None) == (outcome.status, outcome.value)
    assert 1 == caplog.text.count("stuck handler='stubborn'")


async def test_a_forced_stop_abandons_the_thread() -> None:
    """With a forced stop the slot is free at once, with the first reason as its outcome, while the thread goes on."""
    release = threading.Event()
    try:
        async with thread_stage(1) as (on, runner):
            stubborn = runner.bind(plan_of(lambda: release.wait(60), "thread"))
            on.pool.offer([Piece(stubborn, timeout_s=0.01)])
            await until(lambda: on.pool.statistics().stuck != ())
            on.pool.cancel_all("drain")
            await on.pool.wait_quiet()
            assert [Status.TIMED_OUT] == [outcome.status for outcome in on.outbox.items]
            assert 1 == runner.abandoned
            assert on.is_whole(1)
            release.set()
            await until(lambda: runner.abandoned == 0)
    finally:
        release.set()


async def test_a_thread_can_look_whether_to_stop() -> None:
    """A thread that asks its Context ends at its deadline, as timed out."""

    def polite(ctx: Context) -> None:
        while True:
            ctx.check_cancelled()
            time.sleep(0.001)

    async with thread_stage(1) as (on, runner):
        invocation = runner.bind(plan_of(polite, "thread"))
        piece = Piece(lambda: invocation(Context(JobInfo("1", "polite"), cancel_reason=piece.seen[0].reason)))
        piece.timeout_s = 0.02
        (outcome,) = await on.play([piece])
        assert Status.TIMED_OUT is outcome.status
        assert outcome.failure is not None
        assert "check_cancelled" in outcome.failure.traceback
        assert on.is_whole(1)


async def test_a_long_thread_without_a_timeout(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread without a timeout is warned about once when it runs long, and its outcome is what it gave."""
    monkeypatch.setattr(limits, "THREAD_STUCK_WARNING_S", 0.01)
    monkeypatch.setattr(watchdog, "ROUND_S", 0.01)
    release = threading.Event()
    async with thread_stage(1) as (on, runner):
        on.pool.offer([Piece(runner.bind(plan_of(lambda: release.wait(60), "thread")))])
        await until(lambda: "long in a thread" in caplog.text)
        await anyio.sleep(0.05)
        release.set()
        await on.pool.wait_quiet()
        assert [Status.SUCCEEDED] == [outcome.status for outcome in on.outbox.items]
    assert 1 == caplog.text.count("long in a thread")


@pytest.mark.parametrize("told", ["timeout", "cancel"])
async def test_a_swallowed_cancellation_is_listed(
    told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that swallows its cancellation keeps its slot, is listed with its stack, and the others go on."""
    monkeypatch.setattr(watchdog, "STUCK_AFTER_S", 0.05)
    monkeypatch.setattr(watchdog, "ROUND_S", 0.01)
    release = anyio.Event()

    async def stubborn() -> str:
        while not release.is_set():
            try:
                await anyio.sleep(0.001)
            except BaseException:  # noqa: BLE001 - as badly written handlers do
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)
        return "too late"

    async with stage(2) as on:
        on.pool.offer([Piece(stubborn, timeout_s=0.02 if told == "timeout" else 0.0)])
        await until(lambda: on.pool.busy == 1)
        if told == "cancel":
            on.pool.cancel_all("cancel")
        await until(lambda: on.pool.statistics().stuck != ())
        statistics = on.pool.statistics()
        assert (("stubborn",), 1, 0) == (statistics.stuck, statistics.busy, len(on.outbox))
        assert "in stubborn" in statistics.stacks[0]
        assert "in stubborn" in caplog.text
        on.pool.offer([Piece(short) for _ in range(20)])
        await until(lambda: len(on.outbox) == 20)
        release.set()
        await on.pool.wait_quiet()
        assert (Status.TIMED_OUT if told == "timeout" else Status.SUCCEEDED) is on.outbox.items[-1].status
        assert on.is_whole(2)


async def test_an_answer_to_the_cancellation_counts() -> None:
    """A handler that answers its cancellation with a value at once has succeeded with it."""

    async def partial_answer() -> str:
        try:
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001 - what the test is about
            return "half"

    async with stage(1) as on:
        (outcome,) = await on.play([Piece(partial_answer, timeout_s=0.01)])
        assert (Status.SUCCEEDED, "half") == (outcome.status, outcome.value)
        assert on.is_whole(1)


class Gauge:
    """Counts how many run at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.gate = anyio.Event()

    async def hold(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.gate.wait()
        finally:
            self.now -= 1


@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2), (4, 4), (3, 1)])
async def test_resize_while_parked(before: int, after: int) -> None:
    """A pool that is resized while it has nothing to do runs as many at once as it has slots from then on."""
    async with stage(before) as on:
        await on.play([Piece(quick)])
        on.pool.resize(after)
        gauge = Gauge()
        on.pool.offer([Piece(gauge.hold) for _ in range(10)])
        await until(lambda: on.pool.busy == after)
        await settle()
        assert (after, after, 10 - after) == (gauge.most, on.pool.busy, len(on.pool.ready))
        gauge.gate.set()
        await on.pool.wait_quiet()
        await until(lambda: on.is_whole(after))


async def test_resize_below_what_runs_and_back() -> None:
    """Slots above a new, lower number finish what they run and then go; raised again, they stay, and none is added."""
    async with stage(6) as on:
        first = Gauge()
        on.pool.offer([Piece(first.hold) for _ in range(6)])
        await until(lambda: on.pool.busy == 6)
        on.pool.resize(2)
        on.pool.offer([Piece(short) for _ in range(4)])
        await settle()
        assert (6, 4, -8) == (on.pool.busy, len(on.pool.ready), on.pool.room(0))
        on.pool.resize(4)
        assert 6 == len(on.pool._slots)
        first.gate.set()
        await on.pool.wait_quiet()
        await until(lambda: on.is_whole(4))
        second = Gauge()
        on.pool.offer([Piece(second.hold) for _ in range(10)])
        await until(lambda: on.pool.busy == 4)
        second.gate.set()
        await on.pool.wait_quiet()
        assert 4 == second.most


async def test_the_last_slot_to_end_may_be_surplus() -> None:
    """Whoever waits for quiet is told of it also when the last job ends in a slot that goes with it."""
    async with stage(2) as on:
        first, last = Gauge(), Gauge()
        pieces = [Piece(first.hold), Piece(last.hold)]
        on.pool.offer(pieces)
        await until(lambda: on.pool.busy == 2)
        on.pool.resize(1)
        surplus = [piece.seen[0].surplus for piece in pieces]
        early, late = (first, last) if surplus[1] else (last, first)
        early.gate.set()
        await until(lambda: on.pool.busy == 1)
        await settle()
        async with anyio.create_task_group() as group:
            group.start_soon(on.pool.wait_quiet)
            await settle()
            late.gate.set()
        assert on.is_whole(1)


async def test_resize_in_the_thick_of_it() -> None:
    """Resized up and down all the while, it gives each piece of work one outcome and ends at its size."""
    pieces = [Piece(short if number % 3 else quick) for number in range(2000)]
    pieces += [Piece(anyio.sleep_forever, timeout_s=0.005) for _ in range(100)]
    async with stage(10) as on, anyio.create_task_group() as group:

        async def turn_the_knob() -> None:
            for number in range(1_000_000):
                on.pool.resize((1, 30, 7, 7, 2, 50)[number % 6])
                await anyio.sleep(0.001)

        group.start_soon(turn_the_knob)
        came = await on.play(pieces)
        group.cancel_scope.cancel()
        assert {Status.SUCCEEDED: 2000, Status.TIMED_OUT: 100} == Counter(outcome.status for outcome in came)
        on.pool.resize(5)
        await until(lambda: on.is_whole(5))


async def test_no_slots_are_refused() -> None:
    """A pool of no slots is refused, and stays as it was."""
    async with stage(3) as on:
        for slots in (0, -1):
            with pytest.raises(ValueError, match="at least one slot"):
                on.pool.resize(slots)
        assert on.is_whole(3)


async def test_a_full_outbox_stops_the_slots() -> None:
    """While nobody takes outcomes, no more run than the outbox's bound and the slots; then all do."""
    async with stage(4, bound=10) as on:
        on.pool.offer([Piece(short) for _ in range(100)])
        await until(lambda: on.outbox.is_full and on.pool.busy == 0)
        assert 10 <= len(on.outbox) <= 10 + 4
        taken: list[Any] = []
        while len(taken) < 100:
            batch = on.outbox.take(7)
            assert len(on.outbox) + len(batch) <= 10 + 4
            taken += batch
            await anyio.sleep(0.001)
            on.outbox.written()
            await anyio.sleep(0.001)
        assert 100 == len({id(outcome.work) for outcome in taken})
        await until(lambda: on.is_whole(4))


async def test_room_is_told_only_when_it_is_there() -> None:
    """When the pool says that there may be room, work that a slot has just taken is no longer room."""
    rooms: list[int] = []
    pools: list[Pool] = []
    async with stage(1, on_room=lambda: rooms.extend(pool.room(0) for pool in pools)) as on:
        pool = on.pool
        pools.append(pool)
        await on.play([Piece(quick)])
        rooms.clear()
        gauge = Gauge()
        pool.offer([Piece(gauge.hold)])
        await until(lambda: gauge.now == 1 and rooms != [])
        assert {0} == set(rooms)
        gauge.gate.set()
        await pool.wait_quiet()
