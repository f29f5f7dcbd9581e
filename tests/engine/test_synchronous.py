"""What is promised of the blocking form: it works in every thread without a loop, and says why it gives up."""

import asyncio
import contextvars
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sniffio

from headrace import ConfigError, Engine, QueueFull

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


def make_engine(**settings: Any) -> Engine:
    engine = Engine(f"memory://sync-{os.getpid()}-{time.monotonic_ns()}", drain_timeout=5, **settings)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    return engine


async def by_anyio(call: Callable[[], int]) -> int:
    return await anyio.to_thread.run_sync(call)


async def by_the_loops_own_way(call: Callable[[], int]) -> int:
    if sniffio.current_async_library() == "trio":
        import trio

        return await trio.to_thread.run_sync(call)
    return await asyncio.to_thread(call)


async def by_copied_context(call: Callable[[], int]) -> int:
    """As adapters between frameworks do: all context variables of the loop are seen in the thread."""
    context = contextvars.copy_context()
    return await anyio.to_thread.run_sync(lambda: context.run(call))


@pytest.mark.parametrize("hop", [by_anyio, by_the_loops_own_way, by_copied_context])
async def test_a_thread_beside_a_loop_may_block(hop: Callable[[Callable[[], int]], Awaitable[int]]) -> None:
    """Whatever the thread knows of the loop that sent it there, it runs none itself, and so it may wait."""
    engine = make_engine()
    async with engine.running():
        with anyio.fail_after(WAIT_S):
            assert 3 == await hop(lambda: engine.sync.submit("add", (1, 2)).result(timeout=WAIT_S))


async def test_inside_a_loop_the_form_to_await_is_named() -> None:
    """What would hold up the loop is refused there, in a context without variables too, with the loop's name."""
    engine = make_engine()
    name = sniffio.current_async_library()
    for call in (lambda: engine.sync.submit("add", (1, 2)), lambda: engine.sync.submit("add", (3, 4)).result()):
        with pytest.raises(ConfigError, match=rf"running {name} event loop.*await add\.submit"):
            contextvars.Context().run(call)
        with pytest.raises(ConfigError, match=rf"running {name} event loop.*await add\.submit"):
            call()


def test_a_full_queue_says_how_long_it_was_waited_for() -> None:
    """The blocking wait for room ends with a QueueFull that says how long it was, and keeps the figures."""
    engine = make_engine(max_queue_length=1)
    engine.sync.submit("add", (1, 2))
    with pytest.raises(QueueFull, match=r"^waited 0\.05 s for room: queue 'default' is full") as refusal:
        engine.sync.submit("add", (1, 2), on_full="wait", wait_timeout=0.05)
    assert (1, 1, "length") == (refusal.value.depth, refusal.value.bound, refusal.value.reason)
