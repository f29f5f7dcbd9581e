"""Read-only views for people: statistics, jobs, queues, workers, dead letters, handlers.

The one source of the command line and the API. Blocking functions over a broker's second port; callers
with a loop hop to a thread.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from headrace.jobs import codec, ids, schema
from headrace.jobs.codec import Malformed
from headrace.jobs.disposition import DeadLetter
from headrace.jobs.errors import InvalidArguments, JobNotFound, UnknownHandler
from headrace.jobs.failures import UNSAID
from headrace.jobs.letters import arguments_in
from headrace.jobs.outcome import Failure
from headrace.jobs.results import missing
from headrace.jobs.states import State

from .broker.views import BrokerViews, JobView, QueueView, wrong_cursor
from .loops.worker import Worker
from .observe.fleet import FleetRecord, HandlerCard, WorkerView, view_of
from .observe.merging import merge
from .observe.statistics import QueueFigures, Statistics
from .observe.summary import summarize

T = TypeVar("T", JobView, DeadLetter)
#: The name of a job whose envelope cannot be read.
UNREADABLE_NAME: Final = "(malformed)"
#: What a record without a failure says, as those of other programs that write records may be.
NO_RECORD_OF_WHY: Final = "its record does not say why; the log of its worker may"


class Effort:
    """How much one request may still take of the server; once it is spent, a page comes short. Owned by the request.

    Args:
        turns: Looks at the server that leave something to look at; ten that find the end of a queue count as one.
        size_bytes: What is found, by what its envelopes take.
    """

    def __init__(self, turns: int, size_bytes: float = math.inf) -> None:
        self._tenths = turns * 10
        self._bytes = size_bytes

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self._tenths <= 0 or self._bytes <= 0

    def spend(self, found: Sequence[JobView | DeadLetter], is_more: bool) -> None:
        """Count a look at the server."""
        self._tenths -= 10 if is_more else 1
        self._bytes -= sum(len(each.body) for each in found)


def own_statistics(worker: Worker) -> Statistics:
    """Return the statistics of one worker in this process; never waits."""
    return summarize(worker.report(), _figures(worker.queue_views))


def statistics(views: BrokerViews) -> Statistics:
    """Return the statistics of all workers together, and of every queue."""
    queues = views.queues(views.queue_names())
    return summarize(merge([record.report for record in workers(views)]), _figures(queues))


def workers(views: BrokerViews) -> list[FleetRecord]:
    """Return what the workers that are there say of themselves, by id; those of unreadable versions are left out."""
    return _read(views.fleet())


def silent_workers(views: BrokerViews) -> list[FleetRecord]:
    """Return the last words of workers that fell silent, by id: killed, frozen, cut off, or with a blocked loop.

    Those that were stopping when they did are not among them.
    """
    return [record for record in _read(views.silent()) if not record.stopping]


def worker(views: BrokerViews, name: str) -> FleetRecord:
    """Return what one worker says of itself.

    Args:
        views: The broker's second port.
        name: Its id, or the beginning of it that no other has.

    Raises:
        InvalidArguments: there is none, or several begin so; lists them.
    """
    records = workers(views)
    found = [record for record in records if record.worker == name]
    found = found or [record for record in records if name and record.worker.startswith(name)]
    if len(found) != 1:
        known = ", ".join(record.worker for record in found or records) or "none"
        what = "several workers' ids begin with" if found else "there is no worker"
        raise InvalidArguments(f"{what} {name!r}; there are: {known}. Name one of them")
    return found[0]


def worker_views(views: BrokerViews) -> list[WorkerView]:
    """Return all workers as people see them."""
    return [view_of(record) for record in workers(views)]


def handlers(views: BrokerViews) -> dict[str, HandlerCard]:
    """Return the handlers that workers publish, by name and alias."""
    return handlers_of(workers(views))


def handlers_of(records: Sequence[FleetRecord]) -> dict[str, HandlerCard]:
    """Return the handlers that these workers have, by name and alias."""
    cards: dict[str, HandlerCard] = {}
    for record in records:
        for name, card in record.handlers.items():
            cards.update(dict.fromkeys((name, *card.aliases), card))
    return cards


def stalled_queues(records: Sequence[FleetRecord], silent: Sequence[FleetRecord] = ()) -> list[str]:
    """Return the queues whose workers have stopped to ask for jobs, all of them.

    Args:
        records: The workers that are there; those told to fetch no more do not count.
        silent: Those that fell silent: whoever takes their queues over asks in their place.
    """
    asking = {queue: False for record in silent if not record.quiet for queue in record.queues}
    for record in records:
        if record.state in ("working", "stalled"):
            for queue in record.queues:
                asking[queue] = asking.get(queue, False) or record.state == "working"
    return sorted(queue for queue, asks in asking.items() if not asks)


def check_known(views: BrokerViews, name: str) -> HandlerCard | None:
    """Return the card of a handler; None when no worker is there to know.

    Raises:
        UnknownHandler: workers are there, and none knows it; lists what they know.
    """
    known = handlers(views)
    if known and name not in known:
        raise UnknownHandler(
            f"no running worker has a handler called {name!r}; they have: {', '.join(sorted(known))}. "
            f"Check the name, or submit with --allow-unknown if its worker comes later"
        )
    return known.get(name)


def check_arguments(name: str, card: HandlerCard, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Check plain data against what a handler's card says of its arguments; raises InvalidArguments, naming the one."""
    schema.check_arguments(name, _schema_of(bytes(card.schema)), args, kwargs)


