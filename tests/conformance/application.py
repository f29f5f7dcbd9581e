"""The small application of the engine's conformance suite: it is the same on every broker and every loop."""

import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import anyio
import anyio.lowlevel

from headrace import Context, Engine, FailJob, Handlers, Retry, RetryJob

FAST = Retry(attempts=3, delay=0.01, max_delay=0.02)


@dataclass
class Row:
    """A record that travels as data and arrives as itself."""

    number: int
    at: datetime


def cube(number: int) -> int:
    """Run in a child process, which imports this module."""
    return number**3


def crash(number: int) -> None:
    """Take the child process down."""
    os._exit(number)


def make_engine(url: str, **settings: Any) -> Engine:  # noqa: C901 - a list of small handlers
    """Return the application on a broker."""
    engine = Engine(url, namespace=f"test-{os.getpid()}-{time.monotonic_ns()}", drain_timeout=5, **settings)
    more = Handlers(queue="side")
    seen: list[str] = []

    @engine.lifespan
    async def resources(engine: Engine) -> AsyncIterator[dict[str, list[str]]]:
        seen.append("open")
        yield {"seen": seen}
        seen.append("closed")

    @engine.middleware
    async def note(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        seen.append(f"before {ctx.name}")
        return await call_next()

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    @engine.job
    def multiply(a: int, b: int) -> tuple[int, bool]:
        return a * b, threading.current_thread() is threading.main_thread()

    @engine.job
    async def later(ctx: Context, row: Row) -> Row:
        await anyio.lowlevel.checkpoint()
        assert ctx.state["seen"]
        return Row(row.number + ctx.attempt, row.at)

    @engine.job(timeout=0.05, retry=None)
    async def forever() -> None:
        await anyio.sleep_forever()

    @engine.job(retry=FAST)
    async def flaky(ctx: Context, succeed_at: int) -> int:
        if ctx.attempt < succeed_at:
            raise ValueError(f"not at {ctx.attempt}")
        return ctx.attempt

    @engine.job(retry=Retry(attempts=5, delay=0.01, on=(OSError,)))
    async def picky() -> None:
        raise KeyError("not an OSError")

    @engine.job(retry=Retry(attempts=5))
    async def hopeless() -> None:
        raise FailJob("no use")

    @engine.job(retry=Retry(attempts=2, delay=60))
    async def again(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise RetryJob(delay=0.01)
        return ctx.attempt

    @engine.job(result_ttl=0)
    async def forgotten() -> int:
        return 1

    @engine.job
    async def unpackable() -> object:
        return object()

    @more.job(aliases=("old_name",))
    async def aside(ctx: Context, *, text: str = "x") -> str:
        return f"{text} on {ctx.queue}"

    engine.job(runner="process")(cube)
    engine.job(runner="process", retry=None)(crash)
    engine.include(more)
    return engine
