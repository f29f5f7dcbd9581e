"""What is promised of /metrics: every declared name, right with several workers, in both formats, bounded."""

import gc
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from headrace import Engine
from headrace.config.settings import Settings
from headrace.engine.broker.memory import Fault, MemoryBroker
from headrace.engine.http import metrics as metrics_module
from headrace.engine.http.app import make_app
from headrace.engine.http.gateway import Gateway
from headrace.engine.observe.families import GROUPS, UNITS, sample_names
from headrace.engine.observe.histogram import BOUNDS_S, Buckets, Histogram
from headrace.engine.observe.report import Gauges, HandlerReport, RunnerGauge, WorkerReport
from headrace.engine.observe.statistics import Backpressure, ProcessFigures, SinkFigures
from http_scene import asking, asking_app, publish

pytestmark = pytest.mark.anyio
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
WAIT_S = 20.0
RUNS_S = (0.002, 0.02, 0.02, 3.0, 40_000.0)


@pytest.fixture(autouse=True)
def _each_scrape_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no scrape be answered from the one before."""
    monkeypatch.setattr(metrics_module, "READ_TTL_S", 0.0)


def report(completed: int = 5, name: str = "add") -> WorkerReport:
    """Return what a busy worker publishes."""
    histogram = Histogram()
    histogram.record_many(RUNS_S)
    buckets = histogram.buckets()
    handler = HandlerReport(completed=completed, failed=1, run_ever=buckets, queue_wait_ever=buckets)
    process = ProcessFigures(rss_bytes=1, cpu_percent=50.0, loop_lag_ms=2.0, gc_pause_ms=3.0, fsync_ms=4.0)
    pressure = Backpressure(prefetched=7, fetch_paused_s=1.5, sinks={"broker": SinkFigures(written=9)})
    gauges = Gauges(runners={"async": RunnerGauge(slots=10, busy=4)}, backpressure=pressure, process=process)
    return WorkerReport(handlers={name: handler}, drained_per_s={"sums": 2.0}, gauges=gauges)


async def scrape(broker: MemoryBroker, accept: str = "", gateway: Gateway | None = None) -> list[Sample]:
    """Return all samples of one scrape, as Prometheus's own parser reads them, of a server that watches itself."""
    gateway = gateway or Gateway(broker, Settings())
    watch = gateway.vitals.watch
    watch.lag.window.record(time.monotonic(), 0.001)
    with watch.pauses:
        gc.collect()
    async with asking_app(make_app(gateway)) as client:
        response = await client.get("/metrics", headers={"accept": accept})
    assert 200 == response.status_code
    if accept:
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        return [sample for family in openmetrics_families(response.text) for sample in family.samples]
    assert response.headers["content-type"].startswith("text/plain")
    return [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]


def values(samples: list[Sample], name: str, **labels: str) -> list[float]:
    """Return the values of a name's samples that have these labels."""
    return [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]


def declared() -> Iterator[str]:
    """Yield every name under which samples are declared."""
    for group in GROUPS:
        for family in group.families:
            yield from sample_names(family)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_every_declared_metric_is_given_and_no_other(accept: str) -> None:
    """With one busy worker each name of the table has a sample, in both formats; and none is given beside them."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        await client.post("/v1/jobs", json={"name": "add", "queue": "sums"})
    publish(broker, report=report())
    samples = await scrape(broker, accept)
    assert set(declared()) == {sample.name for sample in samples if not sample.name.endswith("_created")}


def test_names_say_whose_they_are_and_in_what_unit() -> None:
    """Each name begins with headrace_, ends in a unit, is there once, and has its sentence; counters end in _total."""
    families = [family for group in GROUPS for family in group.families]
    assert len(families) == len({family.name for family in families})
    for family in families:
        assert family.name.startswith("headrace_")
        assert family.name.rpartition("_")[2] in UNITS
        assert (family.kind == "counter") == family.name.endswith("_total")
        assert (family.kind == "info") == family.name.endswith("_info")
        assert family.help.endswith(".")


async def test_no_counter_falls_when_a_worker_leaves() -> None:
    """Each worker has samples of its own: one that leaves takes its own along, and the others' stay as they were."""
    broker = MemoryBroker()
    publish(broker, "w1", report=report(100))
    publish(broker, "w2", report=report(5))
    name = "headrace_completed_runs_total"
    before = await scrape(broker)
    assert ([100.0], [5.0]) == (values(before, name, worker="w1"), values(before, name, worker="w2"))
    broker.fleet_put("w1", b"", 0.0)
    publish(broker, "w2", report=report(8))
    after = await scrape(broker)
    assert ([], [8.0], [8.0]) == (
        values(after, name, worker="w1"), values(after, name, worker="w2"), values(after, name),
    )  # fmt: skip


