"""Tickets: work handed straight to a Dispatcher, and the caller's hold on what becomes of it.

A ticket is filled once, by the dispatcher's completer, in the dispatcher's event loop; whoever waits is woken then.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio

from headrace.jobs.errors import JobCancelled, JobCrashed, JobFailed, JobTimedOut
from headrace.jobs.outcome import Failure, Outcome, Status
from headrace.workers.slot import Slot

R = TypeVar("R")

_ERRORS: dict[Status, type[JobFailed]] = {
    Status.TIMED_OUT: JobTimedOut,
    Status.CRASHED: JobCrashed,
    Status.CANCELLED: JobCancelled,
    Status.INTERRUPTED: JobCancelled,
}


class Ticket(Generic[R]):
    """One piece of work given to a Dispatcher."""

    __slots__ = ("_args", "_event", "_invocation", "_kwargs", "_outcome", "job_id", "label", "offered_at_s", "timeout_s")

    def __init__(
        self,
        invocation: Callable[..., Awaitable[R]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        label: str,
        timeout_s: float,
        job_id: str,
    ) -> None:
        self._invocation = invocation
        self._args = args
        self._kwargs = kwargs
        self._outcome: Outcome | None = None
        self._event: anyio.Event | None = None
        self.label = label
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
        return self._invocation(*self._args, **self._kwargs)

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
        """
        await self.wait()
        outcome = self._outcome
        assert outcome is not None  # noqa: S101 - `wait` returns only then
        if outcome.status is Status.SUCCEEDED:
            value: R = outcome.value
            return value
        failure = outcome.failure or Failure(outcome.status.value)
        kind = _ERRORS.get(outcome.status, JobFailed)
        raise kind(
            f"{self.label} {outcome.status.value}: {failure}",
            job_id=self.job_id,
            error=str(failure),
            traceback=failure.traceback,
        ) from outcome.exception
