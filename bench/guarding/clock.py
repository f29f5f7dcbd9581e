"""A clock that no machine moves: each look at it takes ten microseconds, each wait as long as it is meant to.

What headrace does by time (a slot's turn, a batch's age, the watchdog's look) then comes after the same job in each
run, however busy the machine is. `installed` puts the clock into every module of headrace that is loaded, and `run`
into the event loop.
"""

import asyncio
import math
import random
import selectors
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, TypeVar

import anyio
import trio

T = TypeVar("T")

#: What a job took on the machine of docs/bench.md; a slot's turn of 5 ms is then some 500 jobs, as it is there.
LOOK_S = 1e-5
#: Where the wall clock begins.
WALL_S = 1_795_406_593.154


class Clock:
    """Virtual time of one run.

    Attributes:
        now_s: Monotonic seconds.
    """

    def __init__(self) -> None:
        self.now_s = 1000.0

    def look(self) -> float:
        """Return the monotonic seconds; takes some."""
        self.now_s += LOOK_S
        return self.now_s

    def wall_s(self) -> float:
        """Return the wall clock's seconds."""
        return WALL_S + self.now_s

    def wall_ns(self) -> int:
        """Return the wall clock's nanoseconds."""
        return int(self.wall_s() * 1e9)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have the modules of headrace that are loaded by now look at this clock."""
        stand_in = SimpleNamespace(**vars(time))
        stand_in.monotonic, stand_in.time, stand_in.time_ns = self.look, self.wall_s, self.wall_ns
        users: list[Any] = [
            module
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] == "headrace" and getattr(module, "time", None) is time
        ]
        for module in users:
            module.time = stand_in
        try:
            yield
        finally:
            for module in users:
                module.time = time


def run(loop: str, clock: Clock, function: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function on asyncio or trio, by this clock."""
    with clock.installed():
        if loop == "trio":
            with _loaded_dice():
                return anyio.run(function, backend="trio", backend_options={"clock": _TrioClock(clock)})
        options = {"loop_factory": lambda: _Loop(clock)}
        return anyio.run(function, backend="asyncio", backend_options=options)


@contextmanager
def _loaded_dice() -> Iterator[None]:
    """Have trio shuffle what may run the same way in each run; it has no public way to say so."""
    trio_run: Any = trio._core._run  # noqa: SLF001
    dice, trio_run._r = trio_run._r, random.Random(0)  # noqa: SLF001
    try:
        yield
    finally:
        trio_run._r = dice  # noqa: SLF001


class _TrioClock(trio.abc.Clock):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._clock.now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Let the time pass instead of sleeping; trio asks when nothing is left to run."""
        if deadline < math.inf:
            self._clock.now_s = max(self._clock.now_s, deadline)
            return 0.0
        return deadline


class _Selector(selectors.DefaultSelector):
    clock: Clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass instead of waiting."""
        if timeout is None:
            return super().select(None)
        self.clock.now_s += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        selector = _Selector()
        selector.clock = clock
        self._virtual = clock
        super().__init__(selector)

    def time(self) -> float:
        """Return virtual seconds."""
        return self._virtual.now_s
