"""What anyio leaves to the loop beneath it: a coroutine cancelled past anyio, Ctrl-C on trio, where a coroutine is now.

Each function asks which loop runs and does nothing where the matter does not arise. Nothing here keeps state.
"""

import asyncio
import math
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import anyio


def on_asyncio() -> bool:
    """Return whether the running loop is asyncio's; a trio that is asyncio's guest is not."""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


def is_cancelled() -> bool:
    """Return whether the calling coroutine is cancelled by a scope around it, and not by a stray of its own making."""
    return anyio.current_effective_deadline() == -math.inf


def call_later(after_s: float, call: Callable[[], object]) -> Callable[[], object] | None:
    """Have the running loop call something later, at a sixth of a cancel scope's price; None on trio, which cannot.

    Args:
        after_s: Seconds until then.
        call: What is called, in the loop; must be short and must not raise.

    Returns:
        What calls it off.
    """
    return asyncio.get_running_loop().call_later(after_s, call).cancel if on_asyncio() else None


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
