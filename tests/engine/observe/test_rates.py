"""Sliding rates, with the time passed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.observe.rates import RateCounter, Rates, sum_rates


def rates_of(one: float, ten: float, sixty: float) -> object:
    """Return what equals Rates of these figures up to rounding."""
    return pytest.approx((one, ten, sixty))


def figures(rates: Rates) -> tuple[float, float, float]:
    """Return the three rates."""
    return rates.last_1s, rates.last_10s, rates.last_60s


def test_a_steady_stream_has_its_rate_in_every_window() -> None:
    """100 events every tenth of a second are 1000 a second over 1, 10 and 60 s, on a second and in the midst of one."""
    counter = RateCounter(0.0)
    for tenth in range(1200):
        counter.add(tenth / 10, 100)
    assert rates_of(1000, 1000, 1000) == figures(counter.rates(120.0))
    for tenth in range(1200, 1203):
        counter.add(tenth / 10, 100)
    assert rates_of(1000, 1000, 1000) == figures(counter.rates(120.3))
    assert 120_300 == counter.total


def test_the_first_seconds_are_divided_by_the_time_elapsed() -> None:
    """50 events in the first half second are 100 a second in every window, not 50 / 60."""
    counter = RateCounter(1000.25)
    counter.add(1000.5, 50)
    assert rates_of(100, 100, 100) == figures(counter.rates(1000.75))


def test_the_first_instant_is_no_proof_of_speed() -> None:
    """A batch at the very start is divided by a tenth of a second, not by nought."""
    counter = RateCounter(5.0)
    counter.add(5.0, 10)
    assert rates_of(100, 100, 100) == figures(counter.rates(5.0))


def test_a_burst_leaves_each_window_in_turn() -> None:
    """600 events in one second are in the windows of 1, 10 and 60 s until these have passed them."""
    counter = RateCounter(0.0)
    counter.add(100.5, 600)
    assert rates_of(600, 60, 10) == figures(counter.rates(101.0))
    assert rates_of(0, 60, 10) == figures(counter.rates(105.0))
    assert rates_of(0, 0, 10) == figures(counter.rates(120.0))
    assert rates_of(0, 0, 0) == figures(counter.rates(162.0))
    assert 600 == counter.total


def test_a_long_silence_leaves_nothing_behind() -> None:
    """After an hour without events the ring holds nothing of the time before."""
    counter = RateCounter(0.0)
    for second in range(100):
        counter.add(float(second), 7)
    assert rates_of(0, 0, 0) == figures(counter.rates(3700.0))


def test_a_reading_from_just_before_is_counted_now() -> None:
    """A time slightly before another's does not open a second again nor lose the event."""
    counter = RateCounter(0.0)
    counter.add(100.01, 1)
    counter.add(99.99, 1)
    assert 2 == counter.total
    assert rates_of(2, 0.2, 2 / 60) == figures(counter.rates(100.5))


@given(st.lists(st.tuples(st.floats(0, 300), st.integers(0, 1000)), max_size=60))
def test_rates_add_over_workers(events: list[tuple[float, int]]) -> None:
    """The sum of two workers' rates is the rate of one that counted the events of both."""
    both, left, right = RateCounter(0.0), RateCounter(0.0), RateCounter(0.0)
    for number, (now_s, count) in enumerate(sorted(events)):
        both.add(now_s, count)
        (left, right)[number % 2].add(now_s, count)
    assert rates_of(*figures(both.rates(300.0))) == figures(sum_rates([left.rates(300.0), right.rates(300.0)]))


@given(st.lists(st.tuples(st.floats(0, 300), st.integers(0, 1000)), max_size=60), st.floats(300, 400))
def test_a_rate_is_never_beyond_what_its_window_could_hold(events: list[tuple[float, int]], now_s: float) -> None:
    """A window's rate lies between what surely happened in it and what may have, a second's doubt at its far end."""
    counter = RateCounter(0.0)
    for at_s, count in sorted(events):
        counter.add(at_s, count)
    for window_s, rate in zip((1, 10, 60), figures(counter.rates(now_s)), strict=True):
        surely = sum(count for at_s, count in events if at_s > now_s - window_s + 1)
        maybe = sum(count for at_s, count in events if at_s >= now_s - window_s - 1)
        assert surely <= rate * window_s + 1e-6
        assert rate * window_s - 1e-6 <= maybe


def test_json_names_are_the_windows() -> None:
    """In JSON the three rates are called 1s, 10s and 60s."""
    assert ("1s", "10s", "60s") == Rates.__struct_encode_fields__
