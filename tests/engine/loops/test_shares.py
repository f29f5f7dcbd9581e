"""Several queues share a worker by their weights, and none starves."""

from collections import Counter

import anyio
import pytest

from headrace import Engine

pytestmark = pytest.mark.anyio
WAIT_S = 60.0


@pytest.mark.parametrize(
    ("weights", "took_s"),
    [
        ({"a": 3, "b": 1}, 0.0),
        ({"a": 10, "b": 1, "c": 1}, 0.001),
        ({"a": 100, "b": 1}, 0.001),
        ({"a": 1, "b": 1}, 0.01),
    ],
)
async def test_jobs_are_shared_by_weight(weights: dict[str, int], took_s: float) -> None:
    """While all queues have jobs, each gets its share of what is run, whatever size the fetches happen to have."""
    engine = Engine("memory://", slots=10, drain_timeout=0, max_queue_length=0)
    done: list[str] = []
    enough, count = anyio.Event(), 600 if took_s >= 0.01 else 3000

    @engine.job
    async def work(queue: str) -> None:
        done.append(queue)
        if len(done) == count:
            enough.set()
        if took_s:
            await anyio.sleep(took_s)

    async with engine:
        for queue in weights:
            await work.options(queue=queue).submit_many((queue,) for _ in range(count))
        async with engine.running(queues=weights):
            with anyio.fail_after(WAIT_S):
                await enough.wait()
    seen, total = Counter(done[:count]), sum(weights.values())
    for queue, weight in weights.items():
        due = count * weight / total
        # A queue may be a batch of 500 ahead of its share, or behind it.
        assert abs(seen[queue] - due) < 0.2 * count, f"{queue}: {seen[queue]} of {count}, due {due:.0f}"
        assert seen[queue]


async def test_a_slow_queue_starves_no_fast_one() -> None:
    """A queue whose handlers hold all their slots is left alone, and the others of the worker go on."""
    engine = Engine("memory://", slots=2, thread_slots=2, drain_timeout=0)
    release = anyio.Event()
    done: list[int] = []

    @engine.job(queue="slow", timeout=0)
    async def slow() -> None:
        await release.wait()

    @engine.job(queue="quick")
    def quick(number: int) -> None:
        done.append(number)

    async with engine.running():
        await slow.submit_many(() for _ in range(50))
        handles = await quick.submit_many((number,) for number in range(200))
        with anyio.fail_after(WAIT_S):
            for handle in handles:
                await handle.result(timeout=WAIT_S)
        release.set()
    assert set(range(200)) == set(done)
