"""Work: what a pool runs, seen from the pool. Lease-backed assignments and in-process tickets both have this shape.

The pool knows neither queues nor servers: it takes Work, starts it in a slot, and gives back one Outcome for each.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from headrace.workers.slot import Slot


class Work(Protocol):
    """One piece of work for one slot."""

    @property
    def timeout_s(self) -> float:
        """Seconds it may run; 0 for no limit."""

    @property
    def label(self) -> str:
        """The handler's name, for logs, statistics and the list of stuck work."""

    @property
    def offered_at_s(self) -> float:
        """Monotonic seconds when it was submitted, as near as the clocks of two machines allow."""

    def start(self, slot: "Slot") -> Awaitable[Any]:
        """Return the awaitable that runs it. Called in the slot's own task; may raise as the handler may."""
