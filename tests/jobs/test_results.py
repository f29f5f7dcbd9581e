"""From a record to a value or an error."""

import msgspec
import pytest

from headrace.jobs.codec import NIL, ResultRecord
from headrace.jobs.errors import (
    JobCancelled,
    JobCrashed,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimedOut,
    ResultUnavailable,
)  # fmt: skip
from headrace.jobs.failures import EXPIRED
from headrace.jobs.outcome import Failure
from headrace.jobs.results import error_of, missing, unwrap
from headrace.jobs.states import ENDED, State


def record(status: str, note: str | None = None, *, failure: Failure | None = None, attempt: int = 1) -> ResultRecord:
    return ResultRecord(1, status, NIL, failure, "add", attempt, 1, 0, 5, note)


def test_a_success_is_its_value() -> None:
    """A value is unpacked plainly, or by the handler's own decoder."""
    done = msgspec.structs.replace(record("succeeded"), value=msgspec.Raw(b"\x92\x01\x02"))
    assert [1, 2] == unwrap("q:1-0", done)
    assert (1, 2) == unwrap("q:1-0", done, lambda value: msgspec.msgpack.decode(value, type=tuple[int, int]))


@pytest.mark.parametrize(
    ("status", "note", "kind"),
    [
        ("dead", None, JobFailed),
        ("dead", "failed", JobFailed),
        ("dead", "refused", JobFailed),
        ("dead", "timed_out", JobTimedOut),
        ("dead", "crashed", JobCrashed),
        ("cancelled", None, JobCancelled),
        ("expired", None, JobExpired),
    ],
)
def test_every_other_end_is_an_error(status: str, note: str | None, kind: type[JobFailed]) -> None:
    """Each end without success is one class of error, which names the job."""
    error = error_of("q:1-0", record(status, note, failure=Failure("ValueError", "no", "Traceback")))
    assert (kind, "q:1-0") == (type(error), error.job_id)
    assert "q:1-0 (add)" in str(error)


def test_every_end_is_covered() -> None:
    """No final state is forgotten, whether or not the record holds a failure."""
    for state in ENDED - {State.SUCCEEDED}:
        with pytest.raises(JobFailed):
            unwrap("q:1-0", record(state))


def test_a_failure_tells_the_remote_story() -> None:
    """The error has the exception's type and message, the tries and the remote traceback."""
    error = error_of("q:1-0", record("dead", "failed", failure=Failure("ValueError", "no", "Traceback x"), attempt=3))
    assert ("ValueError: no", "Traceback x") == (error.error, error.traceback)
    assert "failed after 3 tries: ValueError: no" in str(error)
    assert "remote traceback:\nTraceback x" in str(error)


def test_an_expired_job_says_what_to_do() -> None:
    """The error says what happened and what helps, also where the record is of a worker that said nothing."""
    for failure in (EXPIRED, None):
        error = error_of("q:1-0", record("expired", failure=failure))
        assert "job q:1-0 (add) expired: its `expires` had passed" in str(error)
        assert "submit it anew" in str(error)
        assert error.error.startswith("JobExpired: its `expires`")


def test_what_is_missing_was_never_there_or_is_gone() -> None:
    """A job that existed is ResultUnavailable, one that did not is JobNotFound."""
    assert (ResultUnavailable, JobNotFound) == (
        type(missing("q:1-0", existed=True)), type(missing("q:1-0", existed=False)),
    )  # fmt: skip
