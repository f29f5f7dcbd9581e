"""The Recorder: what a batch of outcomes adds to the figures."""

from dataclasses import dataclass

import pytest

from headrace.engine.observe.merging import merge
from headrace.engine.observe.metrics import HANDLERS_MAX, OTHERS, Recorder
from headrace.engine.observe.report import Gauges, report
from headrace.engine.observe.summary import summarize
from headrace.jobs.outcome import Outcome, Status

NOW_S = 1000.0


@dataclass
class Labelled:
    """Work that nobody runs: the Recorder reads its label only."""

    label: str


def outcome(label: str = "add", status: Status = Status.SUCCEEDED, run_s: float = 0.002) -> Outcome:
    """Return the outcome of a run that was started."""
    return Outcome(work=Labelled(label), status=status, started_at_s=NOW_S, run_s=run_s)


def test_a_batch_of_one_handler_is_counted_whole() -> None:
    """Three successes are three completed runs, none failed, and three entries in each histogram."""
    recorder = Recorder(0.0)
    recorder.record_batch(NOW_S, [outcome()] * 3, [0.1, 0.2, 0.3])
    add = recorder.handlers["add"]
    assert (3, 0) == (add.completed.total, add.failed.total)
    assert [3, 3, 3] == [window.snapshot(NOW_S).count for window in (add.queue_wait, add.run, add.total)]
    assert pytest.approx(0.302) == add.total.snapshot(NOW_S).max_s


def test_a_mixed_batch_is_counted_by_handler() -> None:
    """Each handler gets its own runs and its own waits, wherever they stand in the batch."""
    recorder = Recorder(0.0)
    recorder.record_batch(NOW_S, [outcome("a"), outcome("b"), outcome("a")], [1.0, 5.0, 2.0])
    assert {"a": 2, "b": 1} == {name: one.completed.total for name, one in recorder.handlers.items()}
    assert {"a": 2.0, "b": 5.0} == {
        name: one.queue_wait.snapshot(NOW_S).max_s for name, one in recorder.handlers.items()
    }


def test_every_status_is_counted_as_documented() -> None:
    """Failed, timed out and crashed runs are failed, a cancelled one only completed, any other status is neither."""
    recorder = Recorder(0.0)
    recorder.record_batch(NOW_S, [outcome(status=status) for status in Status], [0.0] * len(Status))
    add = recorder.handlers["add"]
    assert (5, 3, 1) == (add.completed.total, add.failed.total, add.timed_out_count)
    assert 5 == add.run.snapshot(NOW_S).count


def test_what_never_started_has_no_duration() -> None:
    """A job cancelled before it started is completed, but takes no part in the latencies."""
    recorder = Recorder(0.0)
    recorder.record_batch(NOW_S, [Outcome(work=Labelled("add"), status=Status.CANCELLED)], [9.0])
    add = recorder.handlers["add"]
    assert (1, 0) == (add.completed.total, add.queue_wait.snapshot(NOW_S).count)


def test_a_negative_wait_does_not_shorten_the_total() -> None:
    """Where two machines' clocks disagree, the wait counts as 0 and the total as the run alone."""
    recorder = Recorder(0.0)
    recorder.record_batch(NOW_S, [outcome(run_s=0.5)], [-3.0])
    assert 0.5 == recorder.handlers["add"].total.snapshot(NOW_S).max_s


def test_exported_letters_are_counted_by_handler() -> None:
    """What was exported counts for the handler whose job it was, and adds up over workers."""
    recorder = Recorder(NOW_S)
    recorder.record_exported(["a", "a", "b"])
    recorder.record_exported(["b"])
    each = report(recorder, NOW_S, Gauges())
    assert {"a": 4, "b": 4} == {name: one.exported for name, one in merge([each, each]).handlers.items()}
    assert 8 == summarize(merge([each, each]), {}).errors.exported


def test_retried_and_dead_are_counted_by_handler() -> None:
    """The completer's lists of names say which handler's jobs go round again and which are given up on."""
    recorder = Recorder(0.0)
    recorder.record_batch(NOW_S, [], [], retried=["a", "a", "b"], dead=["b"])
    assert {"a": (2, 0), "b": (1, 1)} == {
        name: (one.retried_count, one.dead_count) for name, one in recorder.handlers.items()
    }


def test_an_empty_batch_adds_nothing() -> None:
    """No outcomes, no entry."""
    recorder = Recorder(0.0)
    recorder.record_batch(NOW_S, [], [])
    assert {} == recorder.handlers


def test_invented_names_cannot_fill_the_memory() -> None:
    """Names past HANDLERS_MAX share one entry, and nothing is lost of their counts."""
    recorder = Recorder(0.0)
    for number in range(HANDLERS_MAX + 50):
        recorder.record_submitted(NOW_S, f"name-{number}")
    assert HANDLERS_MAX + 1 == len(recorder.handlers)
    assert 50 == recorder.handlers[OTHERS].submitted.total
