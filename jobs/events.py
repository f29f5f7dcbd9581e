"""Events: what happened to jobs, workers and queues; the records, and their packed form.

One packed batch holds all events of one settling call, in columns; a column whose values are all the same holds that
one value, so that a batch of plain successes is little more than its ids. No I/O and no clock: when a batch was written
is in the entry id that its stream gave it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from .codec import Malformed
from .cursor import Cursor
from .disposition import Disposition, Kind
from .states import ENDED, State

V = TypeVar("V")

VERSION: Final = 1

#: All kinds; the place in this tuple is the code on the wire, so new ones go to the end.
KINDS: Final = (
    "job.succeeded",
    "job.retrying",
    "job.dead",
    "job.cancelled",
    "job.expired",
    "worker.started",
    "worker.stopped",
    "queue.paused",
    "queue.resumed",
    "queue.purged",
    "queue.lost",
    "dead.exported",
)
_CODES: Final = {kind: code for code, kind in enumerate(KINDS)}
#: The codes after which a job has a result, or never will have one.
_ENDED: Final = frozenset(_CODES[f"job.{state.value}"] for state in ENDED)
_OF_STATE: Final = {state: _CODES[f"job.{state.value}"] for state in ENDED}
_SUCCEEDED: Final = _CODES["job.succeeded"]
_RETRYING: Final = _CODES["job.retrying"]
_DEAD: Final = _CODES["job.dead"]
_LOST: Final = _CODES["queue.lost"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened.

    Attributes:
        kind: One of KINDS, such as "job.succeeded".
        queue: The queue's name.
        at_ms: When, in milliseconds since the epoch, by the server's clock.
        id: The job's id; empty for events of workers and queues.
        name: The handler's name; empty where it is not known.
        attempt: The try that ended, from 1; 0 where there was none.
        reason: Why the job is dead, such as "failed"; empty otherwise.
        worker: The registration that reports it; empty where none does.
        cursor: The place behind it: `events(after=cursor)` goes on there. Empty for `on` handlers.
    """

    kind: str
    queue: str
    at_ms: int
    id: str = ""
    name: str = ""
    attempt: int = 0
    reason: str = ""
    worker: str = ""
    cursor: str = ""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What one settling call wrote; a column is one value where all rows share it.

    Attributes:
        version: VERSION.
        worker: The registration that settled.
        ids: What follows "QUEUE:" in each job's id; empty for events of workers and queues.
        names: Handlers.
        codes: Places in KINDS.
        attempts: Tries that ended.
        reasons: Why jobs are dead.
    """

    version: int
    worker: str
    ids: list[bytes]
    names: str | list[str]
    codes: int | list[int]
    attempts: int | list[int] = 0
    reasons: str | list[str] = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


def pack_plain(worker: str, ids: list[bytes], dispositions: Sequence[Disposition]) -> bytes:
    """Do what `pack_settled` does where all are DONE under their first entries, as nearly all jobs are.

    Args:
        worker: The registration that settled.
        ids: Their entries.
        dispositions: What was carried out.
    """
    first = dispositions[0]
    name, attempt, ended_as = first.name, first.attempt, first.ended_as
    for each in dispositions:
        if each.name != name or each.attempt != attempt or each.ended_as is not ended_as:
            return pack_settled(first.lease.source.queue, worker, dispositions)
    return _encode((VERSION, worker, ids, name, _code(first), attempt, ""))


def pack_settled(queue: str, worker: str, dispositions: Sequence[Disposition]) -> bytes:
    """Return the packed batch of what was settled in one queue; rows for RETURN there are none.

    Args:
        queue: The queue's name.
        worker: The registration that settled.
        dispositions: What was carried out.
    """
    told = [each for each in dispositions if each.kind is not Kind.RETURN]
    ids = [
        each.lease.entry if each.lease.moved_id is None else each.lease.moved_id.removeprefix(f"{queue}:").encode()
        for each in told
    ]
    return pack(
        worker,
        ids,
        [each.name for each in told],
        [_code(each) for each in told],
        [each.attempt for each in told],
        [each.reason for each in told],
    )


def pack(
    worker: str,
    ids: list[bytes],
    names: Sequence[str],
    codes: Sequence[int],
    attempts: Sequence[int],
    reasons: Sequence[str],
) -> bytes:
    """Return a packed batch; columns are as in Batch, written out for each row."""
    return _encode((VERSION, worker, ids, _column(names), _column(codes), _column(attempts), _column(reasons)))


def pack_notice(kind: str, worker: str = "") -> bytes:
    """Return a packed batch of one event that is about no job.

    Args:
        kind: One of KINDS.
        worker: The registration that it is about; empty for a queue's.
    """
    return _encode((VERSION, worker, [b""], "", _CODES[kind], 0, ""))


def pack_jobs(kind: str, ids: Iterable[str]) -> bytes:
    """Return a packed batch of one event for each job, where nothing but its id is known.

    Args:
        kind: One of KINDS.
        ids: Full ids, all of one queue.
    """
    return _encode((VERSION, "", [_local(job_id) for job_id in ids], "", _CODES[kind], 0, ""))


class Pieces(NamedTuple):
    """What `pack_jobs` makes, but for the header of the list: for who learns elsewhere which ids belong into it.

    Attributes:
        head: The bytes before the list of ids.
        ids: Each id, packed.
        tail: The bytes behind the list.
    """

    head: bytes
    ids: list[bytes]
    tail: bytes


def pieces_of_jobs(kind: str, ids: Iterable[str]) -> Pieces:
    """Return the pieces of a packed batch; arguments as for `pack_jobs`."""
    # An array of seven: what comes first, the list, and what comes behind it.
    head = b"\x97" + _encode(VERSION) + _encode("")
    tail = _encode("") + _encode(_CODES[kind]) + _encode(0) + _encode("")
    return Pieces(head, [_encode(_local(job_id)) for job_id in ids], tail)


def unpack(data: bytes) -> Batch:
    """Read a packed batch.

    Raises:
        Malformed: it is none, or its columns do not fit together.
    """
    try:
        batch = _decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Malformed(f"a batch of events: {error}") from None
    columns = (batch.names, batch.codes, batch.attempts, batch.reasons)
    if any(isinstance(column, list) and len(column) != len(batch.ids) for column in columns):
        raise Malformed("a batch of events: its columns are of different lengths")
    return batch


def ended_ids(batch: Batch) -> list[bytes]:
    """Return the rows' ids whose jobs have ended."""
    codes = batch.codes
    if isinstance(codes, int):
        return batch.ids if codes in _ENDED else []
    return [each for each, code in zip(batch.ids, codes, strict=True) if code in _ENDED]