async def test_counters_begin_at_zero_before_the_first_run() -> None:
    """A handler that has not run has its counters at 0: what goes from nothing to 1 shows no increase to alert on."""
    broker = MemoryBroker()
    publish(broker, "w1", report=WorkerReport())
    samples = await scrape(broker)
    for name in ("headrace_dead_jobs_total", "headrace_completed_runs_total"):
        assert [0.0] == values(samples, name, worker="w1", handler="add")


async def test_histograms_are_whole_and_cumulative() -> None:
    """Buckets rise to the count, each run is in the first bucket that holds it, and the sum is close."""
    broker = MemoryBroker()
    publish(broker, report=report())
    samples = await scrape(broker)
    buckets = {each.labels["le"]: each.value for each in samples if each.name == "headrace_run_seconds_bucket"}
    expected = {bound: sum(run_s <= bound for run_s in RUNS_S) for bound in (*BOUNDS_S, float("inf"))}
    assert expected == {float(bound): value for bound, value in buckets.items()}
    assert [5.0] == values(samples, "headrace_run_seconds_count")
    (total_s,) = values(samples, "headrace_run_seconds_sum")
    assert sum(RUNS_S) * 0.95 < total_s < sum(RUNS_S) * 1.05


async def test_histograms_of_another_version_are_left_out() -> None:
    """Buckets between other bounds are not shown as if they were between these."""
    broker = MemoryBroker()
    publish(broker, report=WorkerReport(handlers={"add": HandlerReport(run_ever=Buckets((1, 2, 3), 4.0))}))
    assert [] == values(await scrape(broker), "headrace_run_seconds_count")


async def test_who_submits_can_add_no_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that no worker declares are one, and so are queues past the bound."""
    monkeypatch.setattr(metrics_module, "QUEUES_MAX_COUNT", 2)
    broker = MemoryBroker()
    async with asking(broker) as client:
        for number in range(5):
            await client.post("/v1/jobs", json={"name": "add", "queue": f"q{number}"})
    made_up = {f"made-up-{number}": HandlerReport(failed=2) for number in range(3)}
    publish(broker, report=WorkerReport(handlers={"add": HandlerReport(failed=1), **made_up}))
    samples = await scrape(broker)
    failed = {s.labels["handler"]: s.value for s in samples if s.name == "headrace_failed_runs_total"}
    assert {"add": 1.0, "(others)": 6.0} == failed
    queued = {s.labels["queue"]: s.value for s in samples if s.name == "headrace_queue_queued_jobs"}
    assert {"q0": 1.0, "q1": 1.0, "(others)": 3.0} == queued


async def test_a_new_queue_takes_no_series_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queues that were there first keep their series, and what is summed has no counters, which could fall."""
    monkeypatch.setattr(metrics_module, "QUEUES_MAX_COUNT", 2)
    async with asking(MemoryBroker()) as client:
        shown = []
        for queue in ("m", "n", "o", "a"):
            await client.post("/v1/jobs", json={"name": "add", "queue": queue})
            response = await client.get("/metrics")
            assert "text/plain; version=0.0.4; charset=utf-8" == response.headers["content-type"]
            families = text_string_to_metric_families(response.text)
            shown.append([sample for family in families for sample in family.samples])
    queued = [{s.labels["queue"]: s.value for s in each if s.name == "headrace_queue_queued_jobs"} for each in shown]
    assert [
        {"m": 1.0}, {"m": 1.0, "n": 1.0},
        {"m": 1.0, "n": 1.0, "(others)": 1.0}, {"m": 1.0, "n": 1.0, "(others)": 2.0},
    ] == queued  # fmt: skip
    counters = {s.name for s in shown[-1] if s.labels.get("queue") == "(others)" and s.name.endswith("_total")}
    assert set() == counters


