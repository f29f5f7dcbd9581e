"""A slot: one place in a pool, and the record that the watchdog reads.

A slot's fields are written by the slot's own loop (pool.py) while it works, and by whoever cancels it: always through
`cancel`, which writes the reason before it cancels anything, so that nobody has to guess afterwards why a job stopped.
"""

import math
import time
from typing import Any

import anyio

from headrace.jobs.errors import JobCrashed, JobTimedOut
from headrace.jobs.failures import failure_of, message_of
from headrace.jobs.outcome import Failure, Outcome, Status, Unpackable
from headrace.jobs.retry import TIMEOUT_ANCESTORS

from .runner import RemoteFailure
from .runners.frames import UnpackableResult
from .work import Work

#: Why a slot was cancelled -> how the job's run ended.
_STATUS = {
    "timeout": Status.TIMED_OUT,
    "cancel": Status.CANCELLED,
    "drain": Status.INTERRUPTED,
    "lost_lease": Status.INTERRUPTED,
}
#: A Context's deadline is wall-clock time, the watchdog's monotonic: how far the two may disagree.
_CLOCKS_APART_S = 0.1


class Slot:
    """One place in a pool.

    Attributes:
        number: Its number in the pool.
        work: What it runs; None while it is free.
        started_at_s: Monotonic seconds when it took the work.
        deadline_s: Monotonic seconds at which the work's time is up; infinity for no limit.
        cancel_reason: "timeout", "cancel", "drain" or "lost_lease" once its work was told to stop.
        told_at_s: Monotonic seconds when it was told so.
        stuck: Whether the work goes on although it was told to stop.
        warned_of: The work that a warning was logged about.
        retired: Whether the slot ends after its present work.
        surplus: Whether nothing takes its place then.
        scope: Its present cancel scope.
        token: What its runner knows its present work by.
        coroutine: What runs in it, from the outside in.
    """

    __slots__ = (
        "cancel_reason",
        "coroutine",
        "deadline_s",
        "number",
        "retired",
        "scope",
        "started_at_s",
        "stuck",
        "surplus",
        "token",
        "told_at_s",
        "warned_of",
        "work",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.work: Work | None = None
        self.started_at_s = 0.0
        self.deadline_s = math.inf
        self.cancel_reason: str | None = None
        self.told_at_s = 0.0
        self.stuck = False
        self.warned_of: Work | None = None
        self.retired = False
        self.surplus = False
        self.scope: anyio.CancelScope | None = None
        self.token = 0
        self.coroutine: Any = None

    def cancel(self, reason: str, *, stop: bool = True) -> None:
        """Tell the work to stop; the first reason stands.

        Args:
            reason: One of the four.
            stop: Whether to cancel the slot's scope, too; False where the runner could not stop the work by it.
        """
        if self.work is None:
            return
        if self.cancel_reason is None:
            self.cancel_reason = reason
            self.told_at_s = time.monotonic()
        if stop and self.scope is not None:
            self.scope.cancel()

    def reason(self) -> str | None:
        """Return the reason; handed to a Context as a callable."""
        return self.cancel_reason


def stopped(slot: Slot, work: Work, now_s: float, error: BaseException | None = None) -> Outcome:
    """Return the outcome of work that was told to stop and did."""
    reason = slot.cancel_reason or ("timeout" if issubclass(type(error), JobTimedOut) else "drain")
    run_s = now_s - slot.started_at_s
    if reason == "timeout":
        message = f"still running after {run_s:.3f} s; its timeout is {work.timeout_s:g} s"
        traceback = failure_of(error).traceback if error is not None else ""
        failure = Failure("JobTimedOut", message, traceback, TIMEOUT_ANCESTORS)
    else:
        failure = Failure("JobCancelled", f"stopped: {reason}")
    return Outcome(work, _STATUS[reason], None, failure, None, slot.started_at_s, run_s)


def failed(slot: Slot, work: Work, error: BaseException, now_s: float) -> Outcome:
    """Return the outcome of work that raised: where only the way of its result failed, it succeeded."""
    run_s = now_s - slot.started_at_s
    if slot.cancel_reason is not None:
        return stopped(slot, work, now_s, error)
    kind = type(error)
    if issubclass(kind, UnpackableResult):  # the handler did its work; only what it returned cannot be kept
        value = Unpackable(message_of(error))
        return Outcome(work, Status.SUCCEEDED, value, None, None, slot.started_at_s, run_s)
    if kind is RemoteFailure:
        return Outcome(work, Status.FAILED, None, failure_of(error), None, slot.started_at_s, run_s)
    if issubclass(kind, JobTimedOut) and now_s >= slot.deadline_s - _CLOCKS_APART_S:
        return stopped(slot, work, now_s, error)  # the handler looked at its deadline before the watchdog did
    status = Status.CRASHED if issubclass(kind, JobCrashed) else Status.FAILED
    return Outcome(work, status, None, failure_of(error), error, slot.started_at_s, run_s)