def tells_loss(batch: Batch) -> bool:
    """Return whether it says that the queue was lost, with the jobs and records that it had."""
    codes = batch.codes
    return codes == _LOST if isinstance(codes, int) else _LOST in codes


def events_of(queue: str, entry: str, batch: Batch, *, skip: int, cursor: "Cursor | None") -> list[Event]:
    """Return a batch's rows as events, without kinds that a newer headrace may have written.

    Args:
        queue: The queue whose stream it was read from.
        entry: Its entry id there.
        batch: The batch.
        skip: Rows from the start that were seen before.
        cursor: Where the reader is in the other queues; None leaves the events without cursors.
    """
    at_ms = int(entry.partition("-")[0])
    count = len(batch.ids)
    others = cursor.behind(queue) if cursor is not None else ""
    columns = zip(
        batch.ids,
        _rows(batch.names, count),
        _rows(batch.codes, count),
        _rows(batch.attempts, count),
        _rows(batch.reasons, count),
        strict=True,
    )
    events = []
    for row, (each, name, code, attempt, reason) in enumerate(columns):
        if row < skip or not 0 <= code < len(KINDS):
            continue
        place = entry if row == count - 1 else f"{entry}.{row}"
        events.append(
            Event(
                kind=KINDS[code],
                queue=queue,
                at_ms=at_ms,
                id=f"{queue}:{each.decode()}" if each else "",
                name=name,
                attempt=attempt,
                reason=reason,
                worker=batch.worker,
                cursor=f"{queue}={place}{others}" if cursor is not None else "",
            )
        )
    return events


def event_of(disposition: Disposition, at_ms: int) -> Event:
    """Return what a disposition tells, for handlers in the worker that carried it out."""
    lease = disposition.lease
    return Event(
        kind=KINDS[_code(disposition)],
        queue=lease.source.queue,
        at_ms=at_ms,
        id=lease.job_id,
        name=disposition.name,
        attempt=disposition.attempt,
        reason=disposition.reason,
        worker=lease.source.member,
    )


def _local(job_id: str) -> bytes:
    return job_id.partition(":")[2].encode()


def _code(disposition: Disposition) -> int:
    if disposition.kind is Kind.DONE:
        return _OF_STATE[disposition.ended_as] if disposition.ended_as is not State.SUCCEEDED else _SUCCEEDED
    return _DEAD if disposition.kind is Kind.DEAD else _RETRYING


def _column(values: Sequence[Any]) -> Any:
    """Return the one value that all share, or all of them."""
    first = values[0] if values else ""
    return first if values.count(first) == len(values) else values


def _rows(column: V | list[V], count: int) -> list[V]:
    return column if isinstance(column, list) else [column] * count
