"""Exceptions as text: bounded, and never a second failure."""

from typing import Any

import pytest

from headrace.config.limits import ERROR_MESSAGE_MAX_CHARS, TRACEBACK_MAX_CHARS
from headrace.jobs.errors import FailJob, RetryJob
from headrace.jobs.failures import failure_of
from headrace.jobs.outcome import Failure


class BrokenError(Exception):
    """Raises whatever is asked of it."""

    def __str__(self) -> str:
        raise SystemExit("from __str__")

    __repr__ = __str__


class ClosedError(Exception):
    """Cannot be asked anything, its class included."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"no {name}")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - any of them
        return caught


def recurse(depth: int) -> int:
    return recurse(depth + 1)


def test_names_the_class_and_its_ancestors() -> None:
    """A failure names the class, and all classes that an `except` clause could have named."""
    failure = failure_of(KeyError("k"))

    assert ("KeyError", "'k'") == (failure.type, failure.message)
    assert ("builtins.KeyError", "builtins.LookupError", "builtins.Exception") == failure.ancestors


def test_what_says_nothing_has_a_message_all_the_same() -> None:
    """An exception without words, FailJob and RetryJob among them, gives a failure that says so."""
    assert "ValueError: raised without a message" == str(failure_of(ValueError()))
    assert "FailJob: raised without a message" == str(failure_of(FailJob()))
    assert "RetryJob: the handler asked to be run again" == str(failure_of(RetryJob(5)))


def test_shows_the_cause() -> None:
    """The traceback has the chain of causes."""
    error = ValueError("second")
    error.__cause__ = raised(KeyError("first"))

    assert "KeyError: 'first'" in failure_of(raised(error)).traceback


def test_a_broken_str_is_stated() -> None:
    """An exception whose __str__ raises, even SystemExit, gives a failure that says so."""
    failure = failure_of(raised(BrokenError()))

    assert ("BrokenError", "<its __str__ raised SystemExit>") == (failure.type, failure.message)
    assert "BrokenError" in failure.traceback


def test_an_error_that_cannot_be_asked_is_told_all_the_same() -> None:
    """An exception none of whose attributes can be read, its class included, gives a failure that names it."""
    failure = failure_of(raised(ClosedError("told")))

    assert ("ClosedError", "told", False) == (failure.type, failure.message, failure.final)
    assert "cannot be formatted" in failure.traceback


def test_a_huge_message_is_cut() -> None:
    """Ten megabytes of message end within the limits, with both ends kept and the omission stated."""
    failure = failure_of(raised(ValueError("a" * 10_000_000 + "end")))

    assert (ERROR_MESSAGE_MAX_CHARS, TRACEBACK_MAX_CHARS) == (len(failure.message), len(failure.traceback))
    assert failure.message.startswith("aaa")
    assert failure.message.endswith("aaend")
    assert "characters left out" in failure.message


def test_odd_text_can_be_encoded() -> None:
    """Lone surrogates are escaped, so that the failure can be packed."""
    failure_of(ValueError("file \udc80")).message.encode()


def test_groups_and_recursion_are_shown() -> None:
    """Exception groups show their members, and a recursion error ends within the limit."""
    group = failure_of(raised(ExceptionGroup("several", [ValueError("one"), KeyError("two")])))
    with pytest.raises(RecursionError) as deep:
        recurse(0)

    assert "ValueError: one" in group.traceback
    assert len(failure_of(deep.value).traceback) <= TRACEBACK_MAX_CHARS


def test_instructions_are_kept() -> None:
    """RetryJob gives its delay, or -1 for the policy's, and FailJob is final."""
    assert 5.0 == failure_of(RetryJob(5)).retry_delay_s
    assert -1.0 == failure_of(RetryJob()).retry_delay_s
    assert (True, "gone") == (failure_of(FailJob("gone")).final, failure_of(FailJob("gone")).message)


def test_a_carried_failure_is_given_as_it_is() -> None:
    """An exception that carries a Failure gives that one."""
    error = Exception()
    error.failure = Failure("Odd", "far away")  # type: ignore[attr-defined]

    assert Failure("Odd", "far away") == failure_of(error)
