"""Assignments: a lease, the handler that runs it, and the arguments, still packed until a slot starts it.

Frozen; made a batch at a time by the fetcher. What cannot be run becomes an Unread instead, which goes straight to the
outbox: failure paths have one exit, the completer.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from headrace.jobs import codec
from headrace.jobs.arguments import NO_KWARGS
from headrace.jobs.codec import Envelope, EnvelopeOptions
from headrace.jobs.errors import InvalidArguments
from headrace.jobs.failures import message_of
from headrace.jobs.handler import HandlerPlan
from headrace.jobs.outcome import Failure
from headrace.jobs.retry import Retry
from headrace.workers.context import Context, JobInfo, NoteProgress, ignore_progress
from headrace.workers.runner import Invocation, RemoteFailure
from headrace.workers.slot import Slot

from ..broker.port import Lease

#: A middleware: called with the job's Context and what runs the rest; returns what the job returns.
Middleware = Callable[[Context, Callable[[], Awaitable[Any]]], Awaitable[Any]]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for a handler's jobs unless they say otherwise: its own options, and the settings for the rest.

    Attributes:
        timeout_s: Seconds a try may run; 0 for no limit.
        ttl_ms: How long records are kept.
        max_deliveries: Starts without an outcome after which a job is given up.
    """

    timeout_s: float
    ttl_ms: int
    max_deliveries: int


