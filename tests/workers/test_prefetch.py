"""Prefetching: fast handlers get depth, slow ones none, and a pause is not taken for slowness at once."""

from headrace.config import limits
from headrace.workers.prefetch import HOLD_S, Prefetch


def depths(per_s: float, seconds: float, step_s: float = 0.01, prefetch: Prefetch | None = None) -> list[int]:
    """Observe a pool of that speed for a while, in steps; return the depth after each."""
    prefetch = prefetch or Prefetch()
    steps = round(seconds / step_s)
    return [prefetch.observe(1000.0 + step * step_s, int(per_s * step * step_s)) for step in range(1, steps + 1)]


def test_nothing_is_held_before_anything_is_known() -> None:
    """A pool that has done nothing holds nothing beyond its slots."""
    assert 0 == Prefetch().depth
    assert {0} == set(depths(0, 1))


def test_slow_handlers_get_none() -> None:
    """At ten jobs a second nothing is fetched ahead: it could run elsewhere."""
    assert {0} == set(depths(10, 5, step_s=0.1))


def test_depth_is_what_is_worked_off_meanwhile() -> None:
    """At a steady speed the depth is what is done in HOLD_S."""
    assert abs(depths(10_000, 2)[-1] - 10_000 * HOLD_S) <= 4


def test_depth_is_bounded() -> None:
    """However fast, no more than the limit is held."""
    assert limits.PREFETCH_MAX_COUNT == depths(100_000_000, 1)[-1]


def test_up_at_once() -> None:
    """The first sample of a faster time counts whole."""
    prefetch = Prefetch()
    prefetch.observe(1000.0, 0)
    prefetch.observe(1000.1, 1000)
    assert abs(10_000 * HOLD_S - prefetch.depth) <= 1


def test_down_slowly() -> None:
    """After a pause of one sample three quarters of the depth are left, and after many none."""
    prefetch = Prefetch()
    prefetch.observe(1000.0, 0)
    prefetch.observe(1000.1, 1000)
    before = prefetch.depth
    assert abs(before * 0.75 - prefetch.observe(1000.2, 1000)) <= 1
    for step in range(100):
        prefetch.observe(1000.3 + step / 10, 1000)
    assert 0 == prefetch.depth


def test_samples_too_short_change_nothing() -> None:
    """Two looks in one millisecond tell nothing about speed."""
    prefetch = Prefetch()
    prefetch.observe(1000.0, 0)
    prefetch.observe(1000.1, 1000)
    before = prefetch.depth
    assert before == prefetch.observe(1000.1005, 1500)
    # What was done in between is counted with the next sample that is long enough.
    assert abs(20_000 * HOLD_S - prefetch.observe(1000.2, 3000)) <= 1


def test_large_jobs_get_less() -> None:
    """What is held is bounded in bytes: at once when large jobs come, and no more when they are gone."""
    prefetch, megabyte = Prefetch(), 1024 * 1024
    depths(1_000_000, 1, prefetch=prefetch)
    prefetch.weigh(500, 500 * 100)
    assert limits.PREFETCH_MAX_COUNT == prefetch.depth
    prefetch.weigh(10, 10 * megabyte)
    assert limits.PREFETCH_MAX_BYTES // megabyte == prefetch.depth
    prefetch.weigh(1, 1000 * megabyte)
    assert 0 == prefetch.depth
    for _ in range(100):
        prefetch.weigh(500, 500 * 100)
    assert limits.PREFETCH_MAX_COUNT == prefetch.observe(1002.0, 3_000_000)


def test_nothing_weighs_nothing() -> None:
    """Empty bodies take no bytes, and the depth is bounded by count alone."""
    prefetch = Prefetch()
    prefetch.weigh(3, 0)
    assert limits.PREFETCH_MAX_COUNT == depths(1_000_000, 1, prefetch=prefetch)[-1]
