"""The arithmetic of retries: bounds, growth and chance."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.jobs.failures import failure_of
from headrace.jobs.outcome import Failure
from headrace.jobs.retry import DEFAULT, ONCE, Retry, from_option, matches, wait_s

POLICIES = st.builds(
    Retry,
    attempts=st.integers(1, 100),
    delay=st.floats(0, 1e6),
    factor=st.floats(1, 1e9),
    max_delay=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
)


def test_waits_grow_to_their_bound() -> None:
    """Each wait is the last one times the factor, and never above max_delay."""
    policy = Retry(delay=1, factor=2, max_delay=10, jitter=0.5)
    assert [1, 2, 4, 8, 10, 10] == [wait_s(policy, attempt, 0.0) for attempt in range(1, 7)]
    assert [0.5, 1, 2, 4, 5, 5] == [wait_s(policy, attempt, 1.0) for attempt in range(1, 7)]


@given(POLICIES, st.integers(1, 2**32), st.floats(0, 1))
def test_a_wait_is_within_its_bounds(policy: Retry, attempt: int, dice: float) -> None:
    """However many tries and whatever the factor, a wait is a number between nothing and max_delay."""
    assert 0 <= wait_s(policy, attempt, dice) <= policy.max_delay


@given(POLICIES, st.integers(1, 1000))
def test_chance_only_shortens(policy: Retry, attempt: int) -> None:
    """Chance takes off at most the share that jitter says."""
    full_s = wait_s(policy, attempt, 0.0)
    assert full_s * (1 - policy.jitter) == wait_s(policy, attempt, 1.0)
    assert wait_s(policy, attempt, 1.0) <= wait_s(policy, attempt, 0.5) <= full_s


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0}, {"attempts": -1}, {"attempts": True}, {"attempts": 1.0}, {"attempts": "3"},
        {"attempts": 2**32},
        {"delay": -1}, {"delay": float("nan")}, {"delay": float("inf")}, {"delay": "1s"}, {"delay": 1e12},
        {"max_delay": -1}, {"max_delay": float("inf")}, {"factor": 0.5}, {"factor": float("nan")}, {"factor": 1e300},
        {"jitter": -0.1}, {"jitter": 1.1}, {"jitter": float("nan")}, {"jitter": True},
        {"on": OSError}, {"on": [OSError]}, {"on": ("OSError",)}, {"on": (int,)}, {"but_not": OSError},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(options: dict[str, Any]) -> None:
    """A Retry that no arithmetic could follow is refused where it is made, and the message names the field."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Retry(**options)


def test_too_many_tries_are_told_how_many_may_be() -> None:
    """The message about tries says both bounds."""
    with pytest.raises(ValueError, match="from 1 to 4,294,967,295"):
        Retry(attempts=2**32)


def test_an_option_may_be_a_number_or_nothing() -> None:
    """A number is the tries in all, None is one try, a Retry is itself."""
    assert (Retry(attempts=4), ONCE, DEFAULT) == (from_option(4), from_option(None), from_option(DEFAULT))
    for odd in (0, True, "3", 2.5):
        with pytest.raises(ValueError, match="attempts"):
            from_option(odd)  # type: ignore[arg-type]


class OwnError(OSError):
    pass


@pytest.mark.parametrize("at_hand", [True, False], ids=["the object", "names only"])
@pytest.mark.parametrize(
    ("on", "but_not", "error", "again"),
    [
        ((), (), ValueError(), True),
        ((OSError,), (), OwnError(), True),
        ((OSError,), (), ValueError(), False),
        ((OSError,), (OwnError,), OwnError(), False),
        ((), (Exception,), ValueError(), False),
        ((BaseException,), (), ValueError(), True),
        ((KeyError, ValueError), (), ValueError(), True),
        ((OSError,), (), TimeoutError(), True),
    ],
)
def test_exceptions_are_chosen_by_class(
    on: tuple[type[BaseException], ...],
    but_not: tuple[type[BaseException], ...],
    error: Exception,
    again: bool,
    at_hand: bool,
) -> None:
    """`on` takes a class and its subclasses, `but_not` takes away, and names choose as the object would."""
    policy = Retry(on=on, but_not=but_not)
    assert again is matches(policy, failure_of(error), error if at_hand else None)


class ClosedError(OSError):
    """Cannot be asked anything, its class included."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"no {name}")


def test_an_error_that_cannot_be_asked_is_chosen_by_class() -> None:
    """An exception whose own `__class__` raises is of the class that an `except` clause would take it for."""
    error = ClosedError()
    assert matches(Retry(on=(OSError,)), failure_of(error), error)
    assert not matches(Retry(on=(ValueError,)), failure_of(error), error)


def test_a_failure_without_ancestors_matches_no_choice() -> None:
    """A failure of which no class is known is retried only where all are."""
    assert matches(Retry(), Failure("Odd"), None)
    assert not matches(Retry(on=(OSError,)), Failure("Odd"), None)
