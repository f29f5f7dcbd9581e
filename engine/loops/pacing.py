"""How far the mover brings due jobs to their queues: until about 100 ms of this worker's work wait there.

A million jobs that are due in one second would otherwise stand before every job that is submitted after it. However
many wait, half as many due jobs are moved as this worker fetched, so that a queue which live jobs alone keep full does
not keep them out. A policy without I/O and with the clock handed in; owned by the mover.
"""

from collections.abc import Mapping
from typing import Final

from headrace.config import limits

from ..broker.port import Pace

#: Work that waits in a queue at a worker's speed: five times the pause between two looks, so it never runs dry.
AHEAD_S: Final = 0.1
#: The same in jobs for each slot, before any speed is known: one to start, one to follow it.
AHEAD_A_SLOT: Final = 2
#: The pause while due jobs are held back. It doubles, up to the longest, while nothing is fetched, as in a pause.
HELD_S: Final = 0.02
#: The longest pause: how late a job may be that another process delayed.
LONGEST_S: Final = 0.2
#: The shortest pause, when more may be moved at once: others have a turn at the server.
SHORTEST_S: Final = 0.001
#: Samples shorter than this say little of a speed: jobs are fetched in batches.
_SAMPLE_MIN_S: Final = 0.05
#: How fast a measured speed falls: by a quarter of the difference with each sample. It rises at once.
_SHARE: Final = 0.25


class Pacing:
    """The pace of each queue that a worker reads; several workers of a queue each see to their own share."""

    __slots__ = ("_again_s", "_count", "_is_held", "_meters")

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}
        self._again_s = HELD_S
        self._is_held = False
        self._count = 0

    def paces(self, now_s: float, fetched: Mapping[str, int], slots: Mapping[str, int]) -> dict[str, Pace]:
        """Return how far due jobs are to be moved now.

        Args:
            now_s: Monotonic seconds.
            fetched: For each queue, jobs that were fetched since the worker began.
            slots: For each queue, slots in which its jobs may run.
        """
        count = sum(fetched.values())
        self._again_s = min(LONGEST_S, self._again_s * 2) if self._is_held and count == self._count else HELD_S
        self._count = count
        return {
            queue: self._meters.setdefault(queue, _Meter(now_s)).pace(now_s, done, slots[queue], self._again_s)
            for queue, done in fetched.items()
        }

    def pause_s(self, next_s: float | None) -> float:
        """Return how long to wait, given what `promote` answered to the last paces."""
        self._is_held = next_s == self._again_s
        return LONGEST_S if next_s is None else max(SHORTEST_S, min(LONGEST_S, next_s))


class _Meter:
    """Measures how fast a worker takes jobs from one queue, and how many due ones it owes it."""

    __slots__ = ("_at_s", "_fetched", "_owed", "_per_s", "_seen")

    def __init__(self, now_s: float) -> None:
        self._at_s = now_s
        self._fetched = self._seen = 0
        self._per_s = self._owed = 0.0

    def pace(self, now_s: float, fetched: int, slots: int, again_s: float) -> Pace:
        passed_s = now_s - self._at_s
        if passed_s >= _SAMPLE_MIN_S:
            sample_per_s = (fetched - self._fetched) / passed_s
            fall = self._per_s - sample_per_s
            self._per_s = sample_per_s if fall < 0 else self._per_s - fall * _SHARE
            self._at_s, self._fetched = now_s, fetched
        # What one call cannot move is not saved up: it would come as a herd after all.
        self._owed = min(limits.PROMOTE_BATCH_MAX_COUNT, self._owed + (fetched - self._seen) / 2)
        self._seen = fetched
        least = int(self._owed)
        self._owed -= least
        return Pace(max(AHEAD_A_SLOT * slots, round(self._per_s * AHEAD_S)), least, again_s)
