"""A worker program whose handlers misbehave: they raise what nobody should, go on when told to stop, return rubbish.

    misbehaving.py URL LOOP

Each kind of misbehaviour runs in the loop, in a thread and in a process, beside handlers that do as they should.
"""

import asyncio
import concurrent.futures
import itertools
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import trio

from headrace import Engine, Handlers
from headrace.config.logs import configure

SLOTS = {"async": 4, "thread": 3, "process": 2}
MEGABYTE = 1 << 20
handlers = Handlers()


class Bare(BaseException):
    """No Exception, and nobody else's either."""


class Unpicklable(Exception):
    """Holds a lock, and refuses to be taken apart."""

    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("not picklable")


class Large(Exception):
    """Is 10 MB long however it is shown."""

    def __str__(self) -> str:
        return "s" * 10 * MEGABYTE

    __repr__ = __str__


class Mute(Exception):
    """Ends the process of whoever wants to show it."""

    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


class Closed(Exception):
    """Cannot be asked anything, its class included."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"no {name}")


def _nested(depth: int) -> BaseException:
    error: Exception = ValueError("innermost")
    for _ in range(depth):
        error = ExceptionGroup("around", [error])
    return error


def _chained(length: int) -> BaseException:
    error = ValueError("first")
    for number in range(length):
        later = ValueError(str(number))
        later.__cause__, error = error, later
    return error


def _circular() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def _noted() -> BaseException:
    error = ValueError("noted")
    for _ in range(100):
        error.add_note("n" * 100_000)
    return error


def _too_late() -> BaseException:
    """Return a trio.Cancelled whose scope is long gone; only trio itself makes them."""
    found: list[BaseException] = []

    async def be_cancelled() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                found.append(error)
                raise

    thread = threading.Thread(target=trio.run, args=(be_cancelled,))  # a handler may run inside a loop already
    thread.start()
    thread.join()
    return found[0].with_traceback(None)


#: What is raised, by the name under which it is asked for.
ERRORS: dict[str, Callable[[], BaseException]] = {
    "BaseException": lambda: BaseException("plain"),
    "Bare": Bare,
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "asyncio.CancelledError": asyncio.CancelledError,
    "futures.CancelledError": concurrent.futures.CancelledError,
    "trio.Cancelled": _too_late,
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("one"), OSError("other")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("bad", [SystemExit(1), KeyboardInterrupt()]),
    "nested groups": lambda: _nested(5_000),
    "long chain": lambda: _chained(5_000),
    "circular chain": _circular,
    "10 MB of notes": _noted,
    "10 MB of text": lambda: ValueError("t" * 10 * MEGABYTE),
    "10 MB of repr": Large,
    "mute": Mute,
    "unpicklable": Unpicklable,
    "closed": Closed,
    "MemoryError": MemoryError,
    "odd text": lambda: ValueError("\ud800\x00\x1b[2J"),
}


@handlers.job(name="raise-async", retry=None)
async def raise_in_loop(kind: str, later: bool) -> None:
    """Raise, before or after having waited."""
    if later:
        await anyio.sleep(0.001)
    raise ERRORS[kind]()  # noqa: RSE102 - it is made by the call


@handlers.job(name="raise-thread", retry=None)
def raise_in_thread(kind: str, later: bool) -> None:
    """Raise in a thread."""
    raise ERRORS[kind]()  # noqa: RSE102 - it is made by the call


@handlers.job(name="raise-process", retry=None, runner="process")
def raise_in_process(kind: str, later: bool) -> None:
    """Raise in a child."""
    raise ERRORS[kind]()  # noqa: RSE102 - it is made by the call


def _lies() -> Any:
    class Lies:
        """Has attributes that cannot be read."""

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("no attributes")

    return Lies()


def _circle() -> Any:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


#: What is returned, by the name under which it is asked for: all of it cannot be kept.
VALUES: dict[str, Callable[[], Any]] = {
    "too large": lambda: b"b" * (2 * MEGABYTE),
    "far too large": lambda: "x" * (16 * MEGABYTE),
    "too many": lambda: {str(number): number for number in range(150_000)},
    "a function": lambda: lambda: None,
    "an object": object,
    "a lock": threading.Lock,
    "a generator": lambda: (each for each in ()),
    "an exception": lambda: ValueError("returned"),
    "too big an integer": lambda: 1 << 64,
    "odd text": lambda: "\ud800",
    "in a circle": _circle,
    "deep": lambda: _deep(10_000),
    "lies": _lies,
    "odd keys": lambda: {(object(),): 1},
}


@handlers.job(name="return-async", retry=None)
async def return_in_loop(kind: str) -> Any:
    """Return what cannot be kept."""
    return VALUES[kind]()


@handlers.job(name="return-thread", retry=None)
def return_in_thread(kind: str) -> Any:
    """Return what cannot be kept, from a thread."""
    return VALUES[kind]()


@handlers.job(name="return-process", retry=None, runner="process")
def return_in_process(kind: str) -> Any:
    """Return what cannot be kept, from a child."""
    return VALUES[kind]()


@handlers.job(name="add-async")
async def add_in_loop(a: int, b: int) -> int:
    """Do as one should."""
    await anyio.sleep(0.001)
    return a + b


@handlers.job(name="add-thread")
def add_in_thread(a: int, b: int) -> int:
    """Do as one should, in a thread."""
    return a + b


@handlers.job(name="add-process", runner="process")
def add_in_process(a: int, b: int) -> int:
    """Do as one should, in a child."""
    return a + b


def _arrive(folder: str, count: int) -> Iterator[None]:
    """Be there, and yield until so many are there."""
    place = Path(folder)
    (place / uuid.uuid4().hex).touch()
    while len(list(place.iterdir())) < count:
        yield


@handlers.job(name="meet-async", timeout=30, retry=None)
async def meet_in_loop(folder: str, count: int) -> int:
    """Return once so many run at the same time."""
    for _ in _arrive(folder, count):
        await anyio.sleep(0.01)
    return os.getpid()


@handlers.job(name="meet-thread", timeout=30, retry=None)
def meet_in_thread(folder: str, count: int) -> int:
    """Return once so many run at the same time."""
    for _ in _arrive(folder, count):
        time.sleep(0.01)
    return os.getpid()


@handlers.job(name="meet-process", timeout=30, retry=None, runner="process")
def meet_in_process(folder: str, count: int) -> int:
    """Return once so many run at the same time."""
    for _ in _arrive(folder, count):
        time.sleep(0.01)
    return os.getpid()


@handlers.job(name="deaf-async", timeout=0.1, retry=None)
async def deaf_in_loop(gate: str) -> str:
    """Swallow every cancellation until there is a file."""
    while not Path(gate).exists():
        try:
            await anyio.sleep(0.05)
        except anyio.get_cancelled_exc_class():
            # On asyncio it is delivered again at every wait, on trio too: what swallows it, spins.
            time.sleep(0.005)  # noqa: ASYNC251 - or the loop would be this handler's alone
    return "late"


@handlers.job(name="deaf-thread", timeout=0.1, retry=None)
def deaf_in_thread(gate: str) -> str:
    """Hang in a call to C, one that lets others run, until there is a file."""
    while not Path(gate).exists():
        time.sleep(0.5)
    return "late"


@handlers.job(name="deaf-process", timeout=0.3, retry=None, runner="process")
def deaf_in_process(how: str, note: str) -> str:
    """Never end: in Python, or in a call to C that holds the interpreter and hears no signal."""
    Path(note).write_text(str(os.getpid()))
    if how == "C":
        sum(itertools.repeat(0))
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001 - SystemExit, which is how it is told to stop
            continue


@handlers.job(name="pid-process", runner="process")
def pid_in_process() -> int:
    """Say who runs it."""
    return os.getpid()


def main() -> None:
    """Work until told to stop."""
    url, loop = sys.argv[1:3]
    configure("info", "json")
    engine = Engine(
        url,
        slots=SLOTS["async"],
        thread_slots=SLOTS["thread"],
        process_slots=SLOTS["process"],
        lease="5s",
        drain_timeout=5,
    )
    engine.include(handlers)
    anyio.run(engine.run, backend=loop)


if __name__ == "__main__":
    main()
