"""The public statistics record: what `engine.statistics()`, GET /v1/stats and `headrace stats --json` give.

Records only, and their JSON. Each attribute's line states its unit in brackets and its meaning; docs/statistics.md is
generated from these lines, so the page cannot say anything else. A figure is null where nothing was measured. Names are
the contract: change none.
"""

import msgspec

from .rates import Rates


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """How fast jobs come and go.

    Attributes:
        submitted_per_s (jobs/s): Submissions that were acknowledged.
        completed_per_s (runs/s): Runs that ended: succeeded, failed, timed out, crashed or cancelled. Not among them:
            runs that shutdown interrupted, for their jobs run again, and jobs that never ran, as expired or unreadable.
        failed_per_s (runs/s): Those of them that failed, timed out or crashed.
    """

    submitted_per_s: Rates = Rates()
    completed_per_s: Rates = Rates()
    failed_per_s: Rates = Rates()


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Durations of the last 50 to 60 seconds, percentiles at most 3.2 % off; each figure is null when there was none.

    Attributes:
        p50 (ms): Half of all took at most this.
        p90 (ms): 90 % took at most this.
        p99 (ms): 99 % took at most this.
        p999 (ms): 99.9 % took at most this.
        max (ms): The longest, exactly; at most 24 hours.
    """

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    p999: float | None = None
    max: float | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long jobs wait and run; one entry for each run that was started and ended.

    Attributes:
        queue_wait (ms): From due (submitted, or the end of its delay) to the start of the handler.
        run (ms): From the start of the handler to its end.
        total (ms): Both together.
    """

    queue_wait: Percentiles = Percentiles()
    run: Percentiles = Percentiles()
    total: Percentiles = Percentiles()


class RunnerConcurrency(msgspec.Struct, frozen=True, kw_only=True):
    """The pool of one runner.

    Attributes:
        slots (slots): How many jobs it runs at once.
        busy (slots): How many run now.
        utilization (share): busy / slots, 0 to 1; 0 without slots.
        stuck (slots): Busy slots whose job is past its timeout and could not be stopped.
    """

    slots: int = 0
    busy: int = 0
    utilization: float = 0.0
    stuck: int = 0


class Concurrency(msgspec.Struct, frozen=True, kw_only=True):
    """The pools: all together, and each runner's by its name.

    Attributes:
        slots (slots): How many jobs run at once.
        busy (slots): How many run now.
        utilization (share): busy / slots, 0 to 1; 0 without slots.
        stuck (slots): Busy slots whose job is past its timeout and could not be stopped.
        runners: The same for each runner: "async", "thread", "process".
    """

    slots: int = 0
    busy: int = 0
    utilization: float = 0.0
    stuck: int = 0
    runners: dict[str, RunnerConcurrency] = {}


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong since the workers started.

    Attributes:
        failed (runs): Runs that failed, timed out or crashed.
        retried (jobs): Jobs that were sent round again after such a run, counted once each time.
        timed_out (runs): Runs that were stopped at their timeout.
        dead (jobs): Jobs that were given up on and went to the dead letters.
        exported (jobs): Dead letters that were moved to a file, the oldest of queues with more than `max_dead`.
        rate (share): Failed runs of all completed runs in the last 60 seconds, 0 to 1; 0 when there were none.
    """

    failed: int = 0
    retried: int = 0
    timed_out: int = 0
    dead: int = 0
    exported: int = 0
    rate: float = 0.0


class SinkFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One sink, since it was opened; sinks of one name in several workers are added up.

    Attributes:
        written (outcomes): Accepted and written as durably as the sink promises.
        pending (outcomes): Accepted, not yet written.
        pending_max (outcomes): The bound of `pending`; at it, the sink makes its writer wait or drops, as it was told.
        dropped (outcomes): Dropped because the sink's own rule says so.
        errors (faults): Faults met so far, whether or not they were overcome.
        flushes (batches): Batches handed to the outside.
        bytes (bytes): Bytes handed to the outside.
    """

    written: int = 0
    pending: int = 0
    pending_max: int = 0
    dropped: int = 0
    errors: int = 0
    flushes: int = 0
    bytes: int = 0


