"""The metrics as Prometheus and OpenMetrics read them: a collector over what the workers publish and the server counts.

It adds nothing up that belongs to one worker: a counter is that worker's own, so none falls when another leaves. A read
of the server serves all scrapes of the next second; it and the writing of the text are done in a thread. Handlers that
no worker declares share one name, and so do queues past a bound, so that whoever submits cannot add series without end.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

import anyio
import msgspec
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from headrace.jobs.errors import BrokerUnavailable

from .. import inspect
from ..broker.control import OpenBroker
from ..broker.courier import Courier
from ..broker.views import QueueView
from ..observe.families import API, FLEET, HANDLERS, QUEUES, RUNNERS, SINKS, WORKERS, Family, Group
from ..observe.fleet import FleetRecord
from ..observe.histogram import BOUNDS_S
from ..observe.merging import merge_handlers
from ..observe.metrics import OTHERS
from ..observe.process import ProcessWatch
from ..observe.report import HandlerReport
from ..observe.statistics import ProcessFigures
from ..observe.summary import drain_eta_s
from ..version import VERSION
from .feed import Feed
from .held import Held
from .unread import Unread

#: Several scrapers, and people who reload, cost the server one read a second.
READ_TTL_S: Final = 1.0
#: Queues with series of their own; anybody who submits may make one.
QUEUES_MAX_COUNT: Final = 1000

_BOUNDS: Final = (*map(str, BOUNDS_S), "+Inf")
_NAMED: Final[dict[str, Callable[..., Metric]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
    "info": InfoMetricFamily,
}


_NOT_RUN: Final = HandlerReport()


class QueueRecord(msgspec.Struct, frozen=True):
    """A queue, with what is known of it beside its depths.

    Attributes:
        view: Its depths.
        drain_s: Seconds until it is worked off; None when nothing moves.
        stalled: Whether none of the workers that it had asks for its jobs.
    """

    view: QueueView
    drain_s: float | None
    stalled: bool


class ApiRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The process that answers.

    Attributes:
        version: headrace's version.
        is_up: Whether the broker answers.
        streams: Event streams that are open.
        dropped_streams: Those that were ended because their clients did not read.
        stream_bytes: What was sent to all.
        held_bytes: What is held of bodies that have not ended.
        unread_bytes: What is held of answers that were not taken.
        process: Memory and the like.
    """

    version: str
    is_up: bool
    streams: int
    dropped_streams: int
    stream_bytes: int
    held_bytes: int
    unread_bytes: int
    process: ProcessFigures


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was read in one moment.

    Attributes:
        workers: Those that are there.
        silent: Those that fell silent.
        queues: All queues.
    """

    workers: list[FleetRecord] = []
    silent: list[FleetRecord] = []
    queues: list[QueueRecord] = []


class Exposition:
    """Gives the metrics.

    Args:
        broker: What is read.
        watch: Figures of this process.
        feed: Figures of the event streams.
        held: Bodies of requests.
        unread: Answers.
    """

    def __init__(self, broker: OpenBroker, watch: ProcessWatch, feed: Feed, held: Held, unread: Unread) -> None:
        self._broker = broker
        self._watch = watch
        self._feed = feed
        self._held = held
        self._unread = unread
        self._courier = Courier(broker.waits)
        self._lock: anyio.Lock | None = None
        self._read_at_s = float("-inf")
        self._snapshot: Snapshot | None = None
        self._named: dict[str, None] = {}

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, in the form that an Accept header asks for.

        While the server is away, only what is known without it; `headrace_broker_up_flag` says so.
        """
        if self._lock is None:
            self._lock = anyio.Lock()
        async with self._lock:
            if time.monotonic() - self._read_at_s >= READ_TTL_S:
                try:
                    self._snapshot = await self._courier.call(read, self._broker, self._named)
                except BrokerUnavailable:
                    self._snapshot = None
                self._read_at_s = time.monotonic()
            snapshot = self._snapshot
        encode, media_type = choose_encoder(accept)
        collector = Samples(snapshot or Snapshot(), self._api(is_up=snapshot is not None))
        return await self._courier.call(encode, collector), media_type

    def _api(self, *, is_up: bool) -> ApiRecord:
        return ApiRecord(
            version=VERSION,
            is_up=is_up,
            streams=self._feed.streams_count,
            dropped_streams=self._feed.dropped_count,
            stream_bytes=self._feed.sent_bytes,
            held_bytes=self._held.size_bytes,
            unread_bytes=self._unread.size_bytes,
            process=self._watch.figures(time.monotonic()),
        )


