"""Logging is one format on one stream where headrace owns the process, and leaves the process alone elsewhere."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from headrace.config import configure, logger


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Give each test the process's own logging set-up back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_from_every_kind_of_logger_have_one_shape() -> None:
    """Our loggers, a handler's structlog and a library's stdlib logging all give the same fields."""
    stream = io.StringIO()
    configure("info", "json", stream)
    logger("headrace.x").bind(job_id="a").info("ours %s", 1, extra_count=2)
    structlog.get_logger("user").info("theirs", z=1)
    logging.getLogger("library").info("stdlib %s", 1, extra={"q": 1})
    ours, theirs, stdlib = lines(stream)
    assert ["ours 1", "theirs", "stdlib 1"] == [line["event"] for line in (ours, theirs, stdlib)]
    assert ["headrace.x", "user", "library"] == [line["logger"] for line in (ours, theirs, stdlib)]
    assert ("a", 2, 1, 1) == (ours["job_id"], ours["extra_count"], theirs["z"], stdlib["q"])
    for line in (ours, theirs, stdlib):
        assert "info" == line["level"]
        assert timedelta(0) == datetime.fromisoformat(str(line["timestamp"])).utcoffset()


def test_an_exception_is_part_of_its_json_line() -> None:
    """A traceback does not break the stream of lines."""
    stream = io.StringIO()
    configure("info", "json", stream)
    for log in (logger("headrace.x"), logging.getLogger("library")):
        try:
            raise ValueError("no such row")
        except ValueError:
            log.exception("failed")
    for line in lines(stream):
        assert "error" == line["level"]
        assert str(line["exception"]).endswith("ValueError: no such row")
    assert 2 == len(lines(stream))


def test_what_json_cannot_hold_is_written_as_its_repr() -> None:
    """A log call never fails for the value that it carries, lone surrogates included."""
    stream = io.StringIO()
    configure("info", "json", stream)
    logger("headrace.x").info("odd", raw=b"\xff", name_of_file="\udcff")
    assert [(repr(b"\xff"), "\udcff")] == [(line["raw"], line["name_of_file"]) for line in lines(stream)]


def test_less_severe_messages_are_left_out() -> None:
    """The level holds for all kinds of loggers."""
    stream = io.StringIO()
    configure("warning", "json", stream)
    logger("headrace.x").info("no")
    structlog.get_logger("user").info("no")
    logging.getLogger("library").info("no")
    logger("headrace.x").warning("yes")
    assert ["yes"] == [line["event"] for line in lines(stream)]


def test_warnings_are_lines_too() -> None:
    """A warning in plain text would break a stream of JSON lines."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("info", "json", stream)
        warnings.warn("careful", stacklevel=1)
        logging.captureWarnings(False)
    assert ["py.warnings"] == [line["logger"] for line in lines(stream)]


def test_console_lines_are_for_people() -> None:
    """Without a terminal there is no colour, and tracebacks show no local variables."""
    stream = io.StringIO()
    configure("info", "console", stream)
    password = "not for logs"
    try:
        raise ValueError(len(password))
    except ValueError:
        logger("headrace.x").exception("failed", job_id="a")
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "ValueError: 12" in text
    assert "job_id=a" in text
    assert password not in text


def test_configuring_twice_writes_each_line_once() -> None:
    """The second call replaces the first one's handler and leaves everybody else's."""
    first, second, other = io.StringIO(), io.StringIO(), logging.NullHandler()
    logging.getLogger().addHandler(other)
    log = logger("headrace.x")
    configure("info", "json", first)
    configure("debug", "json", second)
    log.debug("once")
    assert ("", ["once"]) == (first.getvalue(), [line["event"] for line in lines(second)])
    assert other in logging.getLogger().handlers


def test_logs_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Figures are on stdout, so logs are not."""
    configure("info", "json")
    logger("headrace.x").info("here")
    captured = capsys.readouterr()
    assert ("", 1) == (captured.out, captured.err.count("here"))


def test_an_embedded_logger_leaves_the_process_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Without configure, lines reach the application's own handlers as text, and nothing of its set-up changes."""
    root = logging.getLogger()
    before = root.handlers[:]
    stream = io.StringIO()
    own = logging.StreamHandler(stream)
    own.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logging.getLogger("headrace.x").addHandler(own)
    try:
        try:
            raise ValueError("no such row")
        except ValueError:
            logger("headrace.x").bind(job_id="a").exception("100%% of it failed", name="n", message="m")
    finally:
        logging.getLogger("headrace.x").removeHandler(own)
    first, *_, last = stream.getvalue().splitlines()
    assert "ERROR headrace.x 100%% of it failed job_id='a' name='n' message='m'" == first
    assert "ValueError: no such row" == last
    assert before == root.handlers
    assert not structlog.is_configured()
    assert "" == capsys.readouterr().out
