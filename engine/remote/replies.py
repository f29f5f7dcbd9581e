"""From a reply to a value or to the error that the engine itself would have raised.

The API names its errors; where it does not, or somebody else between answers, the status tells. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from headrace.jobs import codec
from headrace.jobs.codec import ResultRecord
from headrace.jobs.errors import (
    BrokerUnavailable,
    ConfigError,
    DuplicateJob,
    HeadraceError,
    InvalidArguments,
    JobNotFound,
    Outlook,
    PayloadTooLarge,
    QueueFull,
    ResultUnavailable,
    UnknownHandler,
)
from headrace.jobs.outcome import Failure
from headrace.jobs.results import error_of
from headrace.jobs.states import State

from ..http.records import PROBLEM, JobAnswer
from .wire import Reply

#: What somebody between says is shown up to here.
_SHOWN_CHARS: Final = 300


class ApiBusy(BrokerUnavailable):
    """The API is there, and has no memory left for this request's body: nothing was done; send it again in a moment."""

    def __init__(self, message: str) -> None:
        super().__init__(message, outlook=Outlook.PASSES)


class BatchRejected(InvalidArguments):
    """Some of many jobs cannot be submitted; all others were.

    Attributes:
        rejected: For each its place among all jobs, from 0, and why; the first 10,000.
        ids: Of those that were submitted.
    """

    def __init__(self, message: str, *, rejected: list[tuple[int, str]], ids: list[str]) -> None:
        super().__init__(message)
        self.rejected = rejected
        self.ids = ids


_NAMED: Final[Mapping[str, type[HeadraceError]]] = {
    kind.__name__: kind
    for kind in (
        ApiBusy, BrokerUnavailable, DuplicateJob, InvalidArguments, JobNotFound, PayloadTooLarge, QueueFull,
        ResultUnavailable, UnknownHandler,
    )
}  # fmt: skip
_BY_STATUS: Final[Mapping[int, type[HeadraceError]]] = {
    400: InvalidArguments,
    401: ConfigError,
    403: ConfigError,
    409: DuplicateJob,
    410: ResultUnavailable,
    413: PayloadTooLarge,
    415: InvalidArguments,
    422: InvalidArguments,
    429: QueueFull,
    502: BrokerUnavailable,
    503: BrokerUnavailable,
    504: BrokerUnavailable,
}


class _Said(msgspec.Struct, frozen=True):
    """The part of a problem that is read."""

    detail: str = ""
    title: str = ""
    error: str = ""
    queue: str = ""
    depth: int = 0
    bound: int = 0
    reason: str = "length"
    drain_s: float | None = None


_said = msgspec.json.Decoder(_Said).decode


def error_in(reply: Reply) -> HeadraceError:
    """Return the error that a reply without success means."""
    try:
        said = _said(reply.content)
    except msgspec.DecodeError:
        shown = reply.content[:_SHOWN_CHARS].decode(errors="replace").strip()
        said = _Said(detail=f"the server answered {reply.status}{f': {shown}' if shown else ''}")
    is_ours = bool(said.detail) and reply.headers.get("content-type", "").startswith(PROBLEM)
    message = said.detail or said.title or f"the server answered {reply.status}"
    kind = _NAMED.get(said.error) or _BY_STATUS.get(reply.status, HeadraceError)
    if reply.status == 401 and is_ours:  # it says what to do, but not how this client is told
        message += " (the client's token=, or HEADRACE_TOKEN)"
    elif kind is ConfigError and not is_ours:
        message += "; give a token that may do this (token=, or HEADRACE_TOKEN)"
    if kind is QueueFull:
        return QueueFull(
            message, queue=said.queue, depth=said.depth, bound=said.bound, reason=said.reason, drain_s=said.drain_s
        )
    return kind(message)


def error_named(name: str, message: str) -> HeadraceError:
    """Return the error that the API names; a plain HeadraceError where a later version has one of its own."""
    return _NAMED.get(name, HeadraceError)(message)


def unreachable(url: str, why: str, advice: str = "") -> BrokerUnavailable:
    """Return the error for an API that does not answer."""
    todo = advice or "see that `headrace serve` runs there, and that the address is right"
    return BrokerUnavailable(
        f"the API at {url} does not answer: {why}; {todo}",
        outlook=Outlook.OPEN,
    )


def unknown_fate(url: str, why: str) -> BrokerUnavailable:
    """Return the error for a request that may have been carried out, and is none to be sent twice."""
    return BrokerUnavailable(
        f"the connection to {url} ended before the answer ({why}), so whether the request was carried out is not "
        f"known: look before you send it again",
        outlook=Outlook.OPEN,
    )


def value_of(result: JobAnswer) -> Any:
    """Return what a job returned, as JSON says it.

    Raises:
        JobFailed: it failed for good, or a subclass: JobTimedOut, JobCancelled, JobExpired, JobCrashed.
    """
    if result.status == State.SUCCEEDED:
        return None if result.value is msgspec.UNSET else result.value
    failure, note = None, None
    if not isinstance(result.error, msgspec.UnsetType):
        failure = Failure(result.error.type, result.error.message, result.error.traceback)
        note = result.error.reason
    nothing = msgspec.Raw(msgspec.msgpack.encode(None))
    raise error_of(result.id, ResultRecord(codec.VERSION, result.status, nothing, failure, "", 1, 1, 0, 0, note))
