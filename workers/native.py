"""What anyio leaves to the loop beneath it: a coroutine cancelled past anyio, Ctrl-C on trio, where a coroutine is now.

Each function asks which loop runs and does nothing where the matter does not arise. Nothing here keeps state.
"""

import asyncio
import math
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

import anyio


def on_asyncio() -> bool:
    """Return whether the running loop is asyncio's; a trio that is asyncio's guest is not."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


def is_cancelled() -> bool:
    """Return whether the calling coroutine is cancelled by a scope around it, and not by a stray of its own making."""
    return anyio.current_effective_deadline() == -math.inf


#: Has a loop call something, which must be short and must not raise, after so many seconds; returns what calls it off.
CallLater = Callable[[float, Callable[[], object]], Callable[[], object]]


def timers() -> CallLater:
    """Return what has the running loop call something later; on asyncio at a sixth of a cancel scope's price.

    What is returned may be called from the loop's own callbacks, too, where nothing tells which loop it is.
    """
    if on_asyncio():
        later = asyncio.get_running_loop().call_later
        return lambda after_s, call: later(after_s, call).cancel
    return _later_on_trio


def _later_on_trio(after_s: float, call: Callable[[], object]) -> Callable[[], object]:
    import trio

    scope = trio.CancelScope()

    async def later() -> None:
        with scope:
            await trio.sleep(after_s)
            if not scope.cancel_called:  # in the moment between its time and its turn
                call()

    trio.lowlevel.spawn_system_task(later)
    return scope.cancel


class Parking(Protocol):
    """How coroutines of one loop wait to be woken, one in each place: an anyio.Event without what only many need.

    `wake` is called in the loop, at whatever time; a place that was woken is not waited in.
    """

    def place(self) -> Any:
        """Return a place for one coroutine."""

    def park(self, place: Any) -> Awaitable[None]:
        """Return what a coroutine awaits in its place until it is woken."""

    def wake(self, place: Any) -> None:
        """Wake it, or whoever comes."""


def parking() -> Parking:
    """Return the running loop's parking."""
    return _Futures() if on_asyncio() else _Parked()


class _Futures:
    """Parking on asyncio: bare futures, which its C code knows."""

    __slots__ = ("place",)

    def __init__(self) -> None:
        self.place = asyncio.get_running_loop().create_future

    @staticmethod
    def park(place: "asyncio.Future[None]") -> "asyncio.Future[None]":
        return place

    @staticmethod
    def wake(place: "asyncio.Future[None]") -> None:
        if not place.done():
            place.set_result(None)


class _Parked:
    """Parking on trio: what its own primitives are made of."""

    __slots__ = ("_current", "_reschedule", "_succeeded", "_wait")

    def __init__(self) -> None:
        from trio import lowlevel

        self._current, self._reschedule = lowlevel.current_task, lowlevel.reschedule
        self._wait, self._succeeded = lowlevel.wait_task_rescheduled, lowlevel.Abort.SUCCEEDED

    @staticmethod
    def place() -> list[Any]:
        """Return a list that holds whoever waits, or None once it was woken."""
        return []

    async def park(self, place: list[Any]) -> None:
        if place:
            return
        place.append(self._current())

        def abort(_: object) -> Any:
            place[:] = [None]
            return self._succeeded

        await self._wait(abort)

    def wake(self, place: list[Any]) -> None:
        if place and place[0] is not None:
            self._reschedule(place[0])
        place[:] = [None]


def loop_clock() -> Callable[[], float]:
    """Return the running loop's clock, in seconds."""
    if on_asyncio():
        return asyncio.get_running_loop().time
    import trio

    return trio.current_time


def cancel_counter() -> Callable[[], int] | None:
    """Return what tells how often the calling coroutine's asyncio object was told to cancel; None on trio."""
    current = asyncio.current_task() if on_asyncio() else None
    return None if current is None else current.cancelling


async def absorb_cancellation() -> None:
    """Take up cancellations that came past anyio; what ends with one pending would cancel the whole group beside it."""
    current = asyncio.current_task() if on_asyncio() else None
    if current is None:
        return
    # Not until none is left: a cancellation from above is delivered again and again.
    for _ in range(current.cancelling()):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        current.uncancel()


def close_left_scopes(own: anyio.CancelScope) -> int:
    """Close the scopes that were left open inside the caller's own, innermost first; return how many.

    On asyncio only: anyio would not let go of the caller's own scope, nor of the group around it. They are found only
    where anyio keeps them; should that place move, nothing is closed and anyio's error ends the pool as it would have.
    trio closes them itself, and then raises.
    """
    count = 0
    if on_asyncio():
        from anyio._backends import _asyncio

        states = getattr(_asyncio, "_task_states", {})
        state = states.get(asyncio.current_task())
        while state is not None and state.cancel_scope is not None and state.cancel_scope is not own:
            state.cancel_scope.__exit__(None, None, None)
            count += 1
    return count


def keep_ctrl_c_out(function: Callable[..., Any]) -> None:
    """Have trio never raise a Ctrl-C inside a function and what it calls, but where the program's main function waits.

    Otherwise it would be raised in whatever handler runs at that moment, and be taken for that job's failure. asyncio
    tells its main function by itself.
    """
    if not on_asyncio():
        import trio

        trio.lowlevel.enable_ki_protection(function)


def own_coroutine() -> Any:
    """Return the outermost coroutine object of the caller; what `stack_of` reads."""
    if on_asyncio():
        current = asyncio.current_task()
        return None if current is None else current.get_coro()
    import trio

    return trio.lowlevel.current_task().coro


def stack_of(coroutine: Any) -> str:
    """Return where a suspended coroutine waits, as traceback text, the innermost call last; our own part left out."""
    frames: list[tuple[FrameType, int]] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    packages = [str(frame.f_globals.get("__package__")).partition(".")[0] for frame, _ in frames]
    if "headrace" in packages:
        frames = frames[len(packages) - packages[::-1].index("headrace") :]
    return "".join(traceback.StackSummary.extract(iter(frames)).format())
