"""Pacing: due jobs are brought as far as a queue needs them at its speed, and never kept out for good."""

import time

import anyio
import pytest

from headrace import Engine
from headrace.engine.broker.port import Pace
from headrace.engine.loops.pacing import AHEAD_A_SLOT, AHEAD_S, HELD_S, LONGEST_S, SHORTEST_S, Pacing

WAIT_S = 20.0


def looks(pacing: Pacing, per_s: float, seconds: float, slots: int = 10) -> list[Pace]:
    """Look each 20 ms at a worker that fetches so many jobs a second; return the paces."""
    steps = round(seconds / HELD_S)
    return [
        pacing.paces(1000.0 + step * HELD_S, {"q": int(per_s * step * HELD_S)}, {"q": slots})["q"]
        for step in range(steps + 1)
    ]


def test_an_idle_worker_has_a_few_for_each_slot() -> None:
    """Before any speed is known, two jobs a slot may wait, so that all slots start at once."""
    assert Pace(AHEAD_A_SLOT * 10, 0, HELD_S) == looks(Pacing(), 0, 0)[0]


def test_slow_handlers_get_no_more() -> None:
    """At 20 jobs a second live jobs wait behind two rounds of the slots, no more."""
    assert {AHEAD_A_SLOT * 10} == {pace.ahead for pace in looks(Pacing(), 20, 3)}


def test_fast_handlers_get_a_tenth_of_a_second() -> None:
    """At a steady speed as many wait as are worked off in AHEAD_S."""
    assert abs(30_000 * AHEAD_S - looks(Pacing(), 30_000, 2)[-1].ahead) <= 30


def test_half_of_what_was_fetched_is_owed() -> None:
    """However many jobs wait, one due job is moved for two that were fetched, fractions of them kept."""
    for per_s in (7, 250, 9_999):
        owed = sum(pace.least for pace in looks(Pacing(), per_s, 10))
        assert abs(per_s * 10 / 2 - owed) <= 1


def test_what_is_owed_is_not_saved_up() -> None:
    """After a long time without a look no more is owed than one call moves."""
    pacing = Pacing()
    pacing.paces(1000.0, {"q": 0}, {"q": 10})
    assert 250 == pacing.paces(1100.0, {"q": 1_000_000}, {"q": 10})["q"].least
    assert 0 == pacing.paces(1100.1, {"q": 1_000_000}, {"q": 10})["q"].least


def test_queues_are_measured_one_by_one() -> None:
    """A fast queue gives a slow one of the same worker no deeper backlog."""
    pacing = Pacing()
    for step in range(50):
        paces = pacing.paces(1000.0 + step / 50, {"fast": step * 200, "slow": step // 10}, {"fast": 100, "slow": 2})
    assert abs(10_000 * AHEAD_S - paces["fast"].ahead) <= 10
    assert AHEAD_A_SLOT * 2 == paces["slow"].ahead


def test_pauses_follow_what_was_answered() -> None:
    """More to move is moved after a breath, the next due job is met in time, and nothing to do is looked for rarely."""
    pacing = Pacing()
    pacing.paces(1000.0, {"q": 0}, {"q": 10})
    assert [SHORTEST_S, 0.05, LONGEST_S, LONGEST_S] == [pacing.pause_s(next_s) for next_s in (0.0, 0.05, 3.0, None)]


def test_a_queue_that_nobody_reads_is_looked_at_less_and_less() -> None:
    """While due jobs are held back and nothing is fetched, as in a pause, looks get rarer; a fetch brings them back."""
    pacing = Pacing()
    pauses = []
    for step in range(6):
        pace = pacing.paces(1000.0 + step, {"q": 5}, {"q": 10})["q"]
        pauses.append(pacing.pause_s(pace.again_s))
    assert [HELD_S, 2 * HELD_S, 4 * HELD_S, 8 * HELD_S, LONGEST_S, LONGEST_S] == pauses
    assert HELD_S == pacing.paces(1010.0, {"q": 6}, {"q": 10})["q"].again_s


@pytest.mark.anyio
async def test_live_jobs_pass_a_herd() -> None:
    """A job that is submitted behind thousands of due ones starts before most of them, and they all run."""
    engine = Engine("memory://", slots=2)
    order: list[int] = []

    @engine.job
    async def work(number: int) -> None:
        order.append(number)
        await anyio.sleep(0.001)

    async with engine.running():
        await work.options(delay="10ms").submit_many((number,) for number in range(1, 5_001))
        with anyio.fail_after(WAIT_S * 3):
            while len(order) < 200:  # without a pace, all are queued by then
                await anyio.sleep(0.001)
            live = await work.submit(0)
            await live.result(timeout=WAIT_S * 3)
            while len(order) < 5_001:
                await anyio.sleep(0.01)
    assert order.index(0) < 2_000
    assert list(range(5_001)) == sorted(order)


@pytest.mark.anyio
async def test_a_lone_delayed_job_starts_on_time() -> None:
    """A job that is due while others run starts when it is due, within the pause of an idle mover."""
    engine = Engine("memory://", slots=5)
    started_s: list[float] = []

    @engine.job
    async def work() -> None:
        started_s.append(time.monotonic())

    async with engine.running():
        began_s = time.monotonic()
        handle = await work.options(delay="300ms").submit()
        await handle.result(timeout=WAIT_S)
    assert 0.3 <= started_s[0] - began_s < 5.0


@pytest.mark.anyio
async def test_a_burst_ends_when_nothing_is_due() -> None:
    """Due jobs that are held back count for a burst as queued ones do; jobs that are due later do not."""
    engine = Engine("memory://burst-behind", slots=1, max_queue_length=0)
    done: list[int] = []

    @engine.job
    async def work(number: int) -> None:
        done.append(number)

    async with engine:
        await work.options(delay="1ms").submit_many((number,) for number in range(2_000))
        await work.options(delay="1h").submit(-1)
    await anyio.sleep(0.01)
    with anyio.fail_after(WAIT_S):
        await engine.run(burst=True)
    assert list(range(2_000)) == done


@pytest.mark.anyio
async def test_a_paused_queue_takes_a_few() -> None:
    """Into a paused queue due jobs are brought as far as its slots need them, and all run once it is resumed."""
    engine = Engine("memory://paused-herd", slots=5)
    done: list[int] = []

    @engine.job
    async def work(number: int) -> None:
        done.append(number)

    async with engine:
        broker = engine.connection.open()
        broker.pause("default", True)  # before there is a worker, which may take a second to learn of it
        async with engine.running():
            await work.options(delay="1ms").submit_many((number,) for number in range(1_000))
            with anyio.fail_after(WAIT_S):
                while broker.queues(["default"])[0].queued < AHEAD_A_SLOT * 5:
                    await anyio.sleep(0.01)
                await anyio.sleep(0.3)  # time for some thirty looks, if nothing held them back
                view = broker.queues(["default"])[0]
                assert 1_000 == view.queued + view.delayed
                assert AHEAD_A_SLOT * 5 <= view.queued < 100
                broker.pause("default", False)
                while len(done) < 1_000:
                    await anyio.sleep(0.01)
    assert list(range(1_000)) == done
