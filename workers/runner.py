"""The port that every runner fills: a way to run a handler.

A runner turns a handler's function into an async callable that a slot awaits. The coroutine runner returns the function
itself, so that the common case costs nothing. Runners own their threads and child processes; they know no queue.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from headrace.jobs.outcome import Failure

if TYPE_CHECKING:
    from headrace.jobs.handler import HandlerPlan

#: What a runner makes of a handler: called as the handler itself is called.
Invocation = Callable[..., Awaitable[Any]]


class RemoteFailure(Exception):
    """A handler raised where its exception could not be handed over as an object.

    Attributes:
        failure: That exception as text.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Runner(Protocol):
    """A way to run handlers.

    Attributes:
        name: "async", "thread" or "process": the name in statistics and in `@job(runner=...)`.
        stops_on_cancel: Whether cancelling the awaiting slot ends the work. False for threads: their slot is left
            uncancelled at the deadline, stays taken, and is listed as stuck until the thread ends.
    """

    name: str
    stops_on_cancel: bool

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def bind(self, plan: "HandlerPlan") -> Invocation:
        """Return the async callable for a handler: takes the Context first where the plan wants it, then its arguments.

        Raises:
            ConfigError: this runner cannot run the handler, as a process a local function: the declaration's fault.
        """
