"""Handles: a producer's hold on a submitted job, for loops and for threads.

A handle knows an id and whom to ask; it holds no state of the job itself, so it may be made anew from the id.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from headrace.config import units
from headrace.jobs.codec import ResultRecord
from headrace.jobs.handler import HandlerPlan
from headrace.jobs.results import Decode, missing, plain, unwrap
from headrace.jobs.submission import SubmitOptions

from .broker.control import OpenBroker, cancel_one
from .broker.views import JobView, Progress
from .results import Results, wait_blocking

R_co = TypeVar("R_co", covariant=True)
Span = float | int | str | timedelta


class JobHandle(Generic[R_co]):
    """A submitted job.

    Attributes:
        id: The job's id.
    """

    __slots__ = ("_decode", "_results", "id")

    def __init__(self, job_id: str, results: Results, decode: Decode = plain) -> None:
        self.id = job_id
        self._results = results
        self._decode = decode

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def status(self) -> str:
        """Return where the job is: one of headrace's states.

        Raises:
            JobNotFound: there is no such job.
            ResultUnavailable: it ended, and its record is gone.
            BrokerUnavailable: the server is away.
        """
        return state_of(self.id, await self._results.view(self.id))

    async def cancel(self) -> bool:
        """Cancel the job.

        One that waits ends at once. One that runs is told to stop: a coroutine is cancelled, a process killed, both
        within 100 ms; a thread sees it in `ctx.check_cancelled()`, and one that does not look ends as it ends.
        What is recorded first stands: `result()` tells.

        Returns:
            False when the job has ended already.

        Raises:
            JobNotFound: there is no such job.
            BrokerUnavailable: the server is away.
        """
        return await self._results.cancel(self.id)

    async def progress(self) -> tuple[float, float | None] | None:
        """Return (done, total) as the job's handler said last by `ctx.progress`; None when it said nothing.

        Raises:
            BrokerUnavailable: the server is away.
        """
        return shown(await self._results.progress(self.id))

    async def result(self, timeout: Span | None = None) -> R_co:
        """Return what the handler returned, in the type that it promises; waits through outages of the server.

        Args:
            timeout: Seconds (or a timedelta, or "30s") to wait; None waits as long as it takes.

        Raises:
            JobFailed: it failed for good, or a subclass: JobTimedOut, JobCancelled, JobExpired, JobCrashed.
            WaitTimeout: only the wait ended; the job goes on. Where the server could not be asked it says so, and its
                cause is the BrokerUnavailable.
            JobNotFound: there is no such job.
            ResultUnavailable: it ended, but its value or its record was not kept.
            BrokerUnavailable: the server refuses us until somebody mends the settings (`outlook` is LASTS), or the
                engine was closed meanwhile.
        """
        timeout_s = None if timeout is None else units.parse_duration(timeout)
        return self.unwrap(await self._results.record(self.id, timeout_s))

    def unwrap(self, record: ResultRecord) -> R_co:
        """Return the value in the job's record; raises what `result` does where there is none."""
        value: R_co = unwrap(self.id, record, self._decode)
        return value


class SyncJobHandle(Generic[R_co]):
    """A submitted job, for code without an event loop; may be used from any thread.

    Attributes:
        id: The job's id.
    """

    __slots__ = ("_broker", "_decode", "id")

    def __init__(self, job_id: str, broker: Callable[[], OpenBroker], decode: Decode = plain) -> None:
        self.id = job_id
        self._broker = broker
        self._decode = decode

    def __repr__(self) -> str:
        return f"<SyncJobHandle {self.id}>"

    def status(self) -> str:
        """Return where the job is; raises what `JobHandle.status` does."""
        return state_of(self.id, self._broker().lookup([self.id])[0])

    def cancel(self) -> bool:
        """Cancel the job; returns and raises what `JobHandle.cancel` does."""
        return cancel_one(self._broker(), self.id)

    def progress(self) -> tuple[float, float | None] | None:
        """Return (done, total); see `JobHandle.progress`."""
        return shown(self._broker().progress([self.id])[0])

    def result(self, timeout: Span | None = None) -> R_co:
        """Return what the handler returned; raises what `JobHandle.result` does. Blocks this thread."""
        timeout_s = None if timeout is None else units.parse_duration(timeout)
        return self.unwrap(wait_blocking(self._broker(), self.id, timeout_s))

    def unwrap(self, record: ResultRecord) -> R_co:
        """Return the value in the job's record; raises what `result` does where there is none."""
        value: R_co = unwrap(self.id, record, self._decode)
        return value


def shown(progress: Progress | None) -> tuple[float, float | None] | None:
    """Return progress as the pair that users see."""
    return None if progress is None else (progress.done, progress.total)


class Submitter(Protocol):
    """What a JobFunction submits through; an engine."""

    async def submit_plan(
        self, plan: HandlerPlan, args: tuple[Any, ...], kwargs: dict[str, Any], options: SubmitOptions
    ) -> JobHandle[Any]:
        """Submit one job."""

    async def submit_plan_many(
        self, plan: HandlerPlan, items: Iterable[tuple[Any, ...]], options: SubmitOptions
    ) -> list[JobHandle[Any]]:
        """Submit a job for each tuple of arguments."""

    def submit_plan_blocking(
        self, plan: HandlerPlan, args: tuple[Any, ...], kwargs: dict[str, Any], options: SubmitOptions
    ) -> SyncJobHandle[Any]:
        """Submit one job from a thread."""

    def submit_plan_many_blocking(
        self, plan: HandlerPlan, items: Iterable[tuple[Any, ...]], options: SubmitOptions
    ) -> list[SyncJobHandle[Any]]:
        """Submit a job for each tuple of arguments from a thread."""


def state_of(job_id: str, view: JobView | None) -> str:
    """Return a view's state as a word; raises JobNotFound or ResultUnavailable where there is none."""
    if view is None or view.state is None:
        raise missing(job_id, existed=view is not None)
    return view.state.value
