"""Every call of the clients, as steps: what is asked, how patiently, and what the answer is read as.

Without I/O, so that `Client` and `AsyncClient` are the same but for who waits. A submission has an idempotency key, its
own or a made one, so that sending it again after a lost answer adds nothing. No state.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from headrace.config import units
from headrace.jobs.errors import BrokerUnavailable, HeadraceError, InvalidArguments, JobNotFound, WaitTimeout
from headrace.jobs.ids import check_queue

from ..admin import Purged
from ..broker.views import QueueView
from ..http.letters import DeadItem, DeadPage, DeadRetried
from ..http.listing import JobPage
from ..http.records import IDEMPOTENCY_KEY_MAX_CHARS, Cancelled, JobAnswer, JobRecord, JobStatus, Retried
from ..observe.fleet import WorkerView
from ..observe.statistics import Statistics
from ..results import too_long
from .options import ClientOptions
from .patience import patiently
from .replies import value_of
from .wire import Call, Reply, Request, body

T = TypeVar("T")
Span = float | int | str | Any

#: Seconds for which one request waits for a result: below what proxies allow an answer to take.
WAIT_S = 25.0
JSON = {"content-type": "application/json"}


def asked(options: ClientOptions, request: Request, shape: type[T], **patience: Any) -> Call[T]:
    """Return what a request is answered with."""
    reply: Reply = yield from patiently(request, options.url, options.timeout_s, **patience)
    return understood(options, reply, shape)


def understood(options: ClientOptions, reply: Reply, shape: type[T]) -> T:
    """Return what an answer says.

    Raises:
        HeadraceError: it is none of this API's; somebody else answers at the address, or a much later version.
    """
    try:
        return msgspec.json.decode(reply.content, type=shape)
    except msgspec.DecodeError as error:
        raise HeadraceError(f"what {options.url} answered is none of headrace's answers: {error}") from None


def read(options: ClientOptions, path: str, shape: type[T], **params: str | int | None) -> Call[T]:
    """Return what a reading route answers."""
    return asked(options, Request(method="GET", path=path, params=params), shape)


def post(options: ClientOptions, path: str, shape: type[T], *, repeatable: bool) -> Call[T]:
    """Return what a verb's route answers."""
    return asked(options, Request(method="POST", path=path, repeatable=repeatable), shape)


def job_path(job_id: str, *more: str) -> str:
    """Return the path of a job, or of something below it; raises what `id_in_path` does."""
    return "/".join(("/v1/jobs", id_in_path(job_id), *more))


def id_in_path(job_id: str) -> str:
    """Return an id as a part of a path.

    Raises:
        JobNotFound: no job has such an id, and in a path it would lead somewhere else.
        InvalidArguments: it is no text.
    """
    if not isinstance(job_id, str):
        raise InvalidArguments(f"{job_id!r} cannot be a job's id: give the text that a submission returned")
    if "/" in job_id or not job_id.strip("."):
        raise JobNotFound(f"there is no job {job_id!r} here; check the id")
    return quote(job_id, safe=":", errors="replace")


def queue_path(queue: str, verb: str) -> str:
    """Return the path of a queue's verb; raises InvalidArguments where no queue has such a name."""
    part = check_queue(queue)
    return f"/v1/queues/{part if part.strip('.') else part.replace('.', '%2E')}/{verb}"  # dots alone would be steps


def job_of(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    others: Sequence[str] = ("idempotency_key", "on_full"),
) -> dict[str, Any]:
    """Return a job as the API takes it.

    Args:
        name: Its handler's name.
        args: Its positional arguments.
        kwargs: Its arguments by name.
        options: Its options.
        others: What the call takes beside them; for the message.

    Raises:
        InvalidArguments: an option is unknown, or one of all this is none of its kind.
    """
    unknown = sorted(set(options) - _WORDS.keys())
    if unknown:
        raise InvalidArguments(
            f"{unknown[0]}= is no option of a submission over HTTP; it takes {', '.join((*_WORDS, *others))}"
        )
    try:
        job: dict[str, Any] = {"name": name, "args": list(args), "kwargs": dict(kwargs or {})}
    except (TypeError, ValueError) as error:
        raise InvalidArguments(f"{name}(): give args as a tuple or list, kwargs as a dict: {error}") from None
    for word, value in options.items():
        field = _WORDS[word]
        if value is None:
            continue
        if field.endswith("_s"):
            try:
                job[field] = units.parse_duration(value)
            except (ValueError, TypeError) as error:
                raise InvalidArguments(f"{word}={value!r}: {error}") from None
        elif isinstance(value, datetime) and value.utcoffset() is None:
            raise InvalidArguments(f"{word}={value!r}: give a datetime with a time zone")
        else:
            job[field] = value
    return job


def packed(name: str, job: Mapping[str, Any]) -> bytes:
    """Return a job, or what is changed of one, as JSON.

    Raises:
        InvalidArguments: JSON cannot say one of its arguments.
    """
    try:
        return body(job)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise InvalidArguments(f"{name}(): the arguments cannot be sent as JSON: {error}") from None


def submit(options: ClientOptions, job: dict[str, Any], key: str | None, on_full: str) -> Call[str]:
    """Submit a job and return its id; under a key, the caller's or one of its own, so that it may be sent again."""
    _check_on_full(on_full)
    headers = {**JSON, "idempotency-key": new_key() if key is None else _checked_key(key)}
    content = packed(job["name"], job)
    request = Request(method="POST", path="/v1/jobs", content=content, headers=headers, repeatable=True)
    status: JobStatus = yield from asked(options, request, JobStatus, waits_for_room=on_full == "wait")
    return status.id


