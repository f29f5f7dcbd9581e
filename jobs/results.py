"""From a result record to a return value or an exception.

The one place that says which error a job's end means; pure, for loops, threads and the API alike.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from .codec import ResultRecord
from .errors import (
    HeadraceError,
    JobCancelled,
    JobCrashed,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimedOut,
    ResultUnavailable,
)
from .failures import EXPIRED
from .outcome import Failure
from .states import State

#: What takes a packed value apart: a handler's `decode_result`, or plain msgpack.
Decode = Callable[[msgspec.Raw], Any]

_KINDS: dict[str, type[JobFailed]] = {"timed_out": JobTimedOut, "crashed": JobCrashed}


def plain(value: msgspec.Raw) -> Any:
    """Return a packed value as plain data."""
    return msgspec.msgpack.decode(value)


def unwrap(job_id: str, record: ResultRecord, decode: Decode = plain) -> Any:
    """Return what the job returned.

    Raises:
        JobFailed: it failed for good; a subclass where it timed out, crashed, was cancelled or expired.
        ResultUnavailable: it succeeded, but its value was not kept; says why.
    """
    if record.status == State.SUCCEEDED:
        if record.note is not None:
            raise ResultUnavailable(f"job {job_id} ({record.name}) succeeded, but {record.note}")
        try:
            return decode(record.value)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ResultUnavailable(
                f"job {job_id} ({record.name}) succeeded, but its value cannot be read here: {error}"
            ) from error
    raise error_of(job_id, record)


def error_of(job_id: str, record: ResultRecord) -> JobFailed:
    """Return the exception that a record of a job without success means."""
    failure = record.failure or Failure("Unknown")
    shown = f"job {job_id} ({record.name})" if record.name else f"job {job_id}"
    if record.status == State.CANCELLED:
        return JobCancelled(f"{shown} was cancelled", job_id=job_id)
    if record.status == State.EXPIRED:
        expired = record.failure or EXPIRED
        return JobExpired(f"{shown} expired: {expired.message}", job_id=job_id, error=str(expired))
    kind = _KINDS.get(record.note or "", JobFailed)
    tries = f" after {record.attempt} tries" if record.attempt > 1 else ""
    return kind(f"{shown} failed{tries}: {failure}", job_id=job_id, error=str(failure), traceback=failure.traceback)


def missing(job_id: str, *, existed: bool) -> HeadraceError:
    """Return the exception for a job of which nothing is kept."""
    if existed:
        return ResultUnavailable(
            f"job {job_id} has ended, and its record is gone: it is kept for `result_ttl` after the end, and not at "
            f"all where that is 0; ask sooner, or keep it longer"
        )
    return JobNotFound(f"there is no job {job_id!r} here; check the id, the server's url and the namespace")