class Samples(Collector):
    """A snapshot as Prometheus's own library takes it.

    Args:
        snapshot: What was read.
        api: The process that answers.
    """

    def __init__(self, snapshot: Snapshot, api: ApiRecord) -> None:
        self._snapshot = snapshot
        self._api = api

    def collect(self) -> Iterator[Metric]:
        """Yield every family that there are values of."""
        snapshot = self._snapshot
        workers = [((record.worker,), record) for record in snapshot.workers]
        queues = [((record.view.name,), record) for record in snapshot.queues]
        yield from _written(QUEUES, queues, summed=(OTHERS,))
        yield from _written(HANDLERS, list(_handlers(snapshot.workers)))
        yield from _written(
            RUNNERS,
            [
                ((worker.worker, name), gauge)
                for worker in snapshot.workers
                for name, gauge in worker.report.gauges.runners.items()
            ],
        )
        yield from _written(WORKERS, workers)
        yield from _written(
            SINKS,
            [
                ((worker.worker, name), figures)
                for worker in snapshot.workers
                for name, figures in worker.report.gauges.backpressure.sinks.items()
            ],
        )
        if self._api.is_up:
            yield from _written(FLEET, list(_states(snapshot)))
        yield from _written(API, [((), self._api)])


def read(broker: OpenBroker, named: dict[str, None]) -> Snapshot:
    """Return what there is to show now; raises BrokerUnavailable.

    Args:
        broker: What is read.
        named: The queues that have series of their own; kept up to date.
    """
    workers, silent, views = inspect.workers(broker), inspect.silent_workers(broker), inspect.queues(broker)
    stalled = set(inspect.stalled_queues(workers, silent))
    drained: dict[str, float] = {}
    for worker in workers:
        for queue, per_s in worker.report.drained_per_s.items():
            drained[queue] = drained.get(queue, 0.0) + per_s
    return Snapshot(
        workers=workers,
        silent=silent,
        queues=[
            QueueRecord(view, drain_eta_s(view.queued, drained.get(view.name, 0.0)), view.name in stalled)
            for view in _bounded(views, named)
        ],
    )


def _bounded(views: Sequence[QueueView], named: dict[str, None]) -> Iterator[QueueView]:
    """Yield queues, those past the bound as one; a queue that was seen first keeps its own series while it is there."""
    there = {view.name for view in views}
    for gone in named.keys() - there:
        del named[gone]
    for view in views:
        if len(named) < QUEUES_MAX_COUNT:
            named[view.name] = None
        if view.name in named:
            yield view
    others = [view for view in views if view.name not in named]
    if others:
        yield QueueView(
            name=OTHERS,
            delayed=sum(view.delayed for view in others),
            queued=sum(view.queued for view in others),
            running=sum(view.running for view in others),
            dead=sum(view.dead for view in others),
            oldest_age_s=max(view.oldest_age_s for view in others),
            workers=max(view.workers for view in others),
            submitted=sum(view.submitted for view in others),
        )


def _handlers(workers: Iterable[FleetRecord]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each handler that a worker declares, and as one what else came its way.

    One that has not run yet is there with zeros: a series that began at 1 would show no increase.
    """
    for worker in workers:
        reports = worker.report.handlers
        others = [report for name, report in reports.items() if name not in worker.handlers]
        for name in worker.handlers:
            yield (worker.worker, name), reports.get(name, _NOT_RUN)
        if others:
            yield (worker.worker, OTHERS), merge_handlers(others)


def _states(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], Any]]:
    counts = dict.fromkeys(("working", "quiet", "stopping", "stalled"), 0)
    for worker in snapshot.workers:
        counts[worker.state] += 1
    counts["silent"] = len(snapshot.silent)
    for state, count in counts.items():
        yield (state,), count


def _written(
    group: Group, records: Sequence[tuple[tuple[str, ...], Any]], summed: tuple[str, ...] | None = None
) -> Iterator[Metric]:
    """Yield the families of a group that have values; of `summed` no counters, for what it sums comes and goes."""
    for family in group.families:
        metric = _family(family, group.labels)
        for labels, record in records:
            if labels != summed or family.kind != "counter":
                _add(family, metric, labels, family.read(record))
        if metric.samples:
            yield metric


def _family(family: Family, labels: tuple[str, ...]) -> Any:
    unit = next((unit for unit in ("seconds", "bytes", "ratio") if family.name.endswith(f"_{unit}")), "")
    name = family.name.removesuffix("_info")
    return _NAMED[family.kind](name, family.help, labels=labels, **({"unit": unit} if unit else {}))


def _add(family: Family, metric: Any, labels: tuple[str, ...], value: Any) -> None:
    if value is None:
        return
    if family.kind != "histogram":
        metric.add_metric(labels, value)
        return
    if len(value.counts) != len(_BOUNDS):
        return  # nothing was measured, or between other bounds by another version
    metric.add_metric(labels, list(zip(_BOUNDS, accumulate(value.counts), strict=True)), value.sum_s)