@lru_cache(maxsize=1000)  # an API checks each submission against one of a handful of schemas
def _schema_of(packed: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.msgpack.decode(packed)
    return found


def queues(views: BrokerViews) -> list[QueueView]:
    """Return the depths of every queue that ever had a job, by name."""
    return views.queues(views.queue_names())


def job(views: BrokerViews, job_id: str, *, with_result: bool = False, with_arguments: bool = False) -> dict[str, Any]:
    """Return a job's record.

    The record is {id, name, queue, status, attempts, deliveries, interruptions, submitted_at_ms, due_at_ms,
    started_at_ms, ended_at_ms, worker, progress}; progress is [done, total] or None.

    Args:
        views: The broker's second port.
        job_id: Which.
        with_result: Add `result` or `error` once it has ended.
        with_arguments: Add `args` and `kwargs`, those of its envelope or of its dead letter; they are left out where
            both are gone or cannot be read, as of a job that succeeded.

    Raises:
        JobNotFound: there is no such job.
        ResultUnavailable: it ended, and its record is gone.
    """
    view = views.lookup([job_id])[0]
    if view is None or view.state is None:
        raise missing(job_id, existed=view is not None)
    record = {**job_record(view, with_result=with_result), "progress": views.progress([job_id])[0]}
    return {**record, **_arguments_of(views, view)} if with_arguments else record


def _arguments_of(views: BrokerViews, view: JobView) -> dict[str, Any]:
    body = view.body
    if not body and view.state is State.DEAD and (letter := views.dead_letter(view.id)) is not None:
        body = letter.body
    args, kwargs = arguments_in(body) if body else (None, None)
    return {} if args is None else {"args": args, "kwargs": kwargs}


def name_of(view: JobView) -> str:
    """Return a job's name as its record has it, without the rest of the record."""
    if view.record is not None:
        return view.record.name
    try:
        return codec.unpack_envelope(view.body).name if view.body else ""
    except Malformed:
        return UNREADABLE_NAME


def job_record(view: JobView, *, with_result: bool = False) -> dict[str, Any]:
    """Return what `job` does of a view that is at hand."""
    parsed = ids.parse(view.id)
    shown: dict[str, Any] = {
        "id": view.id,
        "name": "",
        "queue": view.queue,
        "status": view.state.value if view.state is not None else None,
        "attempts": 0,
        "deliveries": view.deliveries,
        "interruptions": view.interruptions,
        "submitted_at_ms": parsed.at_ms if parsed is not None else None,
        "due_at_ms": view.due_at_ms or None,
        "started_at_ms": None,
        "ended_at_ms": None,
        "worker": view.worker or None,
    }
    if view.record is not None:
        record = view.record
        shown |= {
            "name": record.name,
            "attempts": record.attempt,
            "deliveries": record.deliveries,
            "interruptions": record.interruptions,
            "started_at_ms": record.started_at_ms or None,
            "ended_at_ms": record.ended_at_ms,
        }
        if with_result:
            shown |= outcome_fields(view)
    elif view.body:
        shown |= _body_fields(view)
    return shown


def outcome_fields(view: JobView) -> dict[str, Any]:
    """Return {"result": value} or {"error": {type, message, traceback, reason}} of a view with a record, else {}."""
    record = view.record
    if record is None:
        return {}
    if record.status == State.SUCCEEDED and record.note is None:
        return {"result": codec.plain_value(record.value)}
    failure = record.failure or Failure(record.status, record.note or NO_RECORD_OF_WHY)
    return {
        "error": {
            "type": failure.type,
            "message": failure.message or UNSAID,
            "traceback": failure.traceback,
            "reason": record.note,
        }
    }


def dead_letter(views: BrokerViews, job_id: str) -> DeadLetter:
    """Return one dead letter.

    Raises:
        JobNotFound: there is none of this id.
    """
    letter = views.dead_letter(job_id)
    if letter is None:
        raise JobNotFound(
            f"there is no dead letter {job_id!r}: it was retried or dropped, has expired, or the job is elsewhere "
            f"(`headrace jobs show {job_id}`)"
        )
    return letter


def dead(
    views: BrokerViews, queue: str | None, cursor: str, limit: int, effort: Effort | None = None
) -> tuple[list[DeadLetter], str]:
    """Return a page of dead letters, newest first in each queue, and the cursor of the next page; "" at the end.

    The page holds `limit`, or all that there are; with an effort, what that was enough for.

    Raises:
        InvalidArguments: the cursor is none that a page gave.
    """
    return _paged(views, queue, cursor, limit, views.dead, effort)


def jobs(
    views: BrokerViews, queue: str | None, state: State | None, cursor: str, limit: int, effort: Effort | None = None
) -> tuple[list[JobView], str]:
    """Return a page of jobs that have not ended, queue by queue, and the cursor of the next page; "" at the end.

    The page holds `limit`, or all that there are; with an effort, what that was enough for.

    Raises:
        InvalidArguments: the cursor is none that a page gave.
    """
    return _paged(views, queue, cursor, limit, lambda name, inner, count: views.jobs(name, state, inner, count), effort)


def cursor_after(view: JobView) -> str:
    """Return the cursor of a page of `jobs` that ended with this one of its items."""
    return f"{view.queue}|{view.place}"


def time_of(at_ms: int) -> str:
    """Return milliseconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(reports: Mapping[str, bytes]) -> list[FleetRecord]:
    records = (FleetRecord.from_bytes(data) for data in reports.values())
    return sorted((record for record in records if record is not None), key=lambda record: record.worker)


def _paged(
    views: BrokerViews,
    queue: str | None,
    cursor: str,
    limit: int,
    turn: Callable[[str, str, int], tuple[list[T], str]],
    effort: Effort | None,
) -> tuple[list[T], str]:
    """Page through queues one after the other; a cursor is "queue|cursor inside the queue"."""
    if cursor and "|" not in cursor:
        raise wrong_cursor(cursor)
    names = [queue] if queue is not None else views.queue_names()
    at, _, inner = cursor.partition("|")
    found: list[T] = []
    for position, name in enumerate(names):
        if at and name < at:
            continue
        start, is_over = inner if name == at else "", False
        while not is_over:
            page, start = turn(name, start, limit - len(found))
            found += page
            if effort is not None:
                effort.spend(page, bool(start))
            if len(found) >= limit or (effort is not None and effort.is_spent):
                if start:
                    return found, f"{name}|{start}"
                return found, f"{names[position + 1]}|" if position + 1 < len(names) else ""
            is_over = not start
    return found, ""


def _body_fields(view: JobView) -> dict[str, Any]:
    try:
        envelope = codec.unpack_envelope(view.body)
    except Malformed:
        return {"name": UNREADABLE_NAME}
    options = envelope.options or codec.NO_OPTIONS
    running = view.state is State.RUNNING
    return {
        "name": envelope.name,
        "attempts": options.attempt if running else options.attempt - 1,
        "deliveries": options.starts_before + view.deliveries,
        "interruptions": options.interruptions + view.interruptions,
    }


def _figures(views: Sequence[QueueView]) -> dict[str, QueueFigures]:
    return {
        view.name: QueueFigures(
            delayed=view.delayed,
            queued=view.queued,
            running=view.running,
            dead=view.dead,
            oldest_age_s=view.oldest_age_s if view.queued else None,
        )
        for view in views
    }
