"""When is a batch due: by count, by bytes, or by age. A synchronous rule with the clock handed in.

Natural batching: while nothing is in flight and the pool has nothing left to do, what is there goes at once, so a lone
job never waits. While the pool is busy, a flush waits for `count` records or `age_s`, whichever is first, because a
round trip costs the same for one record as for a thousand.
"""

import msgspec


class BatchRule(msgspec.Struct, frozen=True):
    """Bounds of a batch.

    Attributes:
        count: Records at which it goes at once.
        age_s: Seconds after its first record at which it goes at the latest.
        count_max: The most records that one flush takes.
    """

    count: int
    age_s: float
    count_max: int

    def wait_s(self, pending: int, age_s: float, *, idle: bool) -> float:
        """Return how many seconds to wait before flushing; 0 for now.

        Args:
            pending: Records gathered so far.
            age_s: Seconds since the first of them.
            idle: True when no further record can be expected soon.
        """
        if idle or pending >= self.count:
            return 0.0
        return max(0.0, self.age_s - age_s)
