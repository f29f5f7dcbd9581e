"""Many jobs as steps: requests of bounded size, each sent again as it is until all its jobs have a certain fate.

A request keeps its idempotency key and its whole body over all its tries, so the server knows each job by the key and
its place: what an earlier try added is answered with its id, and never added twice. One job that cannot be taken stops
no other. No state between calls.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from headrace.config import units
from headrace.jobs.errors import BrokerUnavailable, HeadraceError, InvalidArguments, Outlook, QueueFull

from ..http.records import BatchReport, Rejection
from .calls import job_of, new_key, packed, understood
from .options import ClientOptions
from .patience import next_pause_s, patiently
from .replies import BatchRejected
from .wire import Call, Pause, Request

#: A request of a batch: large enough that what it costs beside its jobs is little, small enough to be sent again.
BATCH_COUNT, BATCH_BYTES = 2_000, 1024 * 1024
#: Seconds for which a server that can wait for room in a queue is asked to.
ROOM_S: Final = 20.0
#: Seconds that a batch takes beside waiting.
ROOM_MARGIN_S: Final = 5.0
WAIT_TIMEOUT_S: Final = 60.0
#: Rejections that are listed; the rest is counted.
REJECTED_MAX_COUNT: Final = 10_000
NDJSON: Final = {"content-type": "application/x-ndjson"}
#: Errors that may pass: their jobs are sent again.
_PASSING: Final = frozenset({QueueFull.__name__, BrokerUnavailable.__name__})


class Line(NamedTuple):
    """A job that is to be sent.

    Attributes:
        place: Its place among all, from 0.
        content: The job as JSON, with its line's end.
    """

    place: int
    content: bytes


class Refusals:
    """What cannot be submitted: the first are listed, all are counted. Belongs to one call."""

    def __init__(self) -> None:
        self.count = 0
        self._listed: list[tuple[int, str]] = []

    def note(self, place: int, why: str) -> None:
        """Note one."""
        self.count += 1
        if len(self._listed) < REJECTED_MAX_COUNT:
            self._listed.append((place, why))

    def error(self, ids: list[str]) -> BatchRejected:
        """Return the error that says which, beside the ids of those that were submitted."""
        listed = sorted(self._listed)
        place, why = listed[0]
        jobs = "1 job was refused, the one" if self.count == 1 else f"{self.count:,} jobs were refused, the first"
        return BatchRejected(
            f"{jobs} at {place}: {why}; the other {len(ids):,} were submitted", rejected=listed, ids=ids
        )


def submit_many(
    options: ClientOptions, name: str, items: Iterable[Sequence[Any]], given: Mapping[str, Any]
) -> Call[list[str]]:
    """Submit a job for each tuple of arguments, and return the ids in order.

    Args:
        options: The client's.
        name: The handler's name.
        items: The arguments; read no further than the request at hand.
        given: The jobs' options, and wait_timeout.

    Raises:
        BatchRejected: some cannot be submitted; all others were.
        QueueFull: the queue stayed full; those before were submitted.
        BrokerUnavailable: the server is away; the same.
    """
    more = dict(given)
    wait_timeout = more.pop("wait_timeout", WAIT_TIMEOUT_S)
    try:
        total_s = units.parse_duration(wait_timeout)
    except (ValueError, TypeError) as error:
        raise InvalidArguments(f"wait_timeout={wait_timeout!r}: {error}") from None
    if more.get("unique") is not None:
        raise InvalidArguments(f"unique={more['unique']!r}: one key is for one job; submit each by itself")
    job = job_of(name, (), None, more, ("wait_timeout",))
    ids: list[str] = []
    refusals = Refusals()
    for batch in _batches(_lines(job, items, refusals)):
        ids += yield from _submit_batch(options, batch, refusals, total_s)
    if refusals.count:
        raise refusals.error(ids)
    return ids


def _lines(job: Mapping[str, Any], items: Iterable[Sequence[Any]], refusals: Refusals) -> Iterator[Line]:
    for place, item in enumerate(items):
        try:
            content = packed(job["name"], {**job, "args": list(item)}) + b"\n"
        except TypeError as error:  # an InvalidArguments; or the item is no tuple of arguments
            refusals.note(place, str(error))
        else:
            yield Line(place, content)


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Yield lines in batches of bounded size; reads no further than the batch at hand."""
    batch: list[Line] = []
    size_bytes = 0
    for line in lines:
        batch.append(line)
        size_bytes += len(line.content)
        if len(batch) >= BATCH_COUNT or size_bytes >= BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _submit_batch(options: ClientOptions, batch: list[Line], refusals: Refusals, total_s: float) -> Call[list[str]]:
    """Submit a batch, note what is refused for good, and return the ids of the others in order."""
    request = Request(
        method="POST", path="/v1/jobs/batch", content=b"".join(line.content for line in batch),
        headers={**NDJSON, "idempotency-key": new_key()}, wait_s=ROOM_S, margin_s=ROOM_MARGIN_S,
    )  # fmt: skip
    ids: dict[int, str] = {}
    ends_s = time.monotonic() + total_s
    tries_count = 0
    while True:
        reply = yield from patiently(request, options.url, max(0.0, ends_s - time.monotonic()))
        report = understood(options, reply, BatchReport)
        rejected = {each.index: each for each in report.rejected}
        taken = [index for index in range(len(batch)) if index not in rejected]
        if len(taken) != len(report.ids):
            raise HeadraceError(f"{options.url} took {len(taken)} jobs and answered with {len(report.ids)} ids")
        before_count = len(ids)
        ids.update(zip(taken, report.ids, strict=True))
        left = [each for index, each in rejected.items() if index not in ids]  # a try may find less than one before
        passing = [each for each in left if each.error_name in _PASSING]
        if not passing:
            for each in left:
                refusals.note(batch[each.index].place, each.error)
            return [ids[index] for index in sorted(ids)]
        tries_count = 0 if len(ids) > before_count else tries_count + 1
        pause_s = next_pause_s(tries_count)
        if time.monotonic() + pause_s >= ends_s:
            raise _still(passing, len(batch), total_s)
        yield Pause(pause_s)


def _still(passing: Sequence[Rejection], count: int, total_s: float) -> HeadraceError:
    """Return the error for jobs that are not in the queue though their time is over."""
    lost = [each for each in passing if each.error_name == BrokerUnavailable.__name__]
    if lost:
        return BrokerUnavailable(
            f"{lost[0].error}; of a batch of {count:,} jobs, {len(lost):,} may have been submitted or not",
            outlook=Outlook.OPEN,
        )
    return QueueFull(
        f"{passing[0].error}; {len(passing):,} of a batch of {count:,} jobs found no room in {total_s:g} s, and those "
        f"before were submitted"
    )
