"""The metrics: every name that GET /metrics gives, its kind, its labels, what it says and where it is read from.

A name begins with headrace_ and ends in its unit. To add one, add a line here: the collector, docs/metrics.md and the
test that holds dashboard and alerts against these names follow. Counters of workers have the worker's id as a label and
begin at 0 with it, so that none ever falls: rates are summed over workers, and a worker that has left has just no more
samples. Declarations only; no state.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram", "info"]

#: The last words of names. A counter is `..._total`, of which unit the word before says.
UNITS: Final = ("seconds", "bytes", "ratio", "total", "jobs", "outcomes", "slots", "streams", "workers", "flag", "info")


class Family(NamedTuple):
    """One metric.

    Attributes:
        name: Its name, as it is shown; of a histogram without `_bucket` and the like.
        kind: What it is.
        help: What it says.
        read: Gives its value out of the group's record; None where nothing was measured. A histogram's is a
            Buckets, an info's a dict of further labels.
    """

    name: str
    kind: Kind
    help: str
    read: Callable[[Any], Any]


class Group(NamedTuple):
    """Metrics that are read from the same kind of record.

    Attributes:
        about: What the record is about.
        labels: What tells one record from another.
        families: The metrics.
    """

    about: str
    labels: tuple[str, ...]
    families: tuple[Family, ...]


def _seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1000


HANDLERS: Final = Group(
    "Each handler in each worker",
    ("worker", "handler"),
    (
        Family("headrace_completed_runs_total", "counter", "Runs that ended, however.", lambda r: r.completed),
        Family("headrace_failed_runs_total", "counter", "Runs that failed, timed out or crashed.", lambda r: r.failed),
        Family("headrace_timed_out_runs_total", "counter", "Runs stopped at their timeout.", lambda r: r.timed_out),
        Family("headrace_retried_jobs_total", "counter", "Jobs sent round again after a failure.", lambda r: r.retried),
        Family("headrace_dead_jobs_total", "counter", "Jobs given up on.", lambda r: r.dead),
        Family("headrace_exported_jobs_total", "counter", "Dead letters moved to a file.", lambda r: r.exported),
        Family(
            "headrace_queue_wait_seconds",
            "histogram",
            "From due to the start of the handler, of each run that ended.",
            lambda r: r.queue_wait_ever,
        ),
        Family(
            "headrace_run_seconds",
            "histogram",
            "From the start of the handler to its end, of each run that ended.",
            lambda r: r.run_ever,
        ),
    ),
)

RUNNERS: Final = Group(
    "Each runner's pool in each worker",
    ("worker", "runner"),
    (
        Family("headrace_runner_slots", "gauge", "How many jobs the pool runs at once.", lambda r: r.slots),
        Family("headrace_runner_busy_slots", "gauge", "How many run now.", lambda r: r.busy),
        Family(
            "headrace_runner_stuck_slots",
            "gauge",
            "Busy slots whose job is past its timeout and could not be stopped.",
            lambda r: r.stuck,
        ),
    ),
)

SINKS: Final = Group(
    "Each sink in each worker",
    ("worker", "sink"),
    (
        Family("headrace_sink_written_outcomes_total", "counter", "Outcomes written.", lambda r: r.written),
        Family("headrace_sink_pending_outcomes", "gauge", "Accepted, not yet written.", lambda r: r.pending),
        Family("headrace_sink_pending_max_outcomes", "gauge", "The bound of those.", lambda r: r.pending_max),
        Family("headrace_sink_dropped_outcomes_total", "counter", "Dropped by the sink's rule.", lambda r: r.dropped),
        Family("headrace_sink_faults_total", "counter", "Faults met, overcome or not.", lambda r: r.errors),
        Family("headrace_sink_flushes_total", "counter", "Batches handed to the outside.", lambda r: r.flushes),
        Family("headrace_sink_written_bytes_total", "counter", "Bytes handed to the outside.", lambda r: r.bytes),
    ),
)

WORKERS: Final = Group(
    "Each worker",
    ("worker",),
    (
        Family(
            "headrace_worker_info",
            "info",
            "A worker, its host, its version and what it is about.",
            lambda r: {"host": r.host, "version": r.version, "state": r.state},
        ),
        Family(
            "headrace_worker_start_time_seconds",
            "gauge",
            "When it started, in seconds since the epoch.",
            lambda r: r.started_at_ms / 1000,
        ),
        Family(
            "headrace_worker_fetch_age_seconds",
            "gauge",
            "Since it last asked for jobs, or was last held back by full pools; 30 and more is no consumption.",
            lambda r: r.fetch_age_s,
        ),
        Family("headrace_prefetched_jobs", "gauge", "Fetched and not started.", lambda r: _pressure(r).prefetched),
        Family("headrace_prefetch_max_jobs", "gauge", "The bound of those.", lambda r: _pressure(r).prefetch_max),
        Family(
            "headrace_settle_backlog_outcomes",
            "gauge",
            "Ended jobs whose outcome is not yet on the server.",
            lambda r: _pressure(r).settle_backlog,
        ),
        Family(
            "headrace_settle_backlog_max_outcomes",
            "gauge",
            "The bound of those; at it no slot is given new work.",
            lambda r: _pressure(r).settle_backlog_max,
        ),
        Family(
            "headrace_spool_bytes",
            "gauge",
            "Submissions kept on the disk until the server is back.",
            lambda r: _pressure(r).spool_bytes,
        ),
        Family(
            "headrace_fetch_paused_seconds_total",
            "counter",
            "Time in which fetching was held back.",
            lambda r: _pressure(r).fetch_paused_s,
        ),
        Family(
            "headrace_refused_jobs_total",
            "counter",
            "Submissions that this process refused because a queue or the backlog was full.",
            lambda r: _pressure(r).refused,
        ),
        Family("headrace_worker_resident_memory_bytes", "gauge", "Resident memory.", lambda r: _process(r).rss_bytes),
        Family(
            "headrace_worker_cpu_ratio",
            "gauge",
            "Processor time used, of one core: 2 is two cores.",
            lambda r: _process(r).cpu_percent / 100,
        ),
        Family(
            "headrace_worker_loop_lag_seconds",
            "gauge",
            "The longest delay of the event loop in the last 60 seconds.",
            lambda r: _seconds(_process(r).loop_lag_ms),
        ),
        Family(
            "headrace_worker_gc_pause_seconds",
            "gauge",
            "The longest garbage collection in the last 60 seconds.",
            lambda r: _seconds(_process(r).gc_pause_ms),
        ),
        Family(
            "headrace_worker_fsync_seconds",
            "gauge",
            "The longest wait in the last 60 seconds for the disk to confirm a write.",
            lambda r: _seconds(_process(r).fsync_ms),
        ),
        Family(
            "headrace_worker_received_bytes_total",
            "counter",
            "Received from the server.",
            lambda r: _process(r).net_in_bytes,
        ),
        Family("headrace_worker_sent_bytes_total", "counter", "Sent to it.", lambda r: _process(r).net_out_bytes),
        Family(
            "headrace_worker_disk_written_bytes_total",
            "counter",
            "Written to files by sinks and spool.",
            lambda r: _process(r).disk_written_bytes,
        ),
    ),
)

QUEUES: Final = Group(
    "Each queue, as the server has it",
    ("queue",),
    (
        Family("headrace_queue_queued_jobs", "gauge", "Due, waiting for a worker.", lambda r: r.view.queued),
        Family(
            "headrace_queue_delayed_jobs",
            "gauge",
            "Waiting for their time, retries included.",
            lambda r: r.view.delayed,
        ),
        Family("headrace_queue_running_jobs", "gauge", "In the hands of workers.", lambda r: r.view.running),
        Family("headrace_queue_dead_jobs", "gauge", "In the dead letters.", lambda r: r.view.dead),
        Family(
            "headrace_queue_oldest_age_seconds",
            "gauge",
            "Age of the oldest job that waits; 0 when none does.",
            lambda r: r.view.oldest_age_s,
        ),
        Family(
            "headrace_queue_drain_seconds",
            "gauge",
            "Until the queued jobs are worked off at the speed of the last minute; absent when nothing moves.",
            lambda r: r.drain_s,
        ),
        Family("headrace_queue_workers", "gauge", "Workers registered with it.", lambda r: r.view.workers),
        Family(
            "headrace_queue_submitted_jobs_total",
            "counter",
            "Jobs ever submitted to it by anybody; 0 on a Redis before 7.",
            lambda r: r.view.submitted,
        ),
        Family("headrace_queue_paused_flag", "gauge", "1 while it is paused.", lambda r: int(r.view.paused)),
        Family(
            "headrace_queue_stalled_flag",
            "gauge",
            "1 while it has workers, or had them and they fell silent, and none asks for its jobs.",
            lambda r: int(r.stalled),
        ),
    ),
)

FLEET: Final = Group(
    "All workers, by what they are about: working, quiet, stopping, stalled, or silent when no word comes any more",
    ("state",),
    (Family("headrace_workers", "gauge", "How many workers there are.", lambda r: r),),
)

API: Final = Group(
    "The process that answers",
    (),
    (
        Family(
            "headrace_build_info", "info", "The version of headrace that answers.", lambda r: {"version": r.version}
        ),
        Family("headrace_broker_up_flag", "gauge", "1 while the server answers.", lambda r: int(r.is_up)),
        Family("headrace_http_event_streams", "gauge", "Event streams that are open.", lambda r: r.streams),
        Family(
            "headrace_http_dropped_streams_total",
            "counter",
            "Event streams that were ended because their clients did not read.",
            lambda r: r.dropped_streams,
        ),
        Family("headrace_http_stream_bytes_total", "counter", "Sent to event streams.", lambda r: r.stream_bytes),
        Family(
            "headrace_http_unfinished_bodies_bytes",
            "gauge",
            "Held of request bodies that have not ended; past 256 MiB, or one body at its largest, they are refused.",
            lambda r: r.held_bytes,
        ),
        Family(
            "headrace_http_unread_answers_bytes",
            "gauge",
            "Held of answers that clients of HTTP/2 have not taken; past 256 MiB those that hold most are closed.",
            lambda r: r.unread_bytes,
        ),
        Family("headrace_http_resident_memory_bytes", "gauge", "Resident memory.", lambda r: r.process.rss_bytes),
        Family(
            "headrace_http_cpu_ratio",
            "gauge",
            "Processor time used, of one core: 2 is two cores.",
            lambda r: r.process.cpu_percent / 100,
        ),
        Family(
            "headrace_http_loop_lag_seconds",
            "gauge",
            "The longest delay of the event loop in the last 60 seconds.",
            lambda r: _seconds(r.process.loop_lag_ms),
        ),
        Family(
            "headrace_http_gc_pause_seconds",
            "gauge",
            "The longest garbage collection in the last 60 seconds.",
            lambda r: _seconds(r.process.gc_pause_ms),
        ),
    ),
)

GROUPS: Final = (QUEUES, HANDLERS, RUNNERS, WORKERS, SINKS, FLEET, API)


def sample_names(family: Family) -> tuple[str, ...]:
    """Return the names under which a metric's samples are queried."""
    if family.kind == "histogram":
        return tuple(f"{family.name}{suffix}" for suffix in ("_bucket", "_count", "_sum"))
    return (family.name,)


def _pressure(record: Any) -> Any:
    return record.report.gauges.backpressure


def _process(record: Any) -> Any:
    return record.report.gauges.process
