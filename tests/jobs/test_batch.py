"""When a batch is due."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.jobs.batch import BatchRule

RULE = BatchRule(count=100, age_s=0.05, count_max=1000)


def test_a_lone_record_never_waits_for_others() -> None:
    """With nothing else to come, what is there goes at once."""
    assert 0.0 == RULE.wait_s(1, 0.0, idle=True)


def test_a_full_batch_goes_at_once() -> None:
    """The count is reached, or it is not."""
    assert (0.0, 0.05) == (RULE.wait_s(100, 0.0, idle=False), RULE.wait_s(99, 0.0, idle=False))


@given(st.integers(1, 99), st.floats(0, 10))
def test_no_record_waits_longer_than_the_age(pending: int, age_s: float) -> None:
    """Time that has passed and time still to wait make up the age, or it goes at once."""
    wait_s = RULE.wait_s(pending, age_s, idle=False)
    assert max(0.0, 0.05 - age_s) == wait_s <= 0.05
