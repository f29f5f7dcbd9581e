"""Job ids: made and taken apart."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.jobs.errors import InvalidArguments
from headrace.jobs.ids import JobId, are_plain, check_queue, numbered, parse

QUEUES = st.text("abcXYZ019_.-", min_size=1, max_size=100)
NUMBERS = st.integers(0, 2**64 - 1)


@given(QUEUES, NUMBERS, NUMBERS, st.booleans())
def test_an_id_is_taken_apart(queue: str, at_ms: int, number: int, delayed: bool) -> None:
    """Queue, time, number and whether it was delayed are read from the id."""
    entry = f"{at_ms}-{'d' if delayed else ''}{number}"
    assert JobId(queue, entry, at_ms, number, delayed) == parse(f"{queue}:{entry}")


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "q", "q:", "q:1", "q:1-", "q:-1", "q:1-1-1", ":1-1", "q:1-D1", "q:1-d", "q: 1-1", "q:1-1\n",
        "q:\u0661-1",
        "q:a-1", "a b:1-1", "{q}:1-1", "q:r:1-1", "q:18446744073709551616-0", "q:0-99999999999999999999",
        "q" * 101 + ":1-1", "q:" + "9" * 10_000 + "-1",
    ],
)  # fmt: skip
def test_what_cannot_be_an_id_is_none(text: str) -> None:
    """Other shapes, other digits and numbers above 64 bits are no ids."""
    assert parse(text) is None


@given(st.text())
def test_any_text_is_an_id_or_none(text: str) -> None:
    """No text raises, and what is taken for an id is one."""
    parsed = parse(text)
    assert parsed is None or f"{parsed.queue}:{parsed.entry}" == text


@given(st.lists(st.tuples(QUEUES, st.integers(0, 10**19 - 1), st.integers(0, 10**19 - 1))))
def test_ids_of_jobs_that_were_not_delayed_are_plain(made: list[tuple[str, int, int]]) -> None:
    """However many and of whatever queues."""
    assert are_plain([f"{queue}:{at_ms}-{number}" for queue, at_ms, number in made])


@given(st.lists(st.text()), st.lists(st.text("q:19-d\n")))
def test_what_is_plain_are_ids(texts: list[str], near: list[str]) -> None:
    """Each of them by itself, and of no delayed job."""
    for each in (texts, near, ["q:1-1", *near]):
        parsed = [parse(text) for text in each]
        assert not are_plain(each) or all(found is not None and not found.delayed for found in parsed)


@pytest.mark.parametrize("text", ["", "q:1-d1", "q:1-1\n", "q:1-1\nq:1-2", "order-7", "q:00000000000000000001-1"])
def test_one_that_is_not_plain_is_enough(text: str) -> None:
    """A delayed job's, a caller's own, two in one, and numbers that may be too large."""
    assert are_plain(["q:1-1", "q:1-2"])
    assert not are_plain(["q:1-1", text, "q:1-2"])


@given(QUEUES, st.integers(0, 2**48), st.integers(0, 10**6), st.integers(0, 50), st.sampled_from(["", "d"]))
def test_a_batch_is_numbered_on(queue: str, at_ms: int, first: int, count: int, mark: str) -> None:
    """A batch has as many ids as jobs, one after the other, each of which can be taken apart."""
    ids = numbered(queue, f"{at_ms}-{mark}{first}", count)
    parsed = [parse(job_id) for job_id in ids]
    assert list(range(first, first + count)) == [each.number for each in parsed if each is not None]
    assert all(
        each is not None and (queue, at_ms, bool(mark)) == (each.queue, each.at_ms, each.delayed) for each in parsed
    )


@given(QUEUES)
def test_good_names_are_given_back(queue: str) -> None:
    """Letters, digits, dots, dashes and underscores make a queue's name."""
    assert queue == check_queue(queue)


@pytest.mark.parametrize("name", ["", "a b", "{a}", "a:b", "a\n", "\u00e4", "a" * 101, None, 3, "a/b"])
def test_bad_names_are_refused(name: object) -> None:
    """What a key or an id could not hold is refused, and the name is shown."""
    with pytest.raises(InvalidArguments, match=re.escape(repr(name))):
        check_queue(name)  # type: ignore[arg-type]
