"""From Recorder to the public record: reports, merging over workers, JSON, and the generated page."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.observe import page
from headrace.engine.observe.merging import merge
from headrace.engine.observe.metrics import Recorder
from headrace.engine.observe.rates import Rates
from headrace.engine.observe.report import Gauges, RunnerGauge, WorkerReport, report
from headrace.engine.observe.statistics import (
    Backpressure,
    ProcessFigures,
    QueueFigures,
    SinkFigures,
    Statistics,
    to_json,
)
from headrace.engine.observe.summary import drain_eta_s, summarize
from headrace.jobs.outcome import Outcome, Status

CHECKOUT = Path(__file__).parents[3]
NOW_S = 1000.0


@dataclass
class Labelled:
    """Work that nobody runs: the Recorder reads its label only."""

    label: str


runs = st.lists(
    st.tuples(
        st.sampled_from(["add", "resize"]), st.sampled_from(list(Status)), st.floats(0, 100), st.floats(0.001, 100)
    ),
    max_size=40,
)


def report_of(*handled: tuple[str, Status, float, float], gauges: Gauges | None = None) -> WorkerReport:
    """Return the report of a worker that has run (handler, status, wait, run)."""
    recorder = Recorder(0.0)
    outcomes = [
        Outcome(work=Labelled(label), status=status, started_at_s=1.0, run_s=run_s)
        for label, status, _, run_s in handled
    ]
    recorder.record_batch(NOW_S, outcomes, [wait_s for _, _, wait_s, _ in handled])
    return report(recorder, NOW_S, gauges or Gauges())


def flat(value: object, path: str = "") -> dict[str, object]:
    """Return the leaves of a JSON document by their dotted paths."""
    if isinstance(value, dict):
        return {name: leaf for key, inner in value.items() for name, leaf in flat(inner, f"{path}.{key}").items()}
    return {path.lstrip("."): value}


@given(runs, runs)
def test_two_workers_merged_are_as_one(left: list, right: list) -> None:  # type: ignore[type-arg]
    """The record of two merged workers is that of one worker that ran all."""
    one = flat(msgspec.to_builtins(summarize(report_of(*left, *right))))
    two = flat(msgspec.to_builtins(summarize(merge([report_of(*left), report_of(*right)]))))
    assert one == pytest.approx(two)


@given(runs)
def test_a_report_survives_the_wire(handled: list) -> None:  # type: ignore[type-arg]
    """A published report reads back as it was."""
    sent = report_of(*handled, gauges=Gauges(runners={"async": RunnerGauge(slots=100, busy=3)}))
    assert sent == WorkerReport.from_bytes(sent.to_bytes())


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x02\x03", b'{"handlers": 1}'])
def test_a_foreign_report_is_refused_with_advice(data: bytes) -> None:
    """Bytes that are no report raise ValueError saying whose fault it is and what to do."""
    with pytest.raises(ValueError, match="bring all workers to one version"):
        WorkerReport.from_bytes(data)


def test_no_workers_give_an_empty_record() -> None:
    """Without any worker every count is 0 and every duration null."""
    statistics = summarize(merge([]))
    assert Statistics() == statistics
    assert statistics.latency_ms.run.p99 is None


def test_gauges_add_and_of_pauses_the_worst_stays() -> None:
    """Over workers, sizes, bounds and counts add; of lag, pause and fsync the longest is given."""
    first = Gauges(
        runners={"async": RunnerGauge(slots=100, busy=50), "thread": RunnerGauge(slots=32, busy=2, stuck=1)},
        backpressure=Backpressure(prefetched=5, prefetch_max=200, sinks={"file": SinkFigures(written=7)}),
        process=ProcessFigures(rss_bytes=10, cpu_percent=80.0, loop_lag_ms=3.0),
    )
    second = Gauges(
        runners={"async": RunnerGauge(slots=100, busy=100)},
        backpressure=Backpressure(prefetched=1, prefetch_max=200, sinks={"file": SinkFigures(written=8)}),
        process=ProcessFigures(rss_bytes=20, cpu_percent=40.0, loop_lag_ms=9.0, gc_pause_ms=1.0),
    )
    whole = summarize(merge([WorkerReport(gauges=first), WorkerReport(gauges=second)]))
    assert (200, 150, 0.75) == (
        whole.concurrency.runners["async"].slots,
        whole.concurrency.runners["async"].busy,
        whole.concurrency.runners["async"].utilization,
    )
    assert (232, 152, 1) == (whole.concurrency.slots, whole.concurrency.busy, whole.concurrency.stuck)
    assert (6, 400, 15) == (
        whole.backpressure.prefetched,
        whole.backpressure.prefetch_max,
        whole.backpressure.sinks["file"].written,
    )
    assert ProcessFigures(rss_bytes=30, cpu_percent=120.0, loop_lag_ms=9.0, gc_pause_ms=1.0) == whole.process


def test_the_error_rate_is_the_failed_share() -> None:
    """One failed run of four is a rate of 0.25."""
    handled = [("add", Status.SUCCEEDED, 0.0, 1.0)] * 3 + [("add", Status.TIMED_OUT, 0.0, 1.0)]
    errors = summarize(report_of(*handled)).errors
    assert (1, 1) == (errors.failed, errors.timed_out)
    assert pytest.approx(0.25) == errors.rate


def test_submissions_are_in_the_throughput() -> None:
    """600 submissions a minute ago at most are 10 a second over 60 s, for the handler and in all."""
    recorder = Recorder(0.0)
    recorder.record_submitted(NOW_S - 30, "add", 600)
    statistics = summarize(report(recorder, NOW_S, Gauges()))
    assert Rates(last_60s=10.0) == statistics.throughput.submitted_per_s
    assert Rates(last_60s=10.0) == statistics.handlers["add"].throughput.submitted_per_s


def test_a_queue_drains_at_the_speed_of_all_workers() -> None:
    """Two workers that each drain 5 jobs/s work off 100 queued jobs in 10 s; an unknown speed gives null."""
    recorder = Recorder(0.0)
    recorder.record_drained(NOW_S - 20, "mail", 300)
    each = report(recorder, NOW_S, Gauges())
    queues = {"mail": QueueFigures(queued=100, oldest_age_s=4.0), "idle": QueueFigures(queued=1)}
    found = summarize(merge([each, each]), queues).queues
    assert QueueFigures(queued=100, oldest_age_s=4.0, drain_eta_s=10.0) == found["mail"]
    assert found["idle"].drain_eta_s is None


def test_an_empty_queue_is_drained_already() -> None:
    """With nothing queued the time to drain is 0, whatever the speed."""
    assert [0.0, 0.0] == [drain_eta_s(0, 0.0), drain_eta_s(0, 5.0)]


def test_the_json_has_every_name_of_the_contract() -> None:
    """The JSON document holds the published names, and percentiles of nothing are null."""
    whole = summarize(
        report_of(("add", Status.SUCCEEDED, 0.1, 0.2), gauges=Gauges(runners={"async": RunnerGauge(slots=100)})),
        {"default": QueueFigures()},
    )
    document = msgspec.json.decode(to_json(whole))
    percentiles = {"p50", "p90", "p99", "p999", "max"}
    assert {"submitted_per_s", "completed_per_s", "failed_per_s"} == set(document["throughput"])
    assert {"1s", "10s", "60s"} == set(document["throughput"]["completed_per_s"])
    assert {"queue_wait", "run", "total"} == set(document["latency_ms"])
    assert percentiles == set(document["latency_ms"]["run"])
    assert {"slots", "busy", "utilization", "stuck", "runners"} == set(document["concurrency"])
    assert {"slots", "busy", "utilization", "stuck"} == set(document["concurrency"]["runners"]["async"])
    assert {"failed", "retried", "timed_out", "dead", "exported", "rate"} == set(document["errors"])
    filling = {"prefetched", "prefetch_max", "settle_backlog", "settle_backlog_max", "spool_bytes"}
    assert filling | {"fetch_paused_s", "refused", "sinks"} == set(document["backpressure"])
    assert {"delayed", "queued", "running", "dead", "oldest_age_s", "drain_eta_s"} == set(document["queues"]["default"])
    moved = {"net_in_bytes", "net_out_bytes", "disk_written_bytes", "fsync_ms"}
    assert moved | {"rss_bytes", "cpu_percent", "loop_lag_ms", "gc_pause_ms"} == set(document["process"])
    assert {"throughput", "latency_ms", "errors"} == set(document["handlers"]["add"])
    assert dict.fromkeys(percentiles) == msgspec.json.decode(to_json(Statistics()))["latency_ms"]["run"]


def test_the_page_is_current() -> None:
    """docs/statistics.md is what the records' docstrings give; `python -m headrace.engine.observe.page` renews it."""
    assert page.page() == (CHECKOUT / "docs" / "statistics.md").read_text(encoding="utf-8")


def test_an_undocumented_field_stops_the_page() -> None:
    """A field without its line in the docstring is an error, not an empty cell."""

    class Half(msgspec.Struct):
        """Half a record.

        Attributes:
            told (s): This one.
        """

        told: int
        untold: int

    with pytest.raises(ValueError, match="untold"):
        page._section(Half, [])
