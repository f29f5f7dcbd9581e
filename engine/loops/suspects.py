"""Suspects: jobs that were started so often without an outcome that they may be what kills workers.

A policy, synchronous and without I/O. A worker runs one suspect at a time: should it die under it, only that one comes
nearer to its end, and no job that merely ran beside it. Owned by one worker's loop.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from headrace.jobs.outcome import Outcome

from ..broker.port import Caution
from .assignment import Assignment

#: Starts short of the limit at which a job becomes a suspect: two more deaths are left to prove it.
MARGIN: Final = 2


def starts_of(assignment: Assignment) -> int:
    """Return how often the job was started before, as far as a crash may have cut it short."""
    options = assignment.envelope.options
    return assignment.lease.starts + (options.deliveries if options is not None else 0)


class Suspects:
    """Lets one suspect run at a time.

    Args:
        max_deliveries: The limits of the worker's handlers.
    """

    __slots__ = ("_current", "_from_starts", "_waiting")

    def __init__(self, max_deliveries: Iterable[int]) -> None:
        # By the strictest handler: the sweep does not know whose job an entry is.
        self._from_starts = max(1, min(max_deliveries, default=MARGIN) - MARGIN)
        self._current: Assignment | None = None
        self._waiting: deque[Assignment] = deque()

    @property
    def caution(self) -> Caution:
        """How to take over what dead workers left: one suspect, when none is here."""
        return Caution(self._from_starts, 0 if self._current is not None or self._waiting else 1)

    def sift(self, batch: Sequence[Assignment]) -> Sequence[Assignment]:
        """Return what may start now; the rest waits here, leased, for its turn."""
        if not any(assignment.lease.starts or assignment.envelope.options for assignment in batch):
            return batch
        free: list[Assignment] = []
        for assignment in batch:
            starts = starts_of(assignment)
            if starts < self._from_starts:
                free.append(assignment)
            elif self._current is None:
                self._current = assignment
                free.append(assignment)
            else:
                self._waiting.append(assignment)
        return free

    def next_after(self, outcomes: Iterable[Outcome]) -> Assignment | None:
        """Return the suspect whose turn it is when the one that ran is among these; None when there is none."""
        if self._current is None or not any(outcome.work is self._current for outcome in outcomes):
            return None
        self._current = self._waiting.popleft() if self._waiting else None
        return self._current

    def take_back(self) -> list[Assignment]:
        """Return those that wait, and forget them."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
