"""CoroutineRunner: runs async handlers on the loop itself.

It binds a handler to its own function, so that the common case costs nothing, and owns nothing.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Self

from headrace.workers.runner import Invocation

if TYPE_CHECKING:
    from headrace.jobs.handler import HandlerPlan


class CoroutineRunner:
    """Runs async handlers in the slot that awaits them."""

    name: str = "async"
    stops_on_cancel: bool = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def bind(self, plan: "HandlerPlan") -> Invocation:
        """Return the handler's function."""
        function: Invocation = plan.function
        return function
