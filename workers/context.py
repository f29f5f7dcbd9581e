"""Context: what a handler may know of the job it runs.

One Context is made for a handler that asks for it, and only then. It is read by the handler; the slot that runs the
handler owns `_cancel_reason`'s source and nothing here writes to any server.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.config.logs import logger
from headrace.jobs.errors import JobCancelled, JobTimedOut

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger


class JobInfo(msgspec.Struct, frozen=True, array_like=True):
    """The part of a Context that can cross to another process.

    Attributes:
        id: The job's id.
        name: The handler's name.
        queue: The queue that it came from.
        attempt: Which try this is, from 1.
        deliveries: Starts so far that a crash could have cut short, this one included.
        deadline_at_s: Wall-clock seconds since the epoch at which its time is up; None for no limit.
    """

    id: str
    name: str
    queue: str = ""
    attempt: int = 1
    deliveries: int = 1
    deadline_at_s: float | None = None


#: Takes a job's id and how far it is: done, and in all; for any thread.
NoteProgress = Callable[[str, float, float | None], None]


def ignore_progress(_job_id: str, _done: float, _total: float | None) -> None:
    """Take note of nothing; what a Context does where nobody keeps progress, as in a Dispatcher."""


def _packable(number: float) -> float:
    """Return a number as one that can be sent: of Python's own types, and no longer than 64 bits."""
    if isinstance(number, float):
        return float(number)
    plain = int(number)
    return plain if -(2**63) <= plain < 2**64 else float(plain)


def _never() -> str | None:
    return None


class Context:
    """What a handler may know of the job it runs; the first parameter of a handler that wants it.

    Attributes:
        id: The job's id.
        name: The handler's name.
        queue: The queue that it came from.
        attempt: Which try this is, from 1; tries that a deploy or a crash cut short do not count.
        deliveries: How often the job was started, this time included.
        state: What the engine's lifespan yielded; None without one, and in process handlers.
    """

    __slots__ = (
        "_cancel_reason",
        "_info",
        "_log",
        "_note_progress",
        "attempt",
        "deliveries",
        "id",
        "name",
        "queue",
        "state",
    )

    def __init__(
        self,
        info: JobInfo,
        *,
        state: Any = None,
        cancel_reason: Callable[[], str | None] = _never,
        note_progress: NoteProgress = ignore_progress,
    ) -> None:
        self._info = info
        self._cancel_reason = cancel_reason
        self._note_progress = note_progress
        self._log: BoundLogger | None = None
        self.id = info.id
        self.name = info.name
        self.queue = info.queue
        self.attempt = info.attempt
        self.deliveries = info.deliveries
        self.state = state

    @property
    def info(self) -> JobInfo:
        """The part that can cross to another process."""
        return self._info

    @property
    def deadline(self) -> datetime | None:
        """When the job's time is up, in UTC; None for no limit."""
        at_s = self._info.deadline_at_s
        return None if at_s is None else datetime.fromtimestamp(at_s, UTC)

    @property
    def fence(self) -> tuple[str, int]:
        """(job id, deliveries): grows with each delivery; hand it to other systems as a fencing token."""
        return (self.id, self.deliveries)

    @property
    def log(self) -> "BoundLogger":
        """A structlog logger that has the job's id, name and attempt bound."""
        if self._log is None:
            self._log = logger("headrace.job").bind(job_id=self.id, job=self.name, attempt=self.attempt)
        return self._log

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how far the job is; never waits, and may be called as often as you like, from any thread.

        The newest is written to the server every 200 ms at the most, so a crash may lose the last. It is kept for an
        hour. A process handler's child sends it to its worker, the newest each 100 ms and the last before it returns.

        Args:
            done: How much is done, in whatever unit.
            total: How much there is in all, where that is known.

        Raises:
            TypeError: they are no numbers.
        """
        for number in (done, 0 if total is None else total):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise TypeError(f"progress() takes numbers, got {number!r}: how much is done, and how much in all")
        self._note_progress(self.id, _packable(done), None if total is None else _packable(total))

    def check_cancelled(self) -> None:
        """Return at once, or raise when the job should stop; for thread handlers, which nobody can stop from outside.

        Raises:
            JobTimedOut: its time is up.
            JobCancelled: it was cancelled, or the worker is stopping.
        """
        reason = self._cancel_reason()
        if reason == "timeout" or self._is_overdue():
            raise JobTimedOut(f"job {self.id} ({self.name}) is past its deadline; stop now", job_id=self.id)
        if reason is not None:
            raise JobCancelled(f"job {self.id} ({self.name}) is to stop: {reason}", job_id=self.id)

    def _is_overdue(self) -> bool:
        at_s = self._info.deadline_at_s
        return at_s is not None and time.time() >= at_s
