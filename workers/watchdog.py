"""The watchdog of a pool: looks at deadlines, stops what is overdue, and names what goes on all the same.

It looks through the slots only when the soonest deadline has come, so ten thousand slots that work in time cost
nothing. Slots belong to their pool; the watchdog owns only its appointments.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

from headrace.config import limits
from headrace.config.logs import logger

from . import native
from .slot import Slot

#: How often deadlines are looked at: half of the promised precision of 20 ms.
WATCH_S: Final = 0.01
#: Work that goes on this long after it was told to stop is listed as stuck.
STUCK_AFTER_S: Final = 1.0
#: How often all slots are looked through although no deadline has come: for slots that somebody else told to stop.
ROUND_S: Final = 0.5

log = logger("headrace.pool")


class Watchdog:
    """Watches one pool's slots.

    Args:
        runner: The runner's name, for logs.
        slots: The pool's slots; read at each look.
        stops_on_cancel: Whether cancelling a slot stops its work; see Runner.
        stack_of: Returns where the job of a slot is now, by the slot's token; None for work that runs in the loop.

    Attributes:
        soonest_s: Monotonic seconds before which no slot is due; pulled forward by whoever sets an earlier deadline.
    """

    __slots__ = ("_round_at_s", "_runner", "_slots", "_stack_of", "_stops_on_cancel", "soonest_s")

    def __init__(
        self,
        runner: str,
        slots: Mapping[int, Slot],
        *,
        stops_on_cancel: bool,
        stack_of: Callable[[int], str] | None = None,
    ) -> None:
        self._runner = runner
        self._slots = slots
        self._stops_on_cancel = stops_on_cancel
        self._stack_of = stack_of
        self._round_at_s = 0.0
        self.soonest_s = math.inf

    def look(self, now_s: float) -> None:
        """Stop what is overdue at monotonic time `now_s`, and log once what does not stop."""
        if now_s < self.soonest_s and now_s < self._round_at_s:
            return
        self._round_at_s = now_s + ROUND_S
        for slot in [slot for slot in self._slots.values() if slot.work is not None and self._due_s(slot) <= now_s]:
            self._attend(slot, now_s)
        self.soonest_s = min(map(self._due_s, self._slots.values()), default=math.inf)

    def stack(self, slot: Slot) -> str:
        """Return where the work of a slot is now, as traceback text; empty where it cannot be told."""
        if self._stack_of is not None:
            return self._stack_of(slot.token)
        return native.stack_of(slot.coroutine)

    def _due_s(self, slot: Slot) -> float:
        """Return when a slot has to be looked at next; its own deadline, in the usual case."""
        if slot.cancel_reason is not None:
            return math.inf if slot.stuck else slot.told_at_s + STUCK_AFTER_S
        if self._stops_on_cancel or slot.deadline_s != math.inf:
            return slot.deadline_s
        if slot.work is None or slot.warned_of is slot.work:
            return math.inf
        return slot.started_at_s + limits.THREAD_STUCK_WARNING_S

    def _attend(self, slot: Slot, now_s: float) -> None:
        if slot.work is None:  # stopping another one ended this one, too
            return
        running_s = round(now_s - slot.started_at_s, 1)
        if slot.cancel_reason is None and slot.deadline_s > now_s:
            slot.warned_of = slot.work
            log.warning(
                "long in a thread, without a timeout",
                handler=slot.work.label,
                running_s=running_s,
                stack=self.stack(slot),
            )
            return
        if slot.cancel_reason is None:
            slot.cancel("timeout", stop=self._stops_on_cancel)
            if self._stops_on_cancel:
                return
        slot.stuck = True
        log.warning(
            "stuck",
            handler=slot.work.label,
            runner=self._runner,
            running_s=running_s,
            told=slot.cancel_reason,
            stack=self.stack(slot),
        )
