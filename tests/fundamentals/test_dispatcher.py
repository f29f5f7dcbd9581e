"""The Dispatcher by itself: run functions, so many at once, and write down what became of them. No server needed."""

import json
import time
from pathlib import Path

import anyio
import pytest

from headrace import Context, Dispatcher, FileSink, JobFailed, JobTimedOut, QueueFull

pytestmark = pytest.mark.anyio


async def fetch(url: str, *, size: int = 3) -> str:
    """Stand for something that waits on the outside."""
    await anyio.sleep(0.001)
    return url[:size]


async def test_submit_and_ask_for_the_result() -> None:
    """Submit a function with its arguments; the ticket gives what it returned."""
    async with Dispatcher(slots=10) as dispatcher:
        ticket = await dispatcher.submit(fetch, "abcdef", size=4)
        assert "abcd" == await ticket.result()
        assert "succeeded" == ticket.status


async def test_leaving_the_block_waits_for_everything() -> None:
    """When the block is left, all that was submitted has ended."""
    async with Dispatcher(slots=10) as dispatcher:
        tickets = [await dispatcher.submit(fetch, f"{number:03}") for number in range(200)]
    assert all(ticket.done for ticket in tickets)


async def test_no_more_than_the_slots_run_at_once() -> None:
    """However much is submitted, `slots` functions run at the same time, and resize() changes that."""
    running = most = 0

    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1

    async with Dispatcher(slots=4) as dispatcher:
        for _ in range(50):
            await dispatcher.submit(count)
        await dispatcher.drain()
        assert 4 == most
        dispatcher.resize(8)
        for _ in range(50):
            await dispatcher.submit(count)
    assert 8 == most


async def test_plain_functions_run_in_threads() -> None:
    """A plain function runs in a thread, so that it does not hold up the others."""
    async with Dispatcher(thread_slots=2) as dispatcher:
        slow = await dispatcher.submit(time.sleep, 0.05)
        quick = await dispatcher.submit(fetch, "abc")
        assert "abc" == await quick.result()
        assert not slow.done


async def test_a_failure_is_told_where_the_result_is_asked_for() -> None:
    """What a function raises harms nobody else; its ticket raises JobFailed, with the exception as its cause."""

    async def fail() -> None:
        raise LookupError("no such page")

    async with Dispatcher() as dispatcher:
        ticket = await dispatcher.submit(fail)
        with pytest.raises(JobFailed, match="no such page") as told:
            await ticket.result()
        assert isinstance(told.value.__cause__, LookupError)


async def test_a_timeout_stops_what_takes_too_long() -> None:
    """With a timeout, a function that runs longer is stopped, and its slot is free for the next."""
    async with Dispatcher(slots=1, timeout="20ms") as dispatcher:
        forever = await dispatcher.submit(anyio.sleep_forever)
        with pytest.raises(JobTimedOut):
            await forever.result()
        assert "abc" == await (await dispatcher.submit(fetch, "abc")).result()


async def test_threads_are_asked_to_stop() -> None:
    """Nobody can stop a thread from outside: a long plain function takes the Context and asks it now and then."""

    def count_forever(ctx: Context) -> None:
        while True:
            ctx.check_cancelled()

    async with Dispatcher(timeout=0.02) as dispatcher:
        with pytest.raises(JobTimedOut):
            await (await dispatcher.submit(count_forever)).result()


async def test_a_full_backlog_makes_the_submitter_wait() -> None:
    """Past `slots` and `backlog`, submit() waits for room, and submit_nowait() raises QueueFull."""
    gate = anyio.Event()
    async with Dispatcher(slots=1, backlog=2) as dispatcher:
        for _ in range(3):
            await dispatcher.submit(gate.wait)
        with pytest.raises(QueueFull):
            dispatcher.submit_nowait(gate.wait)
        with anyio.move_on_after(0.01) as patience:
            await dispatcher.submit(gate.wait)
        assert patience.cancelled_caught
        gate.set()


async def test_outcomes_are_written_down(tmp_path: Path) -> None:
    """Each sink gets every outcome; a FileSink writes one JSON line for each."""
    path = tmp_path / "out.jsonl"
    async with Dispatcher(sinks=[FileSink(path)]) as dispatcher:
        for number in range(3):
            await dispatcher.submit(fetch, f"page {number}", size=6)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert ["page 0", "page 1", "page 2"] == sorted(line["value"] for line in lines)
    assert {("fetch", "succeeded")} == {(line["name"], line["status"]) for line in lines}


async def test_the_statistics_say_how_it_goes() -> None:
    """One record tells how many run, how long they take, and what waits where."""
    async with Dispatcher(slots=10) as dispatcher:
        for number in range(100):
            await dispatcher.submit(fetch, str(number))
        await dispatcher.drain()
        shown = dispatcher.statistics()
    assert (0, 10) == (shown.concurrency.runners["async"].busy, shown.concurrency.runners["async"].slots)
    assert (0, 0) == (shown.errors.failed, shown.backpressure.prefetched)
    assert shown.handlers["fetch"].latency_ms.run.p50 is not None
