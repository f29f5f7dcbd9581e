"""Tickets: work handed straight to a Dispatcher, and the caller's hold on what becomes of it.

A ticket is filled once, by the dispatcher's completer, in the dispatcher's event loop; whoever waits is woken then.
"""

import time
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

import anyio

from headrace.jobs.errors import JobCancelled, JobCrashed, JobFailed, JobTimedOut, ResultUnavailable
from headrace.jobs.outcome import Failure, Outcome, Status, Unpackable
from headrace.workers.context import Context, JobInfo
from headrace.workers.runner import Invocation
from headrace.workers.slot import Slot

from .line import Line

R = TypeVar("R")

_ERRORS: dict[Status, type[JobFailed]] = {
    Status.TIMED_OUT: JobTimedOut,
    Status.CRASHED: JobCrashed,
    Status.CANCELLED: JobCancelled,
    Status.INTERRUPTED: JobCancelled,
}


class Bound:
    """A function bound to the pool that runs it; made once for many tickets.

    Attributes:
        pool: The pool.
        line: Those who wait for room in it.
        invocation: What a slot awaits.
        label: The function's name.
        wants_context: Whether its first parameter is the Context.
        submitted: Tickets made that no statistics have counted yet.
    """

    __slots__ = ("invocation", "label", "line", "pool", "submitted", "wants_context")

    def __init__(self, line: Line, invocation: Invocation, label: str, *, wants_context: bool) -> None:
        self.pool = line.pool
        self.line = line
        self.invocation = invocation
        self.label = label
        self.wants_context = wants_context
        self.submitted = 0


class Ticket(Generic[R]):
    """One piece of work given to a Dispatcher."""

    __slots__ = ("_args", "_bound", "_event", "_kwargs", "_outcome", "job_id", "label", "offered_at_s", "timeout_s")

    def __init__(
        self, bound: Bound, args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float, job_id: str
    ) -> None:
        self._bound = bound
        self._args = args
        self._kwargs = kwargs
        self._outcome: Outcome | None = None
        self._event: anyio.Event | None = None
        self.label = bound.label
        self.timeout_s = timeout_s
        self.job_id = job_id
        self.offered_at_s = time.monotonic()

    def __repr__(self) -> str:
        return f"<Ticket {self.job_id} {self.label} {self.status or 'waiting or running'}>"

    @property
    def done(self) -> bool:
        """Whether it has ended, however it did."""
        return self._outcome is not None

    @property
    def status(self) -> str | None:
        """How it ended: "succeeded", "failed", "timed_out", "interrupted"; None while it has not."""
        return self._outcome.status.value if self._outcome is not None else None

    def start(self, slot: Slot) -> Awaitable[R]:
        """Run it; called by the slot that took it."""
        bound = self._bound
        if bound.wants_context:
            deadline_at_s = time.time() + self.timeout_s if self.timeout_s else None
            info = JobInfo(self.job_id, self.label, deadline_at_s=deadline_at_s)
            return bound.invocation(Context(info, cancel_reason=slot.reason), *self._args, **self._kwargs)
        return bound.invocation(*self._args, **self._kwargs)

    def fill(self, outcome: Outcome) -> None:
        """Record how it ended and wake who waits; called once, by the completer."""
        self._outcome = outcome
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Return once it has ended, however it did."""
        if self._outcome is None:
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()

    async def result(self) -> R:
        """Return what the function returned.

        Raises:
            JobFailed: it raised; the exception itself is the cause.
            JobTimedOut: it ran past its timeout.
            JobCancelled: the dispatcher was closed before it ended.
            ResultUnavailable: it ran in a process, and what it returned cannot be sent back from there.
        """
        await self.wait()
        outcome = self._outcome
        assert outcome is not None, "`wait` returns only then"
        if outcome.status is Status.SUCCEEDED:
            if type(outcome.value) is Unpackable:
                raise ResultUnavailable(f"{self.label} succeeded, but {outcome.value.reason}")
            value: R = outcome.value
            return value
        failure = outcome.failure or Failure("never started", "the dispatcher was closed before")
        kind = _ERRORS.get(outcome.status, JobFailed)
        raise kind(
            f"{self.label} {outcome.status.value}: {failure}",
            job_id=self.job_id,
            error=str(failure),
            traceback=failure.traceback,
        ) from outcome.exception
