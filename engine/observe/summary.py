"""From a report to the public statistics record: percentiles out of histograms, shares out of counts.

Functions only: what they return depends on what they are given and nothing else.
"""

from collections.abc import Mapping

import msgspec

from .histogram import Histogram, HistogramWire
from .merging import merge_handlers, merge_runners
from .rates import sum_rates
from .report import HandlerReport, RunnerGauge, WorkerReport
from .statistics import (
    Concurrency,
    Errors,
    HandlerFigures,
    Latency,
    Percentiles,
    QueueFigures,
    RunnerConcurrency,
    Statistics,
    Throughput,
)


def summarize(whole: WorkerReport, queues: Mapping[str, QueueFigures] | None = None) -> Statistics:
    """Return the public record of a report.

    Args:
        whole: One worker's report, or several merged.
        queues: What the server says of each queue, by name; `drain_eta_s` is computed here.
    """
    everything = handler_figures(merge_handlers(list(whole.handlers.values())))
    return Statistics(
        # Counted by the server where there is one, since most producers are other processes.
        throughput=msgspec.structs.replace(
            everything.throughput, submitted_per_s=sum_rates(whole.submitted_per_s.values())
        )
        if whole.submitted_per_s
        else everything.throughput,
        latency_ms=everything.latency_ms,
        errors=everything.errors,
        concurrency=_concurrency(whole.gauges.runners),
        backpressure=whole.gauges.backpressure,
        queues={
            name: msgspec.structs.replace(
                figures, drain_eta_s=drain_eta_s(figures.queued, whole.drained_per_s.get(name, 0.0))
            )
            for name, figures in (queues or {}).items()
        },
        process=whole.gauges.process,
        handlers={name: handler_figures(one) for name, one in sorted(whole.handlers.items())},
    )


def drain_eta_s(queued_count: int, drained_per_s: float) -> float | None:
    """Return the seconds until a queue is worked off if no job is added: 0 when empty, None when nothing moves."""
    if queued_count <= 0:
        return 0.0
    return queued_count / drained_per_s if drained_per_s > 0 else None


def handler_figures(one: HandlerReport) -> HandlerFigures:
    """Return the public figures of a handler's report."""
    completed_per_s = one.completed_per_s.last_60s
    return HandlerFigures(
        throughput=Throughput(
            submitted_per_s=one.submitted_per_s,
            completed_per_s=one.completed_per_s,
            failed_per_s=one.failed_per_s,
        ),
        latency_ms=Latency(
            queue_wait=_percentiles(one.queue_wait), run=_percentiles(one.run), total=_percentiles(one.total)
        ),
        errors=Errors(
            failed=one.failed,
            retried=one.retried,
            timed_out=one.timed_out,
            dead=one.dead,
            exported=one.exported,
            rate=one.failed_per_s.last_60s / completed_per_s if completed_per_s else 0.0,
        ),
    )


def _percentiles(wire: HistogramWire) -> Percentiles:
    histogram = Histogram.from_wire(wire)

    def quantile_ms(q: float) -> float | None:
        value_s = histogram.quantile(q)
        return None if value_s is None else value_s * 1000

    return Percentiles(
        p50=quantile_ms(0.5),
        p90=quantile_ms(0.9),
        p99=quantile_ms(0.99),
        p999=quantile_ms(0.999),
        max=quantile_ms(1.0),
    )


def _concurrency(runners: Mapping[str, RunnerGauge]) -> Concurrency:
    whole = _runner_concurrency(merge_runners(list(runners.values())))
    return Concurrency(
        slots=whole.slots,
        busy=whole.busy,
        utilization=whole.utilization,
        stuck=whole.stuck,
        runners={name: _runner_concurrency(gauge) for name, gauge in sorted(runners.items())},
    )


def _runner_concurrency(gauge: RunnerGauge) -> RunnerConcurrency:
    return RunnerConcurrency(
        slots=gauge.slots,
        busy=gauge.busy,
        utilization=gauge.busy / gauge.slots if gauge.slots else 0.0,
        stuck=gauge.stuck,
    )
