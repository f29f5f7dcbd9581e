"""The errors of submitting, running and waiting for jobs.

Every message says what happened, whose fault it is and what to do next. Where a built-in exception says the same, the
class is that one too (ConnectionError, TypeError, TimeoutError), so that code which knows nothing of headrace can
handle it.
"""

from datetime import timedelta
from enum import Enum

from headrace.config import limits, units
from headrace.config.errors import ConfigError, HeadraceError

__all__ = [
    "BrokerUnavailable",
    "ConfigError",
    "DuplicateJob",
    "FailJob",
    "HeadraceError",
    "InvalidArguments",
    "JobCancelled",
    "JobCrashed",
    "JobExpired",
    "JobFailed",
    "JobNotFound",
    "JobTimedOut",
    "Outlook",
    "PayloadTooLarge",
    "QueueFull",
    "ResultUnavailable",
    "RetryJob",
    "UnknownHandler",
    "WaitTimeout",
]


class Outlook(Enum):
    """What is to be expected of a server that cannot be used now."""

    #: It says itself that it will be ready: it loads its data, runs a script, waits for its primary or its cluster.
    PASSES = "passes"
    #: It is away, or cannot write just now: it may be back at any moment, or the address is wrong.
    OPEN = "open"
    #: Only a change of its settings or of ours helps: password, rights, type of a key, a command that it lacks.
    LASTS = "lasts"


class BrokerUnavailable(HeadraceError, ConnectionError):
    """The server does not answer or refuses us: the outside's fault; start it, or mend its address.

    Attributes:
        outlook: Whether it is worth trying again without a change of anything.
    """

    exit_code = 3

    def __init__(self, message: str, *, outlook: Outlook = Outlook.OPEN) -> None:
        super().__init__(message)
        self.outlook = outlook


class QueueFull(HeadraceError):
    """The queue has reached its bound: workers are slower than producers. Wait and submit again, or add workers.

    Attributes:
        queue: Name of the queue.
        depth: Jobs queued and delayed in it when the submission was refused.
        bound: The most it takes: jobs, or bytes where that is the reason; 0 where the reason is the server's memory.
        reason: "length", "bytes", "memory", or "backlog" for the pool inside this process.
        drain_s: Seconds in which the queue drains at its present speed; None where that is not known, infinite while it
            is paused.
    """

    def __init__(
        self,
        message: str,
        *,
        queue: str = "",
        depth: int = 0,
        bound: int = 0,
        reason: str = "length",
        drain_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.queue = queue
        self.depth = depth
        self.bound = bound
        self.reason = reason
        self.drain_s = drain_s


class PayloadTooLarge(HeadraceError):
    """The job's arguments take more bytes than `max_payload` allows: the caller's fault; send a reference instead."""

    exit_code = 2


class InvalidArguments(HeadraceError, TypeError):
    """The arguments do not fit the handler, or would not survive the wire: the caller's fault; it names the field."""

    exit_code = 2


class UnknownHandler(HeadraceError):
    """No handler of that name is known: the caller misspelt it, or no worker has published it yet."""

    exit_code = 2


class DuplicateJob(HeadraceError):
    """A job with this id or unique key is already there: submit with another, or use the one that exists.

    Attributes:
        job_id: The id of the one that exists.
    """

    def __init__(self, message: str, *, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class JobNotFound(HeadraceError):
    """There is no job of this id, or its record has expired since."""


class ResultUnavailable(HeadraceError):
    """The job ended, but its result is not there: not kept (`result_ttl=0`), expired, too large, or not packable."""


class JobFailed(HeadraceError):
    """The job's last attempt failed: the handler's fault. The remote traceback is in `traceback` and in the message.

    Attributes:
        job_id: The job's id, empty for work given straight to a Dispatcher.
        error: Type and message of the handler's exception, such as "ValueError: no such row".
        traceback: The traceback as text, as it was where the handler ran; empty where there is none.
    """

    def __init__(self, message: str, *, job_id: str = "", error: str = "", traceback: str = "") -> None:
        super().__init__(message if not traceback else f"{message}\n\nremote traceback:\n{traceback}")
        self.job_id = job_id
        self.error = error
        self.traceback = traceback


class JobTimedOut(JobFailed):
    """Every attempt ran past its `timeout`: the handler is slower than promised, or waits for something that is."""


class JobCancelled(JobFailed):
    """The job was cancelled before it ended."""


class JobExpired(JobFailed):
    """The job's `expires` passed before a worker could start it."""


class JobCrashed(JobFailed):
    """The process that ran the job died under it: a segfault, an out-of-memory kill, or `os._exit`."""


class WaitTimeout(HeadraceError, TimeoutError):
    """Only your wait ended; the job goes on, and its result can be asked for again."""

    exit_code = 4


class RetryJob(Exception):
    """Raised by a handler to have its job run again.

    Args:
        delay: Seconds until then, or a timedelta, or "30s"; None leaves it to the handler's Retry.

    Attributes:
        delay: Seconds until then; None leaves it to the handler's Retry.

    Raises:
        ValueError: the delay is none of these, or longer than a year: the handler's fault, a failure like any other.
    """

    def __init__(self, delay: float | str | timedelta | None = None) -> None:
        super().__init__(delay)
        self.delay = None if delay is None else units.parse_duration(delay)
        if self.delay is not None and self.delay > limits.PERIOD_MAX_S:
            raise ValueError(f"RetryJob(delay={delay!r}): more than a year is a mistake in the unit")


class FailJob(Exception):
    """Raised by a handler to send its job straight to the dead letters, whatever attempts are left.

    Args:
        reason: What to write beside the job.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
