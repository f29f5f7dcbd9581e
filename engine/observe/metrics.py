"""The Recorder: counts what a worker's handlers do, one call a batch.

All figures are kept by handler and added up only when somebody asks, so each job is counted in one place. Work per job
is list building and counting in C. Any producer may invent a handler's name, so their number is bounded here: names
past HANDLERS_MAX share one entry. A Recorder belongs to one thread and reads no clock.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Final

from headrace.jobs.outcome import Outcome, Status

from .histogram import WindowedHistogram
from .rates import RateCounter

#: Handlers with an entry of their own; one takes some 10 to 40 KB while it is busy, so this keeps it under 40 MB.
HANDLERS_MAX: Final = 1000
#: The entry of all handlers past that number.
OTHERS: Final = "(others)"

#: Statuses of runs that failed; a run has completed when it failed, succeeded or was cancelled. Every other status says
#: that the job did not run, or will run again for no fault of its own, and counts as neither.
FAILED: Final = (Status.FAILED, Status.TIMED_OUT, Status.CRASHED)
COMPLETED: Final = (Status.SUCCEEDED, Status.CANCELLED, *FAILED)


class HandlerRecord:
    """What one handler's jobs did; belongs to its Recorder.

    Args:
        started_s: Monotonic seconds of the Recorder's start.
    """

    __slots__ = (
        "completed",
        "dead_count",
        "exported_count",
        "failed",
        "queue_wait",
        "retried_count",
        "run",
        "submitted",
        "timed_out_count",
        "total",
    )

    def __init__(self, started_s: float) -> None:
        self.submitted = RateCounter(started_s)
        self.completed = RateCounter(started_s)
        self.failed = RateCounter(started_s)
        self.queue_wait = WindowedHistogram()
        self.run = WindowedHistogram()
        self.total = WindowedHistogram()
        self.retried_count = 0
        self.timed_out_count = 0
        self.dead_count = 0
        self.exported_count = 0

    def record(self, now_s: float, outcomes: Sequence[Outcome], waits_s: Sequence[float]) -> None:
        """Count outcomes of this handler, `waits_s` beside them."""
        statuses = [outcome.status for outcome in outcomes]
        if statuses.count(Status.SUCCEEDED) != len(statuses):
            self._count_failures(now_s, statuses)
            started = [
                (outcome, wait_s)
                for outcome, wait_s in zip(outcomes, waits_s, strict=True)
                if outcome.status in COMPLETED and outcome.started_at_s
            ]
            if not started:
                return
            outcomes, waits_s = [pair[0] for pair in started], [pair[1] for pair in started]
        else:
            self.completed.add(now_s, len(statuses))
        waited = array("d", waits_s)
        ran = array("d", [outcome.run_s for outcome in outcomes])
        self.queue_wait.record_many(now_s, waited)
        self.run.record_many(now_s, ran)
        # A wait below zero comes from two machines' clocks; it must not shorten the sum.
        waited_really = waits_s if min(waits_s) >= 0 else [max(wait_s, 0.0) for wait_s in waits_s]
        self.total.record_many(
            now_s, array("d", [wait_s + run_s for wait_s, run_s in zip(waited_really, ran, strict=True)])
        )

    def _count_failures(self, now_s: float, statuses: list[Status]) -> None:
        counts = Counter(statuses)
        self.completed.add(now_s, sum(counts[status] for status in COMPLETED))
        self.failed.add(now_s, sum(counts[status] for status in FAILED))
        self.timed_out_count += counts[Status.TIMED_OUT]


class Recorder:
    """Counts what the handlers of one worker do.

    Args:
        started_s: Monotonic seconds when the worker started; rates of the first minute are over the time since.
    """

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        #: The handlers' records by name; read by whoever reports, written here.
        self.handlers: dict[str, HandlerRecord] = {}
        #: Jobs submitted by whomever, by queue, as the server counts them.
        self.submitted: dict[str, RateCounter] = {}
        #: Jobs worked off, by queue; what a queue's drain time is computed from.
        self.drained: dict[str, RateCounter] = {}

    def record_batch(
        self,
        now_s: float,
        outcomes: Sequence[Outcome],
        waits_s: Sequence[float],
        retried: Sequence[str] = (),
        dead: Sequence[str] = (),
    ) -> None:
        """Count one batch of outcomes; called once per batch by the completer.

        Args:
            now_s: Monotonic seconds.
            outcomes: What the slots gave; the handler is `outcome.work.label`.
            waits_s: Seconds that each outcome's job waited in its queue, in the same order. Where the clocks of two
                machines disagree it may be negative, and counts as 0.
            retried: The handler's name of each job in the batch that is sent round again after a failure.
            dead: The handler's name of each job in the batch that is given up on.
        """
        if outcomes:
            first = outcomes[0].work.label
            labels = [outcome.work.label for outcome in outcomes]
            if labels.count(first) == len(labels):
                self._handler(first).record(now_s, outcomes, waits_s)
            else:
                self._record_mixed(now_s, labels, outcomes, waits_s)
        if retried:
            for label, count in Counter(retried).items():
                self._handler(label).retried_count += count
        if dead:
            for label, count in Counter(dead).items():
                self._handler(label).dead_count += count

    def record_submitted(self, now_s: float, label: str, count: int = 1) -> None:
        """Count `count` acknowledged submissions to the handler `label`."""
        self._handler(label).submitted.add(now_s, count)

    def record_exported(self, labels: Sequence[str]) -> None:
        """Count dead letters that were exported, by the handler's name of each."""
        for label, count in Counter(labels).items():
            self._handler(label).exported_count += count

    def record_queue_submitted(self, now_s: float, queue: str, count: int) -> None:
        """Count `count` jobs that were added to a queue since the last call."""
        counter = self.submitted.get(queue)
        if counter is None:
            counter = self.submitted[queue] = RateCounter(self._started_s)
        counter.add(now_s, count)

    def record_drained(self, now_s: float, queue: str, count: int) -> None:
        """Count `count` jobs of a queue that ended for good; called once per settled batch.

        Queues are those that this worker reads, so their number is bounded by its configuration.
        """
        counter = self.drained.get(queue)
        if counter is None:
            counter = self.drained[queue] = RateCounter(self._started_s)
        counter.add(now_s, count)

    def _record_mixed(
        self, now_s: float, labels: Sequence[str], outcomes: Sequence[Outcome], waits_s: Sequence[float]
    ) -> None:
        groups: dict[str, tuple[list[Outcome], list[float]]] = {label: ([], []) for label in set(labels)}
        for label, outcome, wait_s in zip(labels, outcomes, waits_s, strict=True):
            group = groups[label]
            group[0].append(outcome)
            group[1].append(wait_s)
        for label, (theirs, waits) in groups.items():
            self._handler(label).record(now_s, theirs, waits)

    def _handler(self, label: str) -> HandlerRecord:
        record = self.handlers.get(label)
        if record is None:
            if len(self.handlers) >= HANDLERS_MAX:
                label = OTHERS
            record = self.handlers.setdefault(label, HandlerRecord(self._started_s))
        return record