class Backpressure(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound between the server and the handlers, and how near to it we are.

    Attributes:
        prefetched (jobs): Fetched from the server and not started: waiting for a slot, a full batch or their turn.
        prefetch_max (jobs): The bound of `prefetched`.
        settle_backlog (outcomes): Ended jobs whose outcome is not yet on the server.
        settle_backlog_max (outcomes): The bound of `settle_backlog`; at it, no slot is given new work.
        spool_bytes (bytes): Submissions kept on this machine's disk until the server is back.
        fetch_paused_s (seconds): Time since the start in which fetching was held back, whatever the reason.
        refused (jobs): Submissions refused since the start because a queue or the backlog was full.
        sinks: Each sink by its name.
    """

    prefetched: int = 0
    prefetch_max: int = 0
    settle_backlog: int = 0
    settle_backlog_max: int = 0
    spool_bytes: int = 0
    fetch_paused_s: float = 0.0
    refused: int = 0
    sinks: dict[str, SinkFigures] = {}


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One queue, as the server has it.

    Attributes:
        delayed (jobs): Waiting for their time, retries included; of many that are due at once, those not yet needed.
        queued (jobs): Due, waiting for a worker.
        running (jobs): In the hands of workers.
        dead (jobs): In the dead letters.
        oldest_age_s (seconds): Age of the oldest queued job; null when none is queued.
        drain_eta_s (seconds): Until the queued jobs are worked off at the speed of the last 60 seconds if none is
            added; 0 when none is queued, null when nothing moves.
    """

    delayed: int = 0
    queued: int = 0
    running: int = 0
    dead: int = 0
    oldest_age_s: float | None = None
    drain_eta_s: float | None = None


class ProcessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The worker processes; over several, sizes and counts are added up and of durations the worst is given.

    Attributes:
        rss_bytes (bytes): Memory resident now; on macOS the most there ever was, for the system tells no more.
        cpu_percent (percent): Processor time used between the last two readings, of one core: 200 is two cores. Child
            processes of the process runner are not included.
        loop_lag_ms (ms): The longest delay of the event loop in the last 60 seconds: how late a timer came.
        gc_pause_ms (ms): The longest garbage collection in the last 60 seconds.
        net_in_bytes (bytes): Received from the server since the start.
        net_out_bytes (bytes): Sent to the server since the start.
        disk_written_bytes (bytes): Written to files by sinks and spool since the start.
        fsync_ms (ms): The longest wait in the last 60 seconds for the disk to confirm a write.
    """

    rss_bytes: int = 0
    cpu_percent: float = 0.0
    loop_lag_ms: float | None = None
    gc_pause_ms: float | None = None
    net_in_bytes: int = 0
    net_out_bytes: int = 0
    disk_written_bytes: int = 0
    fsync_ms: float | None = None


class HandlerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One handler.

    Attributes:
        throughput: How fast its jobs come and go.
        latency_ms: How long they wait and run.
        errors: What went wrong.
    """

    throughput: Throughput = Throughput()
    latency_ms: Latency = Latency()
    errors: Errors = Errors()


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """The whole record, of one worker or of all.

    Attributes:
        throughput: How fast jobs come and go.
        latency_ms: How long they wait and run.
        concurrency: The pools.
        errors: What went wrong.
        backpressure: Every bound, and how near to it we are.
        queues: Each queue by its name.
        process: The worker processes.
        handlers: Each handler by its name.
    """

    throughput: Throughput = Throughput()
    latency_ms: Latency = Latency()
    concurrency: Concurrency = Concurrency()
    errors: Errors = Errors()
    backpressure: Backpressure = Backpressure()
    queues: dict[str, QueueFigures] = {}
    process: ProcessFigures = ProcessFigures()
    handlers: dict[str, HandlerFigures] = {}


def to_json(statistics: Statistics) -> bytes:
    """Return the record as one JSON document, in UTF-8, without a line break."""
    return msgspec.json.encode(statistics)
