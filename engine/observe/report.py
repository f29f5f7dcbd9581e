"""A worker's report: everything the statistics are made of, in a form that adds up over workers.

A worker publishes its WorkerReport as msgpack bytes; whoever shows figures merges the reports of all workers
(merging.py) and makes the public record of them (summary.py). Queues are not in it: they are the server's, and several
workers must not count one queue twice. Records and one function; no state.
"""

import msgspec

from .histogram import Buckets, HistogramWire
from .metrics import HandlerRecord, Recorder
from .rates import RateCounter, Rates
from .statistics import Backpressure, ProcessFigures


class HandlerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One handler in one worker, or in several after merging.

    Attributes:
        submitted_per_s: Acknowledged submissions a second.
        completed_per_s: Runs ended a second.
        failed_per_s: Runs failed a second.
        submitted: Acknowledged submissions since the start.
        completed: Runs ended since the start.
        failed: Runs failed since the start.
        retried: Jobs sent round again since the start.
        timed_out: Runs stopped at their timeout since the start.
        dead: Jobs given up on since the start.
        exported: Dead letters exported since the start.
        queue_wait: Seconds waited in the queue, last minute.
        run: Seconds run, last minute.
        total: Both together.
        queue_wait_ever: Seconds waited in the queue, since the start.
        run_ever: Seconds run, since the start.
    """

    submitted_per_s: Rates = Rates()
    completed_per_s: Rates = Rates()
    failed_per_s: Rates = Rates()
    submitted: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    timed_out: int = 0
    dead: int = 0
    exported: int = 0
    queue_wait: HistogramWire = HistogramWire()
    run: HistogramWire = HistogramWire()
    total: HistogramWire = HistogramWire()
    queue_wait_ever: Buckets = Buckets()
    run_ever: Buckets = Buckets()


class RunnerGauge(msgspec.Struct, frozen=True, kw_only=True):
    """The pool of one runner, as the pool itself knows it.

    Attributes:
        slots: How many jobs it runs at once.
        busy: How many run now.
        stuck: Busy slots whose job is past its timeout and could not be stopped.
    """

    slots: int = 0
    busy: int = 0
    stuck: int = 0


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """What is read off at the moment of reporting, beside what the Recorder counted.

    Attributes:
        runners: Each runner's pool by the runner's name.
        backpressure: Bounds and fillings.
        process: This process.
    """

    runners: dict[str, RunnerGauge] = {}
    backpressure: Backpressure = Backpressure()
    process: ProcessFigures = ProcessFigures()


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker publishes, or several together.

    Attributes:
        handlers: Each handler by its name.
        submitted_per_s: Jobs added to each queue by anybody, a second; the same in all workers: merging keeps the most.
        drained_per_s: Jobs of each queue that ended for good, a second, over the last 60 seconds.
        gauges: What was read off at that moment.
    """

    handlers: dict[str, HandlerReport] = {}
    submitted_per_s: dict[str, Rates] = {}
    drained_per_s: dict[str, float] = {}
    gauges: Gauges = Gauges()

    def to_bytes(self) -> bytes:
        """Return the report as msgpack; histograms hold only the buckets that have values."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "WorkerReport":
        """Return the report that a worker published.

        Raises:
            ValueError: this version cannot read these bytes: another version wrote them, or something else did.
        """
        try:
            return _decoder.decode(data)
        except msgspec.DecodeError as error:
            raise ValueError(
                f"a worker's published statistics cannot be read ({error}): it runs another version of headrace, or"
                " something else wrote to its key; bring all workers to one version"
            ) from error


_decoder = msgspec.msgpack.Decoder(WorkerReport)


def report(recorder: Recorder, now_s: float, gauges: Gauges) -> WorkerReport:
    """Return a worker's report at monotonic time `now_s`."""
    return WorkerReport(
        handlers={name: _handler_report(record, now_s) for name, record in recorder.handlers.items()},
        submitted_per_s={queue: counter.rates(now_s) for queue, counter in recorder.submitted.items()},
        drained_per_s={queue: counter.rates(now_s).last_60s for queue, counter in recorder.drained.items()},
        gauges=gauges,
    )


def _handler_report(record: HandlerRecord, now_s: float) -> HandlerReport:
    def read(counter: RateCounter) -> Rates:
        return counter.rates(now_s)

    return HandlerReport(
        submitted_per_s=read(record.submitted),
        completed_per_s=read(record.completed),
        failed_per_s=read(record.failed),
        submitted=record.submitted.total,
        completed=record.completed.total,
        failed=record.failed.total,
        retried=record.retried_count,
        timed_out=record.timed_out_count,
        dead=record.dead_count,
        exported=record.exported_count,
        queue_wait=record.queue_wait.snapshot(now_s).to_wire(),
        run=record.run.snapshot(now_s).to_wire(),
        total=record.total.snapshot(now_s).to_wire(),
        queue_wait_ever=record.queue_wait.ever(),
        run_ever=record.run.ever(),
    )