def result(options: ClientOptions, job_id: str, timeout_s: float | None) -> Call[Any]:
    """Wait for a job's end, through outages of the server, and return what it returned."""
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = None if ends_s is None else max(0.0, ends_s - time.monotonic())
        request = Request(method="GET", path=job_path(job_id, "result"), wait_s=WAIT_S)
        try:
            reply = yield from patiently(request, options.url, left_s)
        except BrokerUnavailable as error:
            raise too_long(job_id, timeout_s or 0.0, error) from error
        if reply.status == 200:
            return value_of(understood(options, reply, JobAnswer))
        if ends_s is not None and time.monotonic() >= ends_s:
            raise _waited(job_id, timeout_s)


def status(options: ClientOptions, job_id: str) -> Call[str]:
    """Return where a job is."""
    record: JobRecord = yield from read(options, job_path(job_id), JobRecord)
    return record.status


def cancel(options: ClientOptions, job_id: str) -> Call[bool]:
    """Cancel a job; False when it has ended already."""
    found: Cancelled = yield from post(options, job_path(job_id, "cancel"), Cancelled, repeatable=False)
    return found.cancelled


def retry(options: ClientOptions, job_id: str) -> Call[bool]:
    """Queue a dead job again; False when it is not dead."""
    found: Retried = yield from post(options, job_path(job_id, "retry"), Retried, repeatable=False)
    return found.retried


def queue_verb(options: ClientOptions, queue: str, verb: str) -> Call[QueueView]:
    """Pause or resume a queue."""
    return post(options, queue_path(queue, verb), QueueView, repeatable=True)


def purge(options: ClientOptions, queue: str) -> Call[int]:
    """End what waits in a queue; return how many jobs that were."""
    found: Purged = yield from post(options, queue_path(queue, "purge"), Purged, repeatable=False)
    return found.purged


def dead_edit(
    options: ClientOptions, job_id: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None
) -> Call[DeadItem]:
    """Give a dead job other arguments."""
    change: dict[str, Any] = {} if args is None else {"args": list(args)}
    content = packed(job_id, change if kwargs is None else {**change, "kwargs": dict(kwargs)})
    path = f"/v1/dead/{id_in_path(job_id)}"
    return asked(options, Request(method="PATCH", path=path, content=content, headers=JSON), DeadItem)


def dead_retry(options: ClientOptions, ids: Sequence[str] | None, **choice: str | int | None) -> Call[DeadRetried]:
    """Queue dead jobs again; raises InvalidArguments where ids are named and chosen by something else, too."""
    if isinstance(ids, str):
        raise InvalidArguments(f"ids={ids!r}: give a list of ids")
    others = [word for word in ("queue", "reason", "name") if choice.get(word) is not None]
    if ids is not None and others:
        raise InvalidArguments(f"{others[0]}= chooses among all dead jobs, and ids= names some: give one of them")
    chosen = {name: value for name, value in choice.items() if value is not None}
    content = body({"all": True, **chosen} if ids is None else {"ids": list(ids)})
    request = Request(method="POST", path="/v1/dead/retry", content=content, headers=JSON, repeatable=False)
    return asked(options, request, DeadRetried)


def dead_drop(options: ClientOptions, job_id: str) -> Call[None]:
    """Forget a dead job."""
    request = Request(method="DELETE", path=f"/v1/dead/{id_in_path(job_id)}", repeatable=False)
    yield from patiently(request, options.url, options.timeout_s)


def jobs(options: ClientOptions, **params: str | int | None) -> Call[JobPage]:
    """Return a page of the jobs that have not ended."""
    return read(options, "/v1/jobs", JobPage, **params)


def dead(options: ClientOptions, **params: str | int | None) -> Call[DeadPage]:
    """Return a page of dead jobs."""
    return read(options, "/v1/dead", DeadPage, **params)


def dead_letter(options: ClientOptions, job_id: str) -> Call[DeadItem]:
    """Return one dead job."""
    return read(options, f"/v1/dead/{id_in_path(job_id)}", DeadItem)


def job(options: ClientOptions, job_id: str) -> Call[JobRecord]:
    """Return what is known of a job."""
    return read(options, job_path(job_id), JobRecord)


def queues(options: ClientOptions) -> Call[list[QueueView]]:
    """Return every queue."""
    return read(options, "/v1/queues", list[QueueView])


def workers(options: ClientOptions) -> Call[list[WorkerView]]:
    """Return the workers that are there."""
    return read(options, "/v1/workers", list[WorkerView])


def stats(options: ClientOptions) -> Call[Statistics]:
    """Return the statistics of all workers."""
    return read(options, "/v1/stats", Statistics)


def new_key() -> str:
    """Return an idempotency key that no other request has."""
    return secrets.token_hex(16)


def _checked_key(key: str) -> str:
    """Return an idempotency key of the caller's own, as a header takes it: an empty one would be none."""
    fits = isinstance(key, str) and key.isascii() and key.isprintable() and key == key.strip()
    if not fits or not 1 <= len(key) <= IDEMPOTENCY_KEY_MAX_CHARS:
        raise InvalidArguments(
            f"idempotency_key={key!r}: use 1 to {IDEMPOTENCY_KEY_MAX_CHARS} printable ASCII characters, without blanks "
            f"at their ends, or None to have one made"
        )
    return key


def _waited(job_id: str, timeout_s: float | None) -> WaitTimeout:
    return too_long(job_id, timeout_s or 0.0)


def _check_on_full(on_full: str) -> None:
    if on_full not in {"wait", "reject"}:
        raise InvalidArguments(f'on_full={on_full!r}: use "reject" or "wait"')


#: The engine's words for options -> the API's fields.
_WORDS: dict[str, str] = {
    "queue": "queue", "delay": "delay_s", "at": "at", "unique": "unique", "timeout": "timeout_s",
    "expires": "expires_s", "attempts": "attempts",
}  # fmt: skip
