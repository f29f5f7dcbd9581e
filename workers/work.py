"""Work: what a pool runs, seen from the pool. Lease-backed assignments and in-process tickets both have this shape.

The pool knows neither queues nor servers: it takes Work, starts it in a slot, and gives back one Outcome for each.
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from headrace.workers.slot import Slot


class Work(Protocol):
    """One piece of work for one slot.

    Attributes:
        timeout_s: Seconds it may run; 0 for no limit.
        label: The handler's name, for logs, statistics and the list of stuck work.
        offered_at_s: Monotonic seconds when it was submitted, as near as the clocks of two machines allow.
    """

    timeout_s: float
    label: str
    offered_at_s: float

    def start(self, slot: "Slot") -> Awaitable[Any]:
        """Return the awaitable that runs it. Called in the slot's own task; may raise as the handler may."""