class BoundHandler:
    """A handler bound to the runner of one worker; looked up once for each job.

    Attributes:
        plan: The handler.
        pool: Name of the pool that runs it.
        timeout_s: Seconds a try may run unless the job says otherwise.
        ttl_ms: How long its records are kept unless the job says otherwise.
        max_deliveries: Starts without an outcome after which a job is given up.
        expires_s: Seconds that its jobs may wait in their queue and still be started; None for no limit.
        batch: The most jobs that one call gets; 0 for one job a call.
        batch_linger_s: Seconds for which a job waits for others to share its call.
    """

    __slots__ = (
        "_get_state",
        "_invocation",
        "_middleware",
        "_note_progress",
        "_plainly",
        "_unpack",
        "_unpack_all",
        "batch",
        "batch_linger_s",
        "expires_s",
        "max_deliveries",
        "plan",
        "pool",
        "timeout_s",
        "ttl_ms",
    )

    def __init__(
        self,
        plan: HandlerPlan,
        invocation: Invocation,
        *,
        terms: Terms,
        middleware: tuple[Middleware, ...] = (),
        get_state: Callable[[], Any] = lambda: None,
        note_progress: NoteProgress = ignore_progress,
    ) -> None:
        self.plan = plan
        self.pool = plan.runner
        self.timeout_s = terms.timeout_s
        self.ttl_ms = terms.ttl_ms
        self.max_deliveries = terms.max_deliveries
        self.expires_s = plan.options.expires_s
        self.batch = plan.options.batch
        self.batch_linger_s = plan.options.batch_linger_s
        self._invocation = invocation
        self._unpack = plan.arguments.unpack
        self._middleware = middleware
        self._get_state = get_state
        self._note_progress = note_progress
        self._plainly = not middleware and not plan.wants_context
        self._unpack_all = plan.arguments.unpack_all if self._plainly else None

    def start(self, assignment: "Assignment", slot: Slot) -> Awaitable[Any]:
        """Return the awaitable that runs a job: its arguments are unpacked here, in the slot."""
        envelope = assignment.envelope
        if self._unpack_all is not None and envelope.kwargs == NO_KWARGS:  # the common call, without the rest's detours
            try:
                positional = self._unpack_all(envelope.args)
            except Exception:  # noqa: BLE001, S110 - as in `unpack`, which tries again and says what it is
                pass
            else:
                return self._invocation(*positional)
        try:
            args, kwargs = self._unpack(envelope.args, envelope.kwargs)
        except InvalidArguments as error:
            raise RemoteFailure(Failure("InvalidArguments", message_of(error), final=True)) from None
        if self._plainly:
            return self._invocation(*args, **kwargs)
        context = Context(
            assignment.info(),
            state=self._get_state(),
            cancel_reason=slot.reason,
            note_progress=self._note_progress,
        )
        if self.plan.wants_context:
            args = (context, *args)
        if not self._middleware:
            return self._invocation(*args, **kwargs)
        return self._through(context, args, kwargs)

    def start_batch(
        self, assignments: "Sequence[Assignment]", refused: dict[int, Failure], slot: Slot
    ) -> Awaitable[Any]:
        """Return the awaitable that runs several jobs in one call.

        Args:
            assignments: The jobs; what middleware sees as its Context is that of the first.
            refused: Takes the places of those whose arguments do not fit, which the call then leaves out, and why.
            slot: Where it runs.
        """
        items = []
        for i, assignment in enumerate(assignments):
            try:
                items.append(self._unpack(assignment.envelope.args, assignment.envelope.kwargs)[0][0])
            except InvalidArguments as error:
                refused[i] = Failure("InvalidArguments", message_of(error), final=True)
        if not items:
            return _nothing()
        if not self._middleware:
            return self._invocation(items)
        context = Context(assignments[0].info(), state=self._get_state(), cancel_reason=slot.reason)
        return self._through(context, (items,), {})

    def _through(self, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
        def innermost() -> Awaitable[Any]:
            return self._invocation(*args, **kwargs)

        call: Callable[[], Awaitable[Any]] = innermost
        for middleware in reversed(self._middleware):
            call = _wrapped(middleware, context, call)
        return call()


async def _nothing() -> list[Any]:
    return []


def _wrapped(
    middleware: Middleware, context: Context, call_next: Callable[[], Awaitable[Any]]
) -> Callable[[], Awaitable[Any]]:
    return lambda: middleware(context, call_next)


class _Leased:
    """What is told of work by its lease."""

    __slots__ = ()
    lease: Lease

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.lease.job_id

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self.lease.source.queue


class Assignment(_Leased, msgspec.Struct, frozen=True, gc=False, eq=False):
    """One leased job, ready for a slot.

    Attributes:
        lease: The lease.
        envelope: The job, its arguments packed.
        bound: Its handler.
        label: The handler's name.
        timeout_s: Seconds this try may run; 0 for no limit.
        offered_at_s: Monotonic seconds when it was queued, by the server's clock.
    """

    lease: Lease
    envelope: Envelope
    bound: BoundHandler
    label: str
    timeout_s: float
    offered_at_s: float

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        options = self.envelope.options
        return 1 if options is None else options.attempt

    @property
    def ttl_ms(self) -> int:
        """How long the handler's records are kept."""
        return self.bound.ttl_ms

    @property
    def result_ttl_s(self) -> float | None:
        """The handler's own record time; None for the setting."""
        return self.bound.plan.options.result_ttl_s

    @property
    def max_deliveries(self) -> int:
        """Starts without an outcome after which the job is given up."""
        return self.bound.max_deliveries

    @property
    def on_crash_dead(self) -> bool:
        """Whether a crash ends the job at once."""
        return self.bound.plan.options.on_crash == "dead"

    @property
    def retry(self) -> Retry:
        """The handler's Retry."""
        return self.bound.plan.options.retry

    def start(self, slot: Slot) -> Awaitable[Any]:
        """Run it; called by the slot that took it."""
        return self.bound.start(self, slot)

    def info(self) -> JobInfo:
        """Return what the handler's Context shows."""
        options = self.envelope.options or codec.NO_OPTIONS
        return JobInfo(
            self.lease.job_id,
            self.bound.plan.name,
            self.lease.source.queue,
            options.attempt,
            self.lease.starts + self.lease.interruptions + options.starts_before + 1,
            time.time() + self.timeout_s if self.timeout_s else None,
        )


def carried(lease: Lease, envelope: Envelope) -> EnvelopeOptions:
    """Return the options with which a job goes round again unstarted: the starts of its entry would be lost."""
    options = envelope.options or codec.NO_OPTIONS
    return msgspec.structs.replace(
        options,
        deliveries=min(options.deliveries + lease.starts, codec.COUNT_MAX),
        interruptions=min(options.interruptions + lease.interruptions, codec.COUNT_MAX),
        starts=min(options.starts_before + lease.starts + lease.interruptions, codec.COUNT_MAX),
    )


class Late(_Leased, msgspec.Struct, frozen=True, gc=False, eq=False):
    """An expired job whose handler is not known here: it ends all the same, by the settings.

    Attributes:
        lease: The lease.
        envelope: The job.
    """

    lease: Lease
    envelope: Envelope
    timeout_s: float = 0.0
    offered_at_s: float = 0.0
    retry: Retry = Retry()
    result_ttl_s: float | None = None
    max_deliveries: int = 1
    on_crash_dead: bool = False

    @property
    def label(self) -> str:
        """The handler's name."""
        return self.envelope.name

    @property
    def attempt(self) -> int:
        """The try that was not started, from 1."""
        return (self.envelope.options or codec.NO_OPTIONS).attempt


class Unread(_Leased, msgspec.Struct, frozen=True, gc=False, eq=False):
    """A lease that no handler can be run for, or not yet.

    Attributes:
        lease: The lease.
        label: The handler's name as far as it could be read.
        reason: "malformed", "too_large", "unknown_handler" or "crashed"; "suspect" for one that has to wait its turn.
        error: What is wrong, in words.
        delay_ms: Send it round again after this long instead of giving up on it; 0 gives up.
        body: The envelope that goes round again.
        options: What its submission said, where it could be read.
        result_ttl_s: The handler's own record time, where the handler is known.
    """

    lease: Lease
    label: str
    reason: str
    error: str
    delay_ms: int = 0
    body: bytes = b""
    options: EnvelopeOptions = codec.NO_OPTIONS
    result_ttl_s: float | None = None
    timeout_s: float = 0.0
    offered_at_s: float = 0.0
