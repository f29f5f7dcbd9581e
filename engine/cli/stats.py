"""`headrace stats`: the figures of all workers and queues together, once or every second.

The record is the one of `engine.statistics()` and GET /v1/stats; the tables show its most asked-for figures.
"""

import time
from collections.abc import Iterator

import click

from .. import inspect
from ..observe.statistics import Percentiles, Statistics
from .opening import opened_broker
from .options import json_option, url_option
from .output import print_json, print_table

EVERY_S = 1.0


@click.command
@json_option
@click.option("--watch", is_flag=True, help="Print one JSON line every second, until Ctrl-C.")
@url_option
def command(as_json: bool, watch: bool) -> None:
    """Show the figures of all workers and queues."""
    with opened_broker() as broker:
        statistics = inspect.statistics(broker)
        if watch:
            due_s = time.monotonic()
            while True:
                print_json(statistics)
                due_s = max(due_s + EVERY_S, time.monotonic())
                time.sleep(max(0.0, due_s - time.monotonic()))
                statistics = inspect.statistics(broker)
        if as_json:
            print_json(statistics)
            return
        _print(statistics)


def _print(statistics: Statistics) -> None:
    throughput, errors, pools = statistics.throughput, statistics.errors, statistics.concurrency
    rates = (
        ("submitted", throughput.submitted_per_s),
        ("completed", throughput.completed_per_s),
        ("failed", throughput.failed_per_s),
    )
    print_table(
        ("jobs/s over", "1 s", "10 s", "60 s"),
        [(name, _number(of.last_1s), _number(of.last_10s), _number(of.last_60s)) for name, of in rates],
    )
    latency = statistics.latency_ms
    click.echo()
    print_table(
        ("ms", "p50", "p90", "p99", "p99.9", "max"),
        [("queue wait", *_percentiles(latency.queue_wait)), ("run", *_percentiles(latency.run)),
         ("total", *_percentiles(latency.total))],
    )  # fmt: skip
    click.echo()
    print_table(
        ("pool", "slots", "busy", "stuck"),
        [("all", pools.slots, pools.busy, pools.stuck)]
        + [(name, runner.slots, runner.busy, runner.stuck) for name, runner in pools.runners.items()],
    )
    click.echo()
    print_table(
        ("queue", "queued", "running", "delayed", "dead", "oldest s", "empty in s"),
        [
            (name, queue.queued, queue.running, queue.delayed, queue.dead, _number(queue.oldest_age_s),
             _number(queue.drain_eta_s))
            for name, queue in statistics.queues.items()
        ],
    )  # fmt: skip
    click.echo(
        f"\nsince the start: {errors.failed:,} failed runs, {errors.timed_out:,} of them timed out; "
        f"{errors.retried:,} retries, {errors.dead:,} dead, {errors.exported:,} dead letters exported"
    )


def _percentiles(figures: Percentiles) -> Iterator[str | None]:
    return (_number(getattr(figures, name)) for name in ("p50", "p90", "p99", "p999", "max"))


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f}"
