"""Reads the gauges off a dispatcher: bounds, fillings, slots, sinks; and what a worker publishes of a handler.

One look at what the pools and sinks say of themselves; it keeps no state and never waits.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from headrace.jobs.handler import HandlerPlan

from ..observe.fleet import HandlerCard
from ..observe.process import ProcessWatch
from ..observe.report import Gauges, RunnerGauge, WorkerReport, report
from ..observe.statistics import Backpressure, ProcessFigures, SinkFigures
from ..sinks.port import Sink

if TYPE_CHECKING:
    from .dispatcher import Dispatcher


def dispatcher_report(
    dispatcher: "Dispatcher",
    sinks: Sequence[Sink],
    prefetch_max: int,
    refused: int,
    *,
    fetch_paused_s: float = 0.0,
    watch: ProcessWatch | None = None,
    held_back: int = 0,
) -> WorkerReport:
    """Return a dispatcher's report.

    Args:
        dispatcher: Whose pools and outbox are read.
        sinks: The sinks to show.
        prefetch_max: The bound of what may wait for a slot.
        refused: Submissions refused so far.
        fetch_paused_s: Seconds for which fetching was held back.
        watch: Figures of the process; left at zero without.
        held_back: Jobs that wait for company or their turn, beside those that wait for a slot.
    """
    now_s = time.monotonic()
    pools = {name: pool.statistics() for name, pool in dispatcher.pools.items()}
    gauges = Gauges(
        runners={
            name: RunnerGauge(slots=pool.slots, busy=pool.busy, stuck=len(pool.stuck)) for name, pool in pools.items()
        },
        backpressure=Backpressure(
            # What a free slot is about to take waits for no slot.
            prefetched=held_back + sum(max(0, pool.ready - max(0, pool.slots - pool.busy)) for pool in pools.values()),
            prefetch_max=prefetch_max,
            settle_backlog=dispatcher.completer.pending,
            settle_backlog_max=dispatcher.outbox.bound,
            fetch_paused_s=fetch_paused_s,
            refused=refused,
            sinks={sink.name: _figures(sink) for sink in sinks},
        ),
        process=watch.figures(now_s) if watch is not None else ProcessFigures(),
    )
    return report(dispatcher.recorder, now_s, gauges)


def card_of(plan: HandlerPlan) -> HandlerCard:
    """Return what the fleet record says of a handler."""
    options = plan.options
    schema = msgspec.Raw(msgspec.msgpack.encode(plan.arguments.schema()))
    card = HandlerCard(options.queue, plan.runner, options.aliases, schema)
    if options.unique is None:
        return card
    return msgspec.structs.replace(card, unique=options.unique.key, on_duplicate=options.unique.on_duplicate)


def _figures(sink: Sink) -> SinkFigures:
    fields = msgspec.structs.asdict(sink.statistics())
    fields.pop("name")
    return SinkFigures(**fields)
