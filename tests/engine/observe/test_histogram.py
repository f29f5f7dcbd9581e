"""Histograms: how near quantiles are to the truth, and that merging loses nothing."""

from fractions import Fraction
from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.observe.histogram import (
    BOUNDS_S,
    BUCKETS_COUNT,
    LONGEST_S,
    Buckets,
    Histogram,
    HistogramWire,
    WindowedHistogram,
    add_buckets,
)

durations = st.floats(min_value=1e-6, max_value=LONGEST_S)
anything = st.floats(allow_nan=True, allow_infinity=True)
shares = st.sampled_from(["0", "0.01", "0.5", "0.9", "0.99", "0.999", "1"])


def histogram_of(*values_s: float) -> Histogram:
    """Return a histogram of these durations."""
    histogram = Histogram()
    histogram.record_many(values_s)
    return histogram


@given(st.lists(durations, min_size=1, max_size=300), shares)
def test_a_quantile_is_near_the_true_one(values_s: list[float], share: str) -> None:
    """A quantile is within 3.2 % of the value that has its rank among all, from 1 us to 24 h."""
    true_s = sorted(values_s)[max(1, ceil(Fraction(share) * len(values_s))) - 1]
    assert pytest.approx(true_s, rel=1 / 32) == histogram_of(*values_s).quantile(float(share))


@given(st.lists(anything), st.lists(anything))
def test_merging_equals_recording_all_in_one(left_s: list[float], right_s: list[float]) -> None:
    """Two merged histograms equal one that saw the values of both."""
    merged = histogram_of(*left_s)
    merged.merge(histogram_of(*right_s))
    assert histogram_of(*left_s, *right_s) == merged


@given(st.lists(anything))
def test_one_by_one_equals_all_at_once(values_s: list[float]) -> None:
    """record() for each value gives what one record_many() gives."""
    single = Histogram()
    for value_s in values_s:
        single.record(value_s)
    assert histogram_of(*values_s) == single


@given(st.lists(anything))
def test_nothing_is_lost_and_nothing_grows(values_s: list[float]) -> None:
    """Every value is counted, whatever it is, in no more than BUCKETS_COUNT buckets."""
    histogram = histogram_of(*values_s)
    assert len(values_s) == histogram.count
    assert BUCKETS_COUNT >= len(histogram.to_wire().counts)


@given(st.lists(anything))
def test_the_wire_keeps_all(values_s: list[float]) -> None:
    """A histogram is the same after msgpack."""
    histogram = histogram_of(*values_s)
    data = msgspec.msgpack.encode(histogram.to_wire())
    assert histogram == Histogram.from_wire(msgspec.msgpack.decode(data, type=HistogramWire))


def test_the_wire_is_compact() -> None:
    """A thousand durations between 1 and 2 ms take less than 100 bytes."""
    histogram = histogram_of(*(0.001 + i * 1e-6 for i in range(1000)))
    assert 100 > len(msgspec.msgpack.encode(histogram.to_wire()))


@pytest.mark.parametrize("counts", [{BUCKETS_COUNT: 1}, {-1: 1}, {0: 0}])
def test_the_wire_refuses_what_no_histogram_holds(counts: dict[int, int]) -> None:
    """A bucket that does not exist, or one without values, is refused when decoded."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode([1.0, counts]), type=HistogramWire)


def test_an_empty_histogram_has_no_quantile() -> None:
    """Of nothing there is neither a median nor a longest."""
    assert (0, None, None) == (Histogram().count, Histogram().quantile(0.5), Histogram().max_s)


def test_what_is_no_duration_counts_as_nought() -> None:
    """NaN and negative values count as 0 and hide no longer value behind them."""
    histogram = histogram_of(float("nan"), -1.0, 2.0)
    assert (3, 2.0) == (histogram.count, histogram.max_s)
    assert 1e-6 >= (histogram.quantile(0.5) or 0)


def test_more_than_a_day_counts_as_a_day() -> None:
    """Durations past 24 h, infinity too, count as 24 h."""
    histogram = histogram_of(200_000.0, float("inf"))
    assert (2, LONGEST_S) == (histogram.count, histogram.max_s)
    assert pytest.approx(LONGEST_S, rel=1 / 32) == histogram.quantile(0.5)


def test_the_longest_is_exact() -> None:
    """The highest rank is the longest value itself, not its bucket's middle."""
    assert 0.0123456 == histogram_of(0.001, 0.0123456).quantile(1)


def test_a_share_outside_is_refused() -> None:
    """quantile(99) is a mistake for quantile(0.99), and says so."""
    with pytest.raises(ValueError, match=r"0\.99"):
        Histogram().quantile(99)


def test_the_window_forgets() -> None:
    """A duration is in the window for 50 to 60 s and then gone."""
    window = WindowedHistogram()
    window.record(1000.0, 0.5)
    assert 1 == window.snapshot(1000.0).count
    assert 1 == window.snapshot(1050.0).count
    assert 0 == window.snapshot(1060.0).count


def test_the_window_is_bounded() -> None:
    """Over an hour, a window never holds more than the six slices of its last minute."""
    window = WindowedHistogram()
    for second in range(3600):
        window.record_many(float(second), [0.001, 0.002])
    assert 6 == len(window._slices)
    assert 120 == window.snapshot(3599.0).count


def test_what_a_window_forgets_stays_counted() -> None:
    """ever() has all since the start, however old, and never falls; the window has the last minute's."""
    window = WindowedHistogram()
    counts = []
    for number in range(50):
        window.record_many(number * 7.0, [0.002, 40.0])
        found = window.ever()
        counts.append(sum(found.counts))
        assert counts[-1] * 20.001 * 0.95 < found.sum_s < counts[-1] * 20.001 * 1.05
    assert [2 * (number + 1) for number in range(50)] == counts
    assert window.snapshot(49 * 7.0).count < 20
    assert (50, 50) == (window.ever().counts[1], window.ever().counts[BOUNDS_S.index(60.0)])


def test_buckets_add_up_and_those_of_other_bounds_do_not() -> None:
    """Buckets of several workers are added bucket by bucket; nothing is added to nothing."""
    one = Histogram()
    one.record_many([0.002, 0.2])
    assert Buckets() == add_buckets([])
    assert one.buckets() == add_buckets([Buckets(), one.buckets(), Buckets((1,), 1.0)])
    both = add_buckets([one.buckets(), one.buckets()])
    assert (4, 2 * one.buckets().sum_s) == (sum(both.counts), both.sum_s)
