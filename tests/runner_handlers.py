"""Handlers for the runners' tests, in a module of their own that child processes import, and what those tests share."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from headrace.jobs.errors import FailJob, RetryJob
from headrace.jobs.handler import HandlerOptions, HandlerPlan
from headrace.workers.context import Context

#: Generous: only a test that hangs meets it.
DEADLINE_S = 20.0


def plan_of(function: Callable[..., Any], runner: str) -> HandlerPlan:
    choice = runner if runner in ("thread", "process") else "auto"
    return HandlerPlan(function, HandlerOptions(name=function.__name__, runner=choice))


def plain(value: Any) -> Any:
    """Return a value as the handler returned it, whichever runner it came through."""
    return msgspec.msgpack.decode(value) if isinstance(value, msgspec.Raw) else value


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await anyio.sleep(0.001)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class OddRowError(ValueError):
    """An error of a class of its own."""


class Decorated:
    """What a decorator could leave under the handler's name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_async(a: int, b: int = 1) -> int:
    await anyio.lowlevel.checkpoint()
    return a + b


def fail(word: str) -> None:
    raise OddRowError(f"no such row: {word}")


async def fail_async(word: str) -> None:
    raise OddRowError(f"no such row: {word}")


def leave() -> None:
    sys.exit(7)


async def leave_async() -> None:
    sys.exit(7)


def about(ctx: Context, extra: str) -> list[Any]:
    ctx.log.debug("a handler logs")
    return [ctx.id, ctx.name, ctx.attempt, ctx.deliveries, ctx.state, extra]


async def about_async(ctx: Context, extra: str) -> list[Any]:
    return about(ctx, extra)


def postpone() -> None:
    raise RetryJob(delay=4)


def give_up() -> None:
    raise FailJob("never works")


def interrupt() -> None:
    raise KeyboardInterrupt


def types_of(pair: tuple[int, str], members: set[int]) -> list[str]:
    return [type(pair).__name__, type(members).__name__]


def process_id() -> int:
    return os.getpid()


def is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def spin() -> None:
    while True:
        pass


def spin_telling(path: str) -> None:
    """Say when it runs, and write when it is told to stop."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("running")
        spin()
    finally:
        with open(path, "w", encoding="utf-8") as file:
            file.write("cleaned up")


def spin_stubbornly(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(path, "w", encoding="utf-8") as file:
        file.write("running")
    spin()


def survive_group_signals() -> str:
    """Be signalled as a supervisor or a terminal signals the whole group."""
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.01)
    return "survived"


def exit_hard(code: int) -> None:
    os._exit(code)


def segfault() -> None:
    ctypes.string_at(0)


def exit_leaving_offspring(seconds: float) -> None:
    """Die while a process that was forked here still holds the socket."""
    if os.fork() == 0:
        time.sleep(seconds)
        os._exit(0)
    os._exit(4)


def make_object() -> object:
    return object()


def make_bytes(count: int) -> bytes:
    return b"x" * count


def length_of(data: bytes) -> int:
    return len(data)


@Decorated
def decorated() -> str:
    return "unwrapped"


def outer() -> Callable[[], None]:
    def inner() -> None:
        return None

    return inner


nameless = lambda: None  # noqa: E731 - what the test is about


def spin_with_a_slow_end(path: str) -> None:
    """Clean up when told to stop, in a process whose interpreter would take ages to end."""
    threading.Thread(target=time.sleep, args=(10 * DEADLINE_S,)).start()
    spin_telling(path)


def count_up(ctx: Context, count: int, last: float) -> float:
    """Say how far it is, many times, and once more right before the return."""
    for done in range(count):
        ctx.progress(done, count)
    ctx.progress(last)
    return last


def say_and_wait(ctx: Context, path: str) -> None:
    """Say two things close together, and go on only when the newest was seen."""
    ctx.progress(1, 3)
    ctx.progress(2, 3)
    while not os.path.exists(path):
        time.sleep(0.001)


def say_and_fail(ctx: Context) -> None:
    ctx.progress(4, 5)
    raise OddRowError("behind it")


def leave_a_thread(ctx: Context) -> None:
    """Leave a thread behind that goes on saying how far it is."""

    def babble() -> None:
        while True:
            ctx.progress(99)
            time.sleep(0.001)

    threading.Thread(target=babble, daemon=True).start()
