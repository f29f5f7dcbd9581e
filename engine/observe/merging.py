"""Reports of several workers made one: counts and rates add, histograms merge, of the worst durations the worst stays.

Merging in any order and grouping gives the same (rates up to rounding). Functions only: no state, no I/O.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from .histogram import Histogram, HistogramWire, add_buckets
from .rates import highest_rates, sum_rates
from .report import Gauges, HandlerReport, RunnerGauge, WorkerReport
from .statistics import Backpressure, ProcessFigures, SinkFigures

_One = TypeVar("_One")


def merge(reports: Iterable[WorkerReport]) -> WorkerReport:
    """Return the report of all workers together; that of none is empty."""
    each = list(reports)
    return WorkerReport(
        handlers=_merge_named([one.handlers for one in each], merge_handlers),
        submitted_per_s=_merge_named([one.submitted_per_s for one in each], highest_rates),
        drained_per_s=_merge_named([one.drained_per_s for one in each], sum),
        gauges=Gauges(
            runners=_merge_named([one.gauges.runners for one in each], merge_runners),
            backpressure=_merge_backpressure([one.gauges.backpressure for one in each]),
            process=_merge_process([one.gauges.process for one in each]),
        ),
    )


def merge_handlers(same: Sequence[HandlerReport]) -> HandlerReport:
    """Return the report of one handler in several workers, or of several handlers together."""
    return HandlerReport(
        submitted_per_s=sum_rates(one.submitted_per_s for one in same),
        completed_per_s=sum_rates(one.completed_per_s for one in same),
        failed_per_s=sum_rates(one.failed_per_s for one in same),
        submitted=sum(one.submitted for one in same),
        completed=sum(one.completed for one in same),
        failed=sum(one.failed for one in same),
        retried=sum(one.retried for one in same),
        timed_out=sum(one.timed_out for one in same),
        dead=sum(one.dead for one in same),
        exported=sum(one.exported for one in same),
        queue_wait=_merge_histograms(one.queue_wait for one in same),
        run=_merge_histograms(one.run for one in same),
        total=_merge_histograms(one.total for one in same),
        queue_wait_ever=add_buckets(one.queue_wait_ever for one in same),
        run_ever=add_buckets(one.run_ever for one in same),
    )


def merge_runners(same: Sequence[RunnerGauge]) -> RunnerGauge:
    """Return the gauge of several pools together."""
    return RunnerGauge(
        slots=sum(one.slots for one in same), busy=sum(one.busy for one in same), stuck=sum(one.stuck for one in same)
    )


def _merge_histograms(wires: Iterable[HistogramWire]) -> HistogramWire:
    whole = Histogram()
    for wire in wires:
        whole.merge_wire(wire)
    return whole.to_wire()


def _merge_sinks(same: Sequence[SinkFigures]) -> SinkFigures:
    return SinkFigures(
        written=sum(one.written for one in same),
        pending=sum(one.pending for one in same),
        pending_max=sum(one.pending_max for one in same),
        dropped=sum(one.dropped for one in same),
        errors=sum(one.errors for one in same),
        flushes=sum(one.flushes for one in same),
        bytes=sum(one.bytes for one in same),
    )


def _merge_backpressure(same: Sequence[Backpressure]) -> Backpressure:
    return Backpressure(
        prefetched=sum(one.prefetched for one in same),
        prefetch_max=sum(one.prefetch_max for one in same),
        settle_backlog=sum(one.settle_backlog for one in same),
        settle_backlog_max=sum(one.settle_backlog_max for one in same),
        spool_bytes=sum(one.spool_bytes for one in same),
        fetch_paused_s=sum(one.fetch_paused_s for one in same),
        refused=sum(one.refused for one in same),
        sinks=_merge_named([one.sinks for one in same], _merge_sinks),
    )


def _merge_process(same: Sequence[ProcessFigures]) -> ProcessFigures:
    return ProcessFigures(
        rss_bytes=sum(one.rss_bytes for one in same),
        cpu_percent=sum(one.cpu_percent for one in same),
        loop_lag_ms=_worst(one.loop_lag_ms for one in same),
        gc_pause_ms=_worst(one.gc_pause_ms for one in same),
        net_in_bytes=sum(one.net_in_bytes for one in same),
        net_out_bytes=sum(one.net_out_bytes for one in same),
        disk_written_bytes=sum(one.disk_written_bytes for one in same),
        fsync_ms=_worst(one.fsync_ms for one in same),
    )


def _worst(figures: Iterable[float | None]) -> float | None:
    return max((figure for figure in figures if figure is not None), default=None)


def _merge_named(parts: Sequence[Mapping[str, _One]], together: Callable[[Sequence[_One]], _One]) -> dict[str, _One]:
    names = sorted({name for part in parts for name in part})
    return {name: together([part[name] for part in parts if name in part]) for name in names}
