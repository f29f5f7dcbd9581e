"""What the API takes and gives: one record for each JSON document, from which OpenAPI's schemas are made.

Records only. Names are the contract with clients: a field may be added, none renamed. Unknown fields in a request are
refused, so that a misspelt option is never ignored.
"""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from headrace.config import limits
from headrace.jobs.codec import COUNT_MAX
from headrace.jobs.submission import UNSET, SubmitOptions, submit_options
from headrace.jobs.unique import KEY_MAX_CHARS

from ..broker.views import Progress

#: A full queue refuses, and the client is told when to come again: a request that waits holds a connection.
REJECTING: Final = SubmitOptions(on_full="reject")
IDEMPOTENCY_KEY_MAX_CHARS: Final = 255
Seconds = Annotated[float, Meta(ge=0, le=limits.PERIOD_MAX_S)]


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to be submitted.

    Attributes:
        name: The handler's name.
        args: Its positional arguments.
        kwargs: Its arguments by name.
        queue: Another queue than the handler's.
        delay_s: Seconds until it is due.
        at: When it is due (RFC 3339, with its offset).
        timeout_s: Seconds that a try may run; 0 for no limit.
        expires_s: Seconds from its submission after which it is not started any more.
        attempts: Tries in all.
        unique: A key that one job of the queue has at a time, until it ends.
    """

    name: Annotated[str, Meta(min_length=1, description="The handler's name.")]
    args: Annotated[list[Any], Meta(description="Its positional arguments.")] = []
    kwargs: Annotated[dict[str, Any], Meta(description="Its arguments by name.")] = {}
    queue: Annotated[str | None, Meta(description="Another queue than the handler's.")] = None
    delay_s: Annotated[Seconds | None, Meta(description="Seconds until it is due.")] = None
    at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None, Meta(description="When it is due: RFC 3339, with its offset.")
    ] = None
    timeout_s: Annotated[Seconds | None, Meta(description="Seconds that a try may run; 0 for no limit.")] = None
    expires_s: Annotated[
        Seconds | None, Meta(description="Seconds from its submission after which it is not started any more.")
    ] = None
    attempts: Annotated[Annotated[int, Meta(ge=1, le=COUNT_MAX)] | None, Meta(description="Tries in all.")] = None

    unique: Annotated[
        Annotated[str, Meta(min_length=1, max_length=KEY_MAX_CHARS)] | None,
        Meta(description="A key that one job of the queue has at a time, until it ends; else 409."),
    ] = None

    @property
    def _has_none(self) -> bool:
        return (
            self.queue is None
            and self.delay_s is None
            and self.at is None
            and self.timeout_s is None
            and self.expires_s is None
            and self.attempts is None
            and self.unique is None
        )

    def options(self) -> SubmitOptions:
        """Return its options, checked; a full queue refuses it, for the client is told when to come again.

        Raises:
            InvalidArguments: they contradict each other, or the queue's name cannot be one.
        """
        if self._has_none:
            return REJECTING  # as nearly all do: to check eight that are not there costs more than to read the job
        return submit_options(
            queue=self.queue,
            delay=self.delay_s,
            at=self.at,
            timeout=self.timeout_s,
            retry=UNSET if self.attempts is None else self.attempts,
            on_full="reject",
            unique=self.unique,
            expires=self.expires_s,
        )


class JobStatus(msgspec.Struct, frozen=True):
    """Where a job is.

    Attributes:
        id: The job's id.
        status: One of headrace's states.
    """

    id: str
    status: str


class Rejection(msgspec.Struct, frozen=True):
    """A job of a batch that was not submitted.

    Attributes:
        index: Its place among the jobs of the request, from 0.
        error: Why.
        error_name: The name of headrace's own error. After QueueFull it was surely not submitted, after
            BrokerUnavailable it may have been, and both may pass; left out where the job could not be read.
    """

    index: int
    error: str
    error_name: str | msgspec.UnsetType = msgspec.UNSET


class BatchReport(msgspec.Struct, frozen=True):
    """What became of a batch.

    Attributes:
        accepted: How many jobs were submitted.
        ids: Their ids, in the order of the request.
        rejected: Those that were not, the first 10,000.
        unlisted: How many more were not; left out where there are no more.
    """

    accepted: int
    ids: list[str]
    rejected: list[Rejection]
    unlisted: int | msgspec.UnsetType = msgspec.UNSET


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job; times are milliseconds since the epoch, null where there is none.

    Attributes:
        id: The job's id.
        name: Its handler.
        queue: Its queue.
        status: One of headrace's states.
        attempts: Tries that were made.
        deliveries: Starts in all.
        interruptions: How many of them the end of a drain stopped.
        submitted_at_ms: When it was submitted.
        due_at_ms: When it is due, while it is delayed or retrying.
        started_at_ms: When the last try started, once it has ended.
        ended_at_ms: When it ended.
        worker: Which worker has it, while it runs.
        progress: [done, total] as its handler said last; total is null where it did not say, all of it where it said
            nothing.
    """

    id: str
    name: str
    queue: str
    status: str
    attempts: int
    deliveries: int
    interruptions: int
    submitted_at_ms: int | None
    due_at_ms: int | None
    started_at_ms: int | None
    ended_at_ms: int | None
    worker: str | None
    progress: Progress | None


