"""Outcome lines: what files and streams outside say about an outcome."""

import json
import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from headrace.engine.sinks.lines import LineEncoder
from headrace.jobs.outcome import Failure, Outcome, Status

WORK = SimpleNamespace(label="resize", job_id="j1", queue="images", attempt=2)


def line(outcome: Outcome, *, with_values: bool = True) -> dict[str, Any]:
    """Return the one line of one outcome, read back."""
    (encoded,) = LineEncoder(with_values=with_values).encode([outcome])
    assert b"\n" not in encoded
    read: dict[str, Any] = json.loads(encoded)
    return read


def test_a_line_has_the_documented_fields_in_their_order() -> None:
    """The log line's fields are as documented, and the file's line adds the value."""
    outcome = Outcome(
        WORK, Status.FAILED, failure=Failure("ValueError", "no"), started_at_s=time.monotonic(), run_s=0.25
    )
    fields = ["id", "name", "queue", "status", "attempt", "started_at_ms", "run_ms", "error"]
    assert fields == list(line(outcome, with_values=False))
    assert [*fields, "value"] == list(line(outcome))
    read = line(outcome)
    assert ("j1", "resize", "images", "failed", 2, 250.0, "ValueError: no", None) == (
        read["id"], read["name"], read["queue"], read["status"], read["attempt"], read["run_ms"], read["error"],
        read["value"],
    )  # fmt: skip


def test_the_start_is_a_time_of_day_and_null_where_it_never_started() -> None:
    """A monotonic start becomes Unix milliseconds; work that never started has none."""
    before_ms = time.time() * 1000
    started = line(Outcome(WORK, Status.SUCCEEDED, started_at_s=time.monotonic()))["started_at_ms"]
    assert before_ms - 100 <= started <= time.time() * 1000 + 100
    assert line(Outcome(WORK, Status.INTERRUPTED))["started_at_ms"] is None


def test_work_without_job_queue_and_attempt_gets_their_defaults() -> None:
    """Work that only has a label is written with empty id and queue, and attempt 1."""
    read = line(Outcome(SimpleNamespace(label="f"), Status.SUCCEEDED))
    assert ("", "f", "", 1) == (read["id"], read["name"], read["queue"], read["attempt"])


def test_a_job_that_no_handler_can_be_run_for_has_a_line_with_the_reason_once_it_ends() -> None:
    """What is wrong with an unreadable job is its line's error; while it goes round again there is no line."""
    lost = SimpleNamespace(label="lost", error="no handler is called 'lost'", delay_ms=0)
    assert "no handler is called 'lost'" == line(Outcome(lost, Status.UNREADABLE))["error"]
    waits = SimpleNamespace(label="lost", error="no handler is called 'lost'", delay_ms=1000)
    assert [] == LineEncoder(with_values=False).encode([Outcome(waits, Status.UNREADABLE)])


class Odd:
    """A value whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Closed:
    """A value that cannot be asked anything, its class included."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"no {name}")

    def __repr__(self) -> str:
        raise SystemExit("no repr")


@pytest.mark.parametrize(
    ("value", "written", "is_repr"),
    [
        ({"a": [1, 2.5, None]}, {"a": [1, 2.5, None]}, False),
        (msgspec.Raw(msgspec.msgpack.encode({"packed": 1})), {"packed": 1}, False),
        (1 + 2j, "(1+2j)", True),
        ("lone \ud800", "'lone \\ud800'", True),
        ([msgspec.Raw(b"1\n")], "[<msgspec.Raw object at", True),
        (Odd(), "<Odd whose repr raised RuntimeError>", True),
        (msgspec.Raw(b"\xc1"), "<msgspec.Raw object at", True),
    ],
)
def test_values_are_json_where_they_can_be_and_marked_reprs_elsewhere(value: Any, written: Any, is_repr: bool) -> None:
    """No value costs its line: what JSON cannot hold is a repr, and says so."""
    read = line(Outcome(WORK, Status.SUCCEEDED, value))
    assert is_repr is read.get("value_is_repr", False)
    if is_repr:
        assert read["value"].startswith(written)
    else:
        assert written == read["value"]


def test_a_value_that_cannot_be_asked_costs_nothing_but_its_repr() -> None:
    """A value none of whose attributes can be read, its class included, is a line that says so."""
    read = line(Outcome(WORK, Status.SUCCEEDED, Closed()))
    assert ("<Closed whose repr raised SystemExit>", True) == (read["value"], read["value_is_repr"])


def test_a_value_that_holds_itself_costs_nothing_but_its_repr() -> None:
    """A list inside itself is written as its repr."""
    endless: list[Any] = []
    endless.append(endless)
    assert "[[...]]" == line(Outcome(WORK, Status.SUCCEEDED, endless))["value"]


def test_an_error_message_that_utf8_cannot_hold_is_escaped() -> None:
    """A lone surrogate in a message does not cost the line, in either form."""
    outcome = Outcome(WORK, Status.FAILED, failure=Failure("OSError", "name \udcff"))
    assert "OSError: name \\udcff" == line(outcome, with_values=False)["error"] == line(outcome)["error"]
    assert "value_is_repr" not in line(outcome)
