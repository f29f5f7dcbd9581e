"""What running a job gave (Outcome), and what happens to the job next (Disposition): two frozen records.

An Outcome is made by the slot, exactly one for each piece of work that it took. A Disposition is what policy makes of
it: `jobs.disposition.decide` reads the Outcome and nothing else decides. Neither record knows a server.
"""

from enum import StrEnum
from typing import Any

import msgspec


class Status(StrEnum):
    """How one run of a handler ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  #: the handler raised
    TIMED_OUT = "timed_out"  #: stopped at its deadline
    CRASHED = "crashed"  #: the process that ran it died
    CANCELLED = "cancelled"  #: a user cancelled it
    EXPIRED = "expired"  #: its `expires` had passed before it could start
    UNREADABLE = "unreadable"  #: no handler can be run for it: malformed, or of an unknown name
    INTERRUPTED = "interrupted"  #: shutdown stopped it or never let it start; goes back, uses up no attempt


class Failure(msgspec.Struct, frozen=True, gc=False):
    """An exception as text, so that it can cross processes.

    Attributes:
        type: The exception class's name, such as "ValueError".
        message: str() of it, cut to `limits.ERROR_MESSAGE_MAX_CHARS`.
        traceback: The formatted traceback, cut to `limits.TRACEBACK_MAX_CHARS`; may be empty.
        ancestors: Names of the exception class's bases (qualified "module.Name", itself first): what `Retry(on=...)`
            is matched with when the exception itself is not at hand, as after a process runner.
        retry_delay_s: Set when the handler raised RetryJob: seconds, or -1 for "as the policy says".
        final: True when the handler raised FailJob: straight to the dead letters.
    """

    type: str
    message: str = ""
    traceback: str = ""
    ancestors: tuple[str, ...] = ()
    retry_delay_s: float | None = None
    final: bool = False

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Unpackable:
    """Stands for what a handler returned where that cannot be kept: the job succeeded, and its result says why not.

    A plain class and no record, so that nothing packs it as if it were the value.

    Attributes:
        reason: Why, and what to do; for people.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"Unpackable({self.reason!r})"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one run of one piece of work gave.

    Attributes:
        work: What was run; see headrace.workers.work.Work.
        status: How it ended.
        value: What the handler returned; None unless succeeded. A msgspec.Raw holds msgpack bytes as they are; an
            Unpackable says why there is no value.
        failure: The exception as text; None when succeeded.
        exception: The exception itself where it happened in this process, else None. Never leaves the process.
        started_at_s: Monotonic seconds when the slot took it; 0 when it never started.
        run_s: Seconds from there to the end.
    """

    work: Any
    status: Status
    value: Any = None
    failure: Failure | None = None
    exception: BaseException | None = None
    started_at_s: float = 0.0
    run_s: float = 0.0
