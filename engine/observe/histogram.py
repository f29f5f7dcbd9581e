"""Histograms of durations: bounded, mergeable, and cheap enough to see every job.

A bucket is the top 16 bits of a float64: its exponent and 4 bits of its mantissa, so 16 buckets an octave, found
without a logarithm. A quantile is the middle of its bucket: at most 1/32 (3.2 %) off from 1 us to 24 h; shorter counts
as 1 us, longer as 24 h. A Histogram is never larger than BUCKETS_COUNT entries. Each belongs to the one thread that
records into it; no clock is read here, `now_s` is passed in.
"""

import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from math import ceil
from struct import pack, unpack
from typing import Annotated, Final, Self

import msgspec

SHORTEST_S: Final = 1e-6
LONGEST_S: Final = 86_400.0


def _top_bits(value: float) -> int:
    return int(unpack(">H", pack(">d", value)[:2])[0])


_LOWEST: Final = _top_bits(SHORTEST_S)
_HIGHEST: Final = _top_bits(LONGEST_S)
_INFINITE: Final = _top_bits(float("inf"))
#: Where the top 16 bits are among the four 16-bit words of a float64.
_TOP_WORD: Final = 3 if sys.byteorder == "little" else 0

#: The most buckets that a histogram can have.
BUCKETS_COUNT: Final = _HIGHEST - _LOWEST + 1


def _lower_edge(index: int) -> float:
    return float(unpack(">d", pack(">HHHH", _LOWEST + index, 0, 0, 0))[0])


_MIDDLES_S: Final = tuple((_lower_edge(i) + _lower_edge(i + 1)) / 2 for i in range(BUCKETS_COUNT))


class HistogramWire(msgspec.Struct, frozen=True, array_like=True):
    """A histogram as it crosses processes; decoding checks that no bucket lies outside.

    Attributes:
        max_s: The longest duration in seconds, 0 when empty.
        counts: Values in each bucket that has any, by the bucket's index.
    """

    max_s: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_S)] = 0.0
    counts: dict[
        Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS_COUNT)],
        Annotated[int, msgspec.Meta(ge=1)],
    ] = {}


#: Upper bounds of coarse buckets in seconds: from what a job costs at least to what people start in the evening.
BOUNDS_S: Final = (
    0.001,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    1800.0,
    7200.0,
)


class Buckets(msgspec.Struct, frozen=True, array_like=True):
    """Durations in few buckets, as Prometheus wants them: small enough to be published for each handler each second.

    Attributes:
        counts: How many are between each of BOUNDS_S and the one before it, and last those beyond all; empty for none.
            A duration within 3.2 % of a bound may be on its other side.
        sum_s: All together in seconds, at most 3.2 % off. Neither ever falls while more are counted.
    """

    counts: tuple[int, ...] = ()
    sum_s: float = 0.0


def add_buckets(same: Iterable[Buckets]) -> Buckets:
    """Return the buckets of all together; those of another version's bounds are left out."""
    each = [one for one in same if len(one.counts) == len(BOUNDS_S) + 1]
    return Buckets(tuple(map(sum, zip(*(one.counts for one in each), strict=True))), sum(one.sum_s for one in each))


