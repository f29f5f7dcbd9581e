"""Counters with sliding rates over the last second, ten seconds and minute.

A counter is a ring of one bucket a second, so its size is fixed and a batch costs one addition. The window's oldest
bucket counts by the share of it that the window still covers. Until a window has once been filled, its rate is what was
counted divided by the time elapsed since the start, not by the whole window. Each counter belongs to one thread; no
clock is read here, `now_s` is passed in.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

WINDOWS_S: Final = (1, 10, 60)
#: One bucket a second of the longest window, and one for the second that has just begun.
_RING: Final = WINDOWS_S[-1] + 1
#: The least time to divide by: a first batch one millisecond after the start is no proof of a thousandfold rate.
ELAPSED_MIN_S: Final = 0.1


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """How many a second, over three windows that end now. In the first seconds: over the time elapsed since the start.

    Attributes:
        last_1s (1/s): Over the last second.
        last_10s (1/s): Over the last 10 seconds.
        last_60s (1/s): Over the last 60 seconds.
    """

    last_1s: float = msgspec.field(default=0.0, name="1s")
    last_10s: float = msgspec.field(default=0.0, name="10s")
    last_60s: float = msgspec.field(default=0.0, name="60s")


def highest_rates(rates: Iterable[Rates]) -> Rates:
    """Return the highest of each window, as of several workers that look at the same thing."""
    each = list(rates)
    return Rates(
        last_1s=max((one.last_1s for one in each), default=0.0),
        last_10s=max((one.last_10s for one in each), default=0.0),
        last_60s=max((one.last_60s for one in each), default=0.0),
    )


def sum_rates(rates: Iterable[Rates]) -> Rates:
    """Return the rates of all together, as of several workers or handlers."""
    each = list(rates)
    return Rates(
        last_1s=sum(one.last_1s for one in each),
        last_10s=sum(one.last_10s for one in each),
        last_60s=sum(one.last_60s for one in each),
    )


class RateCounter:
    """Counts events, in all and by the second of the last minute.

    Args:
        started_s: Monotonic seconds from when events could happen: when the worker started.
    """

    __slots__ = ("_ring", "_second", "_started_s", "total")

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._second = int(started_s // 1)
        self._ring = [0] * _RING
        #: Events since the start.
        self.total = 0

    def add(self, now_s: float, count: int = 1) -> None:
        """Count `count` events at monotonic time `now_s`."""
        self._advance(now_s)
        self._ring[self._second % _RING] += count
        self.total += count

    def rates(self, now_s: float) -> Rates:
        """Return the rates over the windows that end at monotonic time `now_s`."""
        self._advance(now_s)
        elapsed_s = max(now_s - self._started_s, ELAPSED_MIN_S)
        one, ten, sixty = (self._rate(now_s, window_s, elapsed_s) for window_s in WINDOWS_S)
        return Rates(last_1s=one, last_10s=ten, last_60s=sixty)

    def _rate(self, now_s: float, window_s: int, elapsed_s: float) -> float:
        if elapsed_s < window_s:
            return self.total / elapsed_s
        ring, second = self._ring, self._second
        whole = sum(ring[(second - age) % _RING] for age in range(window_s))
        covered = 1.0 - min(max(now_s - second, 0.0), 1.0)
        return (whole + covered * ring[(second - window_s) % _RING]) / window_s

    def _advance(self, now_s: float) -> None:
        second = int(now_s // 1)
        if second <= self._second:  # the same second; or a caller's reading taken just before another's
            return
        for stale in range(max(self._second + 1, second - _RING + 1), second + 1):
            self._ring[stale % _RING] = 0
        self._second = second
