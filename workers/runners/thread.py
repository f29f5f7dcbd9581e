"""ThreadRunner: runs plain functions in daemon threads of its own.

While a thread runs, the slot that awaits it does not end; so the slots bound the threads, and a job that cannot be
stopped stays accounted. Only a forced stop cancels such a slot: then the thread is abandoned, stays counted in
`running` until it ends, and keeps neither the loop nor the interpreter from exiting. The threads live until the runner
is left and take calls from one queue. A call's result is written by its thread, and read by its slot afterwards.
"""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from headrace.jobs.failures import failure_of
from headrace.workers.runner import Invocation, RemoteFailure

from .portal import Portal

try:
    from sniffio import current_async_library_cvar as _loop_name
except ImportError:  # only there where trio or an older anyio brought it
    _loop_name = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from headrace.jobs.handler import HandlerPlan

#: Raised by a handler in a thread, these would be taken for the cancellation of the slot that awaits it.
_LOOKS_CANCELLED: Final = (asyncio.CancelledError, concurrent.futures.CancelledError)


class _Call:
    """One run of a handler: made and read by its slot, run by one thread."""

    __slots__ = ("context", "done", "ended", "error", "function", "ident", "unclaimed", "value")

    def __init__(self, function: Callable[[], Any], context: contextvars.Context) -> None:
        self.function = function
        self.context = context
        self.done = anyio.Event()
        self.value: Any = None
        self.error: BaseException | None = None
        self.ident: int | None = None
        self.ended = False
        self.unclaimed = [True]

    def claim(self) -> bool:
        """Return True to the first who asks: the thread, to run it, or the cancelled slot, so that it never runs."""
        try:
            return self.unclaimed.pop()  # one step, so that only one of two threads gets it
        except IndexError:
            return False

    def run(self) -> None:
        """Call the handler and keep what it gave; never raises."""
        self.ident = threading.get_ident()
        try:
            self.value = self.context.run(self.function)
        except BaseException as error:  # noqa: BLE001 - SystemExit too is the slot's to judge
            self.error = error
        finally:
            self.ident = None
            self.ended = True


class ThreadRunner:
    """Runs plain functions in at most `slots` threads.

    Args:
        slots: Threads at most, the abandoned ones included; a call beyond that waits for a free one.
    """

    name: str = "thread"
    stops_on_cancel: bool = False

    def __init__(self, slots: int) -> None:
        self._slots: Final = slots
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._calls: Final[dict[int, _Call]] = {}
        self._abandoned: Final[set[_Call]] = set()
        self._thread_count = 0
        self._portal: Portal | None = None

    async def __aenter__(self) -> Self:
        self._portal = Portal.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self._thread_count):
            self._queue.put(None)
        self._thread_count = 0
        # Abandoned threads read this queue when they end; a runner entered again must not take their ends from them.
        self._queue = SimpleQueue()

    @property
    def running(self) -> int:
        """Calls that are taken and not ended, those of abandoned threads included."""
        return len(self._calls) + len(self._abandoned)

    @property
    def abandoned(self) -> int:
        """Threads that still run though their slot was cancelled."""
        return len(self._abandoned)

    def bind(self, plan: "HandlerPlan") -> Invocation:
        """Return an async callable that runs the handler's function in a thread, with the caller's context variables.

        Whatever the function raises is raised in the awaiting slot, SystemExit and KeyboardInterrupt included; a
        CancelledError of its own arrives as RemoteFailure, since the slot was not cancelled.
        """
        function = plan.function

        async def invoke(*args: Any, **kwargs: Any) -> Any:
            return await self._run(lambda: function(*args, **kwargs))

        return invoke

    def stack_of(self, token: int) -> str:
        """Return where a running job is now, as traceback text, the innermost call last.

        Args:
            token: `anyio.get_current_task().id` of the slot that awaits the job.

        Returns:
            Empty when no thread runs for that slot.
        """
        call = self._calls.get(token)
        ident = call.ident if call is not None else None
        frame = sys._current_frames().get(ident) if ident is not None else None  # noqa: SLF001 - the only way there is
        if frame is None:
            return ""
        frames = []
        for inner, line in traceback.walk_stack(frame):
            if inner.f_globals.get("__name__") == __name__:
                break
            frames.append((inner, line))
        return "".join(traceback.StackSummary.extract(iter(reversed(frames))).format())

    async def _run(self, function: Callable[[], Any]) -> Any:
        if self._portal is None:
            raise RuntimeError("the thread runner is used before `async with`; a defect of its owner")
        context = contextvars.copy_context()
        if _loop_name is not None:
            context.run(_loop_name.set, None)  # the thread has no loop, and may start one of its own
        call = _Call(function, context)
        token = anyio.get_current_task().id
        self._calls[token] = call
        try:
            self._start_thread_if_needed()
            self._queue.put(call)
            await call.done.wait()
        except BaseException:
            if not call.done.is_set() and not call.claim():
                self._abandoned.add(call)
                if call.ended:  # the thread may have looked for it there before it was
                    self._abandoned.discard(call)
            raise
        finally:
            del self._calls[token]
        error = call.error
        if error is None:
            return call.value
        try:
            if issubclass(type(error), _LOOKS_CANCELLED):
                raise RemoteFailure(failure_of(error)) from None
            raise error
        finally:
            del error, call  # their frames hold each other otherwise, until the garbage collector comes

    def _start_thread_if_needed(self) -> None:
        if self._thread_count < min(self.running, self._slots):
            number = self._thread_count + 1
            thread = threading.Thread(
                target=self._serve, args=(self._queue, self._portal), name=f"headrace-{number}", daemon=True
            )
            thread.start()
            self._thread_count = number

    def _serve(self, queue: SimpleQueue[_Call | None], portal: Portal) -> None:
        """Run calls until None arrives: the body of each thread."""
        while (call := queue.get()) is not None:
            if call.claim():
                call.run()
                self._abandoned.discard(call)
                portal.post(call.done.set)
            del call  # an idle thread must not keep the last result alive