async def test_workers_are_counted_by_what_they_are_about() -> None:
    """Working, quiet and silent ones each count where they belong; a queue that only a silent one had is stalled."""
    broker = MemoryBroker()
    publish(broker, "w1", queues=("a",))
    publish(broker, "w2", queues=("a",), quiet=True)
    publish(broker, "w3", queues=("sums",))
    record = broker.fleet()["w3"]
    broker.fleet_put("w3", record, -1.0)
    async with asking(broker) as client:
        for queue in ("a", "sums"):
            await client.post("/v1/jobs", json={"name": "add", "args": [1], "queue": queue})
    samples = await scrape(broker)
    counts = {each.labels["state"]: each.value for each in samples if each.name == "headrace_workers"}
    assert {"working": 1.0, "quiet": 1.0, "stopping": 0.0, "stalled": 0.0, "silent": 1.0} == counts
    assert ([0.0], [1.0]) == (
        values(samples, "headrace_queue_stalled_flag", queue="a"),
        values(samples, "headrace_queue_stalled_flag", queue="sums"),
    )


async def test_a_server_that_is_away_is_told() -> None:
    """The scrape succeeds, says that the server does not answer, and has nothing that is not known."""
    broker = MemoryBroker()
    publish(broker, report=report())
    broker.faults.append(Fault("fleet", "before"))
    samples = await scrape(broker)
    assert [0.0] == values(samples, "headrace_broker_up_flag")
    assert not [each for each in samples if "worker" in each.labels or each.name == "headrace_workers"]
    assert [1.0] == values(await scrape(broker), "headrace_broker_up_flag")


async def test_scrapes_of_one_second_share_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many scrape, the server is read once."""
    monkeypatch.setattr(metrics_module, "READ_TTL_S", 3600.0)
    broker, reads = MemoryBroker(), []
    read = metrics_module.read

    def counted(*args: Any) -> Any:
        reads.append(1)
        return read(*args)

    monkeypatch.setattr(metrics_module, "read", counted)
    async with asking(broker) as client:
        for _ in range(5):
            assert 200 == (await client.get("/metrics")).status_code
    assert 1 == len(reads)


async def test_what_requests_hold_is_scraped() -> None:
    """Both bounds of memory have a gauge, of bodies that go on and of answers that nobody takes."""
    broker = MemoryBroker()
    gateway = Gateway(broker, Settings())
    share = gateway.unread.share(("127.0.0.1", "1"), time.monotonic(), lambda: None)
    with gateway.held.body() as body:
        assert body.add(1000)
        share.holds(70_000, time.monotonic())
        samples = await scrape(broker, gateway=gateway)
    share.end()
    assert [1000.0] == values(samples, "headrace_http_unfinished_bodies_bytes")
    assert [70_000.0] == values(samples, "headrace_http_unread_answers_bytes")


async def test_what_a_worker_did_is_scraped() -> None:
    """A real worker's runs are in its counters and histograms, its pools and process in its gauges."""
    engine = Engine("memory://scraped")

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    async with engine.running():
        for number in range(3):
            assert number + 1 == await (await add.submit(number, 1)).result(timeout=WAIT_S)
        broker: Any = engine.connection.open()
        with anyio.fail_after(WAIT_S):
            while [3.0] != values(samples := await scrape(broker), "headrace_completed_runs_total", handler="add"):
                await anyio.sleep(0.05)
        engine.connection.close()
    assert [3.0] == values(samples, "headrace_run_seconds_count", handler="add")
    assert [3.0] == values(samples, "headrace_queue_wait_seconds_bucket", handler="add", le="+Inf")
    assert [100.0] == values(samples, "headrace_runner_slots", runner="async")
    assert 0 < values(samples, "headrace_worker_resident_memory_bytes")[0]
    assert [1.0] == values(samples, "headrace_workers", state="working")
