"""Suspects: jobs that were started so often without an outcome that they may be what kills workers.

A policy, synchronous and without I/O. A worker runs one suspect at a time: should it die under it, only that one comes
nearer to its end, and no job that merely ran beside it. One more waits here; the others go round again with a pause,
so that they neither pile up here nor come back at once. Owned by one worker's loop.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from headrace.jobs.codec import repack
from headrace.jobs.outcome import Outcome, Status

from ..broker.port import Caution
from .assignment import Assignment, Unread, carried

#: Starts short of the limit at which a job becomes a suspect: two more deaths are left to prove it, where the limit is
#: high enough that a job which merely ran beside a death is no suspect yet; see docs/decisions/0009-suspects.md.
MARGIN: Final = 2
#: Pauses of a suspect for which there is no place: longer the more of them came, so that thousands cost little.
FIRST_PAUSE_MS, LONGEST_PAUSE_MS, EACH_MS = 1000, 60_000, 100


def starts_of(assignment: Assignment) -> int:
    """Return how often the job was started before, as far as a crash may have cut it short."""
    options = assignment.envelope.options
    return assignment.lease.starts + (options.deliveries if options is not None else 0)


class Suspects:
    """Lets one suspect run at a time.

    Args:
        max_deliveries: The limits of the worker's handlers, by name and alias.
        default: The limit of jobs whose handler is not known here.
    """

    __slots__ = ("_by_name", "_current", "_next", "_next_came_s", "_strictest", "_turned_away", "_turned_away_count")

    def __init__(self, max_deliveries: Mapping[str, int], default: int) -> None:
        limits = {name: suspect_from(limit) for name, limit in max_deliveries.items()}
        # The sweep asks for the name of what has come as far as the strictest.
        self._strictest = min(suspect_from(default), *limits.values()) if limits else suspect_from(default)
        self._by_name = {name: limit for name, limit in limits.items() if limit != self._strictest}
        self._current: Assignment | None = None
        self._next: Assignment | None = None
        self._next_came_s = 0.0
        self._turned_away: list[Outcome] = []
        self._turned_away_count = 0  # since there was last nobody waiting

    @property
    def caution(self) -> Caution:
        """How to take over what dead workers left: one suspect, when none is here."""
        return Caution(self._strictest, 0 if self._current is not None else 1, self._by_name)

    @property
    def waiting(self) -> int:
        """Suspects that wait here for their turn: one at the most."""
        return int(self._next is not None)

    def sift(self, batch: Sequence[Assignment]) -> Sequence[Assignment]:
        """Return what may start now; of the rest one waits here, leased, and the others are for `turned_away`."""
        for assignment in batch:  # as `starts_of`, without a call for each
            options = assignment.envelope.options
            if assignment.lease.starts or (options is not None and options.deliveries):
                break
        else:
            return batch
        free: list[Assignment] = []
        for assignment in batch:
            starts = starts_of(assignment)
            if starts < suspect_from(assignment.max_deliveries):
                free.append(assignment)
            elif self._current is None:
                self._current = assignment
                free.append(assignment)
            elif self._next is None:
                self._next, self._next_came_s = assignment, time.monotonic()
            else:
                self._turned_away.append(self._turn_away(assignment))
        return free

    def turned_away(self) -> list[Outcome]:
        """Return the outcomes of those for which there was no place, once."""
        outcomes, self._turned_away = self._turned_away, []
        return outcomes

    def next_after(self, outcomes: Iterable[Outcome]) -> Assignment | None:
        """Return the suspect whose turn it is when the one that ran is among these; None when there is none."""
        if self._current is None or not any(outcome.work is self._current for outcome in outcomes):
            return None
        self._current, self._next = self._next, None
        if self._current is None:
            self._turned_away_count = 0
        return self._current

    def take_back(self, running: Iterable[object] = ()) -> list[Assignment]:
        """Return who waits, and forget it; also the one whose turn it is, unless it is among those that run."""
        waiting = [] if self._next is None else [self._next]
        self._next = None
        if not any(work is self._current for work in running):
            self._current = None
        return waiting

    def withdraw(self, chosen: Callable[[Assignment], bool]) -> list[Assignment]:
        """Take out the one that waits, when it is chosen."""
        if self._next is None or not chosen(self._next):
            return []
        taken, self._next = [self._next], None
        return taken

    def take_old(self, before_s: float) -> list[Assignment]:
        """Take out the one that waits, when it came before a monotonic time: another worker may run no suspect now."""
        return self.withdraw(lambda _: self._next_came_s < before_s)

    def _turn_away(self, assignment: Assignment) -> Outcome:
        self._turned_away_count += 1
        delay_ms = min(LONGEST_PAUSE_MS, max(FIRST_PAUSE_MS, EACH_MS * self._turned_away_count))
        why = f"started {starts_of(assignment)} times without an outcome; this worker runs one such job at a time"
        body = repack(assignment.envelope, carried(assignment.lease, assignment.envelope))
        return Outcome(
            Unread(assignment.lease, assignment.label, "suspect", why, delay_ms=delay_ms, body=body), Status.UNREADABLE
        )


def suspect_from(max_deliveries: int) -> int:
    """Return from how many starts without an outcome on a job is a suspect: 3 of 5, 2 of 3, 1 of 2."""
    return max(1, max_deliveries - max(1, min(MARGIN, (max_deliveries - 1) // 2)))