class Cancelled(msgspec.Struct, frozen=True):
    """What became of a wish to cancel.

    Attributes:
        id: The job's id.
        cancelled: Whether it was cancelled or told to stop; false when it had ended.
    """

    id: str
    cancelled: bool


class Retried(msgspec.Struct, frozen=True):
    """Whether a job was queued again.

    Attributes:
        id: The job's id.
        retried: Whether it was dead and is queued now; false when it is not dead, and was left alone.
        status: Its state.
    """

    id: str
    retried: bool
    status: str


class JobFault(msgspec.Struct, frozen=True):
    """Why a job did not succeed.

    Attributes:
        type: The exception's class, or the job's state.
        message: What the exception said.
        traceback: Where it was raised, in the handler's process.
        reason: Why it was given up on, such as "timed_out".
    """

    type: str
    message: str
    traceback: str
    reason: str | None


class JobAnswer(msgspec.Struct, frozen=True):
    """How a job ended: `value` where it succeeded, else `error`; neither while it has not ended.

    Attributes:
        id: The job's id.
        status: One of headrace's states.
        value: What the handler returned.
        error: Why there is no value.
    """

    id: str
    status: str
    value: Any = msgspec.UNSET
    error: JobFault | msgspec.UnsetType = msgspec.UNSET


class StreamedEvent(msgspec.Struct, frozen=True):
    """Something that happened, as the `data` of a server-sent event.

    Attributes:
        kind: What, such as "job.succeeded"; the event's name, too.
        queue: The queue.
        at_ms: When, in milliseconds since the epoch, by the server's clock.
        id: The job's id; empty for events of workers and queues.
        name: The handler's name; empty where it is not known.
        attempt: The try that ended, from 1; 0 where there was none.
        reason: Why the job is dead; empty otherwise.
        worker: The worker that reports it; empty where none does.
    """

    kind: str
    queue: str
    at_ms: int
    id: str
    name: str
    attempt: int
    reason: str
    worker: str


class StreamedGap(msgspec.Struct, frozen=True):
    """Word that events behind a place may be missing, as the `data` of a server-sent event named `gap`.

    Attributes:
        queue: The queue.
        after: The entry of its stream that the client saw last, which is not kept any more.
        first: The first entry that is kept, with which the stream goes on; empty where there is none.
    """

    queue: str
    after: str
    first: str


class Health(msgspec.Struct, frozen=True):
    """Whether jobs are taken in and consumed; only the status for whoever has no token that may read, where one is due.

    Attributes:
        status: "ok"; "stalled" when no worker asks for the jobs of some queue that had workers; "blocked" when the loop
            of this process was held up.
        workers: How many workers say that they are there.
        stalled_queues: The queues whose workers have stopped to ask for jobs, all of them.
        silent_workers: Workers of which no word came any more, though they did not leave.
        loop_lag_ms: The longest delay of this process's event loop in the last 10 seconds; null where nobody looked.
    """

    status: str
    workers: int | msgspec.UnsetType = msgspec.UNSET
    stalled_queues: list[str] | msgspec.UnsetType = msgspec.UNSET
    silent_workers: list[str] | msgspec.UnsetType = msgspec.UNSET
    loop_lag_ms: float | msgspec.UnsetType | None = msgspec.UNSET


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be served: "ready" for each part, or why not.

    For whoever has no token that may read, where one is due, it is "unready" without a reason.

    Attributes:
        status: "ready", or "unready" when some part is not.
        pool: The threads and connections that carry requests.
        broker: The server.
        scripts: Its scripts.
    """

    status: str
    pool: str
    broker: str
    scripts: str


class Problem(msgspec.Struct, frozen=True):
    """What went wrong (RFC 9457).

    Attributes:
        type: "about:blank": the status says what kind it is.
        title: The status in words.
        status: The HTTP status.
        detail: What happened, whose fault it is, what to do.
        error: The name of headrace's own error, where it is one.
        batch: What had become of the jobs before, where a batch was cut short.
        queue: The queue that is full; this and the following with QueueFull alone.
        depth: Jobs queued and delayed in it.
        bound: The most it takes: jobs, or bytes where that is the reason.
        reason: What is full: "length", "bytes", "memory" or "backlog".
        drain_s: Seconds in which it drains at its present speed, where that is known.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    error: str | msgspec.UnsetType = msgspec.UNSET
    batch: BatchReport | msgspec.UnsetType = msgspec.UNSET
    queue: str | msgspec.UnsetType = msgspec.UNSET
    depth: int | msgspec.UnsetType = msgspec.UNSET
    bound: int | msgspec.UnsetType = msgspec.UNSET
    reason: str | msgspec.UnsetType = msgspec.UNSET
    drain_s: float | msgspec.UnsetType = msgspec.UNSET


#: Media types.
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
MSGPACK: Final = "application/msgpack"
FORM: Final = "application/x-www-form-urlencoded"
PROBLEM: Final = "application/problem+json"
EVENTS: Final = "text/event-stream"
OPENMETRICS: Final = "application/openmetrics-text"