class Histogram:
    """Counts of durations in buckets of equal relative width."""

    __slots__ = ("_counts", "_max_s")

    def __init__(self) -> None:
        #: By the top 16 bits of the values in the bucket.
        self._counts: Counter[int] = Counter()
        self._max_s = 0.0

    def record(self, value_s: float) -> None:
        """Count one duration in seconds; for more than one, record_many is far cheaper."""
        self.record_many((value_s,))

    def record_many(self, values_s: Iterable[float]) -> None:
        """Count durations in seconds; an array("d") is taken as it is, anything else is copied into one.

        What is no duration counts as 0: NaN, and the negative values that the clocks of two machines may give.
        """
        column = values_s if type(values_s) is array and values_s.typecode == "d" else array("d", values_s)
        if not column:
            return
        # All work on single values is done in C: about 70 ns each in batches of 500, where a loop takes 170. What is
        # done in Python is done for each bucket, and a batch fills a few.
        found = Counter(memoryview(column).cast("B").cast("H")[_TOP_WORD::4].tolist())
        highest = max(found)
        counts = self._counts
        if min(found) >= _LOWEST and highest <= _HIGHEST:
            for word, count in found.items():
                counts[word] += count
            if _MIDDLES_S[highest - _LOWEST] > self._max_s * 0.9:  # else it is buckets away from being the longest
                longest_s = max(column)
                self._max_s = max(self._max_s, min(longest_s, LONGEST_S))
            return
        for word, count in found.items():
            # NaN and negative values have larger top bits than infinity.
            counts[_LOWEST if word < _LOWEST or word > _INFINITE else min(word, _HIGHEST)] += count
        longest_s = max((value for value in column if value > 0), default=0.0)
        self._max_s = max(self._max_s, min(longest_s, LONGEST_S))

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self._counts.values())

    @property
    def max_s(self) -> float | None:
        """The longest duration in seconds, exactly, but at most 24 h; None when empty."""
        return self._max_s if self._counts else None

    def quantile(self, q: float) -> float | None:
        """Return the duration in seconds that the share `q` (0 to 1) of all does not exceed; None when empty.

        It is the value of rank ceil(q * count), at most 3.2 % off; a value under 1 us is given as 1 us or less.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"quantile({q!r}): give a share from 0 to 1, such as 0.99")
        if not self._counts:
            return None
        # 0.999 * 1000 and its like may come out a hair above the whole number.
        rank = max(1, ceil(q * self.count - 1e-9))
        if rank >= self.count:
            return self._max_s
        seen = 0
        for word in sorted(self._counts):
            seen += self._counts[word]
            if seen >= rank:
                return min(_MIDDLES_S[word - _LOWEST], self._max_s)
        return self._max_s

    def buckets(self) -> "Buckets":
        """Return the counts between BOUNDS_S, and the sum."""
        counts, sum_s = [0] * (len(BOUNDS_S) + 1), 0.0
        for word, count in self._counts.items():
            middle_s = _MIDDLES_S[word - _LOWEST]
            counts[bisect_left(BOUNDS_S, middle_s)] += count
            sum_s += middle_s * count
        return Buckets(tuple(counts), sum_s)

    def merge(self, other: "Histogram") -> None:
        """Add all that `other` counted, as if it had been recorded here."""
        self.merge_wire(other.to_wire())

    def merge_wire(self, wire: HistogramWire) -> None:
        """Add all that was counted by the histogram that `wire` is of."""
        counts = self._counts
        for index, count in wire.counts.items():
            counts[index + _LOWEST] += count
        self._max_s = max(self._max_s, wire.max_s)

    def to_wire(self) -> HistogramWire:
        """Return the record that crosses processes: only buckets that have values."""
        return HistogramWire(max_s=self._max_s, counts={word - _LOWEST: count for word, count in self._counts.items()})

    @classmethod
    def from_wire(cls, wire: HistogramWire) -> Self:
        """Return the histogram that was sent."""
        histogram = cls()
        histogram.merge_wire(wire)
        return histogram

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self._counts == other._counts and self._max_s == other._max_s

    __hash__ = None  # type: ignore[assignment]  # it changes, so it is no key

    def __repr__(self) -> str:
        return f"<Histogram of {self.count}, max {self._max_s:.6f} s>"


#: Six slices of ten seconds: the window is the last 50 to 60 s, and forgets in steps of 10 s.
WINDOW_S: Final = 60
_SLICE_S: Final = 10


class WindowedHistogram:
    """The durations of the last 50 to 60 seconds, in six histograms that take turns; and all since the start."""

    __slots__ = ("_past", "_slices")

    def __init__(self) -> None:
        self._slices: dict[int, Histogram] = {}
        #: What the slices held that took their turn before these.
        self._past = Buckets()

    def record(self, now_s: float, value_s: float) -> None:
        """Count one duration in seconds at monotonic time `now_s`."""
        self._slice(now_s).record(value_s)

    def record_many(self, now_s: float, values_s: Iterable[float]) -> None:
        """Count durations in seconds at monotonic time `now_s`."""
        self._slice(now_s).record_many(values_s)

    def snapshot(self, now_s: float) -> Histogram:
        """Return a new histogram of what the window holds at monotonic time `now_s`."""
        whole = Histogram()
        oldest = self._oldest(now_s)
        for number, histogram in self._slices.items():
            if number >= oldest:
                whole.merge(histogram)
        return whole

    def ever(self) -> Buckets:
        """Return all since the start."""
        return add_buckets([self._past, *[histogram.buckets() for histogram in self._slices.values()]])

    def _slice(self, now_s: float) -> Histogram:
        number = int(now_s // _SLICE_S)
        histogram = self._slices.get(number)
        if histogram is None:
            oldest = self._oldest(now_s)
            for left in [n for n in self._slices if n < oldest]:
                self._past = add_buckets((self._past, self._slices.pop(left).buckets()))
            histogram = self._slices[number] = Histogram()
        return histogram

    @staticmethod
    def _oldest(now_s: float) -> int:
        return int(now_s // _SLICE_S) - WINDOW_S // _SLICE_S + 1
