"""How many jobs to hold beyond the free slots: as many as are worked off in HOLD_S at the present speed.

A policy without I/O and with the clock handed in. Fast handlers get deep prefetching, because a round trip must not
starve them; slow ones get none, because a job that waits here could run elsewhere. Large jobs get less, so that what is
held is bounded in bytes, too.
"""

from typing import Final

from headrace.config import limits

#: A fetch takes about a millisecond, up to 20 on a busy machine; twice that covers the one under way and the next.
HOLD_S: Final = 0.04
#: How fast the measured speed follows: a quarter of each new sample.
_SHARE: Final = 0.25
#: Samples shorter than this say nothing.
_SAMPLE_MIN_S: Final = 0.002


class Prefetch:
    """Measures one pool's speed, and the size of its jobs.

    Attributes:
        depth: Jobs to hold beyond the free slots.
    """

    __slots__ = ("_at_s", "_done", "_each_bytes", "_per_s", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self._per_s = 0.0
        self._at_s = 0.0
        self._done = 0
        self._each_bytes = 1.0

    def weigh(self, count: int, size_bytes: int) -> None:
        """Take in that `count` jobs of so many bytes in all were fetched."""
        sample_bytes = max(1.0, size_bytes / count)
        # As with the speed: large ones may be followed by more of them.
        if sample_bytes > self._each_bytes:
            self._each_bytes = sample_bytes
            self.depth = self._bounded(self.depth)
        else:
            self._each_bytes += (sample_bytes - self._each_bytes) * _SHARE

    def observe(self, now_s: float, done_count: int) -> int:
        """Take in how many jobs the pool has done so far, and return the depth.

        Args:
            now_s: Monotonic seconds.
            done_count: Jobs that ended since the pool began.
        """
        passed_s = now_s - self._at_s
        if passed_s < _SAMPLE_MIN_S:
            return self.depth
        sample_per_s = (done_count - self._done) / passed_s
        # Up at once, down slowly: a pause in the supply says nothing about the handlers' speed.
        if sample_per_s > self._per_s:
            self._per_s = sample_per_s
        else:
            self._per_s += (sample_per_s - self._per_s) * _SHARE
        self._at_s, self._done = now_s, done_count
        self.depth = self._bounded(int(self._per_s * HOLD_S))
        return self.depth

    def _bounded(self, depth: int) -> int:
        return min(depth, limits.PREFETCH_MAX_COUNT, int(limits.PREFETCH_MAX_BYTES / self._each_bytes))
