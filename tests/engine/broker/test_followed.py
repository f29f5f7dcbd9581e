"""Who is told of jobs of one queue: each once, also where many wait for one job and leave in any order."""

from itertools import permutations

import pytest

from headrace.engine.broker.followed import LINGER_S, Followed


class Ear:
    """Somebody who waits."""

    def __init__(self, rest: bytes) -> None:
        self.rest = rest
        self.job_id = f"q:{rest.decode()}"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_those_who_wait_for_one_job_leave_in_any_order(order: tuple[int, ...]) -> None:
    """Who has left is told no more, and those who stay are."""
    followed = Followed("0-0", 0.0)
    ears = [Ear(b"1-0") for _ in range(3)]
    followed.add([*ears, *ears])  # who is there already is there once
    assert ears == followed.of(b"1-0")
    staying = list(ears)
    for place in order:
        followed.drop([ears[place], ears[place]])
        staying.remove(ears[place])
        assert set(staying) == set(followed.of(b"1-0"))
    assert ({}, {}) == (followed.ears, followed.others)


def test_who_was_told_of_the_end_is_gone() -> None:
    """`pop` returns all who wait for a job; a queue without any is over a while after it was last asked for."""
    followed = Followed("0-0", 0.0)
    ears, other = [Ear(b"1-0"), Ear(b"1-0")], Ear(b"2-0")
    followed.add([*ears, other])
    assert ears == followed.pop(b"1-0")
    followed.drop(ears)
    assert ([], [other]) == (followed.of(b"1-0"), followed.of(b"2-0"))
    assert not followed.is_over(LINGER_S + 1)
    followed.drop([other])
    assert (False, True) == (followed.is_over(LINGER_S), followed.is_over(LINGER_S + 1))
