"""`headrace run` as a real process: working, draining, being wrong."""

import json
import signal
import subprocess
import sys
import time

import pytest

from command_stage import DEADLINE_S


def test_a_job_is_worked_on_and_the_drain_exits_0(stage) -> None:
    """A submitted job's result is the last line; a job that runs at SIGTERM ends, and the worker exits 0."""
    worker = stage.worker()
    added = stage.headrace("submit", "add", "--args", "[1]", "--kwargs", '{"b": 2}', "--wait", "20")
    assert (0, "3\n") == (added.returncode, added.stdout)
    nap = stage.headrace("submit", "nap", "--args", "[0.5]").stdout.strip()
    stage.wait_for("napping")
    assert 0 == worker.end(signal.SIGTERM)
    shown = json.loads(stage.headrace("jobs", "show", nap, "--json").stdout)
    assert ("slow", "succeeded", "rested") == (shown["queue"], shown["status"], shown["result"])


COLLECTING = """
import gc
from headrace import Engine

engine = Engine()


@engine.job
async def frozen() -> int:
    return gc.get_freeze_count()
"""


def test_what_is_loaded_at_the_start_is_collected_no_more(stage) -> None:
    """A worker's modules are out of the garbage collector's sight, so that a full collection is short."""
    (stage.folder / "collecting.py").write_text(COLLECTING)
    stage.start("run", "collecting:engine").until(" working ")
    assert 10_000 < int(stage.headrace("submit", "frozen", "--wait", "20").stdout)


def test_names_and_arguments_are_checked_against_the_workers(stage, invoke) -> None:
    """With a worker there, an unknown name and wrong arguments exit 2; --allow-unknown accepts the name."""
    stage.worker("--loop", "trio")
    unknown, wrong = invoke("submit", "ad"), invoke("submit", "add", "--args", '["x"]')
    allowed, good = invoke("submit", "ad", "--allow-unknown"), invoke("submit", "nap", "--args", "[0]")
    assert (2, True) == (unknown.exit_code, "they have: add, block, fail, nap" in unknown.stderr)
    assert (2, True) == (wrong.exit_code, "'a': expected integer, got string" in wrong.stderr)
    assert (0, 0, "slow:") == (allowed.exit_code, good.exit_code, good.stdout[:5])
    lines = '{"name": "add", "args": ["x"]}\n{"name": "ad"}\n{"name": "nap", "args": [0]}\n'
    batch = stage.headrace("submit", "--batch", "-", stdin=lines)
    assert (2, {"accepted": 1, "rejected": 2}) == (batch.returncode, json.loads(batch.stdout))
    failed = invoke("submit", "fail", "--wait", "20")
    assert (1, "") == (failed.exit_code, failed.stdout)
    assert "no such row" in failed.stderr
    assert "remote traceback" in failed.stderr


def test_a_second_signal_stops_at_once(stage) -> None:
    """The first SIGINT drains; the second interrupts what runs, and the job is queued again."""
    worker = stage.worker()
    nap = stage.headrace("submit", "nap", "--args", "[600]").stdout.strip()
    stage.wait_for("napping")
    worker.popen.send_signal(signal.SIGINT)
    worker.until(" draining ")
    assert 0 == worker.end(signal.SIGINT)
    assert "queued" == json.loads(stage.headrace("jobs", "show", nap, "--json").stdout)["status"]


def test_a_thread_that_cannot_be_stopped_keeps_nobody(stage) -> None:
    """A handler that sleeps in its thread is left behind when the drain is over; the process ends all the same."""
    worker = stage.worker("--drain-timeout", "100ms")
    stage.headrace("submit", "block", "--args", "[600]")
    stage.wait_for("blocking")
    assert 0 == worker.end(signal.SIGTERM)


def test_burst_exits_when_the_queues_are_empty(stage, invoke) -> None:
    """--burst works off what is there, writes its outcomes, and exits 0."""
    ids = [invoke("submit", "add", "--args", "[1]").stdout.strip() for _ in range(3)]
    burst = stage.headrace("run", "app:engine", "--burst", "--log-outcomes", "out.jsonl", "--slots", "2")
    assert (0, "") == (burst.returncode, burst.stdout)
    written = [json.loads(line) for line in (stage.folder / "out.jsonl").read_text().splitlines()]
    assert sorted(ids) == sorted(outcome["id"] for outcome in written)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("nowhere:engine",), 2, "there is no module 'nowhere'"),
        (("app:engin",), 2, "the engines in it: app:engine, app:other"),
        (("app:engine", "--slots", "0"), 2, "flag --slots"),
        (("app:engine", "--queue", "a b"), 2, "cannot be a queue's name"),
        (("app:engine", "--queue", "a=0"), 2, "a weight is a whole number"),
        (("app:engine", "--http", "nowhere"), 2, "write HOST:PORT"),
        (("app:engine", "--http", "0.0.0.0:0"), 2, "reached from other machines"),
        (("app:engine", "--url", "redis://127.0.0.1:1"), 3, "cannot be reached"),
        (("app:engine", "--url", "redis://127.0.0.1:1", "--processes", "2"), 3, "giving up"),
        (("app:engine", "--url", "memory://", "--processes", "2"), 2, "inside one process"),
        (("app:engine", "--log-outcomes", "nowhere/out", "--burst"), 2, "nowhere"),
    ],
)
def test_what_cannot_run_says_why(stage, args, code, said) -> None:
    """What is wrong ends with its exit code and one message, without a traceback."""
    ended = stage.headrace("run", *args)
    assert (code, True) == (ended.returncode, said in ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr
    assert "giving up" in said or "supervising" not in ended.stderr


def test_a_missing_uvloop_names_its_extra(stage, invoke, monkeypatch) -> None:
    """--loop uvloop without uvloop is a configuration error that names the extra."""
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "uvloop" else found(name, *rest)
    )
    ended = invoke("run", "app:engine", "--loop", "uvloop")
    assert (2, True) == (ended.exit_code, "headrace[uvloop]" in ended.stderr)


def test_watched_statistics_are_json_lines(stage) -> None:
    """`stats --watch` prints a JSON line at once and each second, and ends with Ctrl-C."""
    watch = stage.start("stats", "--watch")
    while watch.out.read_text().count("\n") < 2:
        assert watch.popen.poll() is None
        time.sleep(0.01)
    watch.end(signal.SIGINT)
    assert all("throughput" in json.loads(line) for line in watch.out.read_text().splitlines())


def test_a_batch_waits_while_its_queue_is_full(stage) -> None:
    """A batch larger than the queue's bound is taken whole, as fast as the worker makes room."""
    stage.worker()
    lines = '{"name": "nap", "args": [0.01]}\n' * 30
    batch = stage.headrace("submit", "--batch", "-", stdin=lines, HEADRACE_MAX_QUEUE_LENGTH="2")
    assert (0, {"accepted": 30, "rejected": 0}) == (batch.returncode, json.loads(batch.stdout)), batch.stderr


def test_a_pipe_that_pauses_is_sent_so_far(stage, invoke) -> None:
    """Lines from a pipe are submitted while the pipe is still open, so that a slow producer's jobs do not wait."""
    with subprocess.Popen(
        [sys.executable, "-m", "headrace", "submit", "--batch", "-"],
        cwd=stage.folder, env=stage.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as batch:  # fmt: skip
        assert batch.stdin is not None
        batch.stdin.write(b'{"name": "add", "args": [1]}\n')
        batch.stdin.flush()
        while not json.loads(invoke("jobs", "list", "--json").stdout):
            assert batch.poll() is None
        batch.stdin.close()
        assert 0 == batch.wait(DEADLINE_S)


def test_an_engine_without_handlers_is_told_of(stage) -> None:
    """A worker that has no handler says so on stderr, and works."""
    (stage.folder / "bare.py").write_text("from headrace import Engine\nengine = Engine()\n")
    ended = stage.headrace("run", "bare:engine", "--burst")
    assert (0, True) == (ended.returncode, "bare:engine has no handlers" in ended.stderr), ended.stderr


@pytest.mark.parametrize("part", ["opening", "closing"])
def test_a_lifespan_that_raises_is_named(stage, part) -> None:
    """A lifespan that raises is one line that names it and exit code 2; debug shows the traceback, too."""
    raising = "    raise OSError('no pool')\n"
    body = raising + "    yield\n" if part == "opening" else "    yield\n" + raising
    (stage.folder / "spanned.py").write_text(
        "from headrace import Engine\nengine = Engine()\n@engine.job\nasync def one() -> None: ...\n"
        f"@engine.lifespan\nasync def pool(engine):\n{body}"
    )
    ended = stage.headrace("run", "spanned:engine", "--burst")
    assert 2 == ended.returncode, ended.stderr
    assert "headrace: the lifespan spanned.pool raised OSError: no pool" in ended.stderr
    assert "Traceback" not in ended.stderr
    ended = stage.headrace("run", "spanned:engine", "--burst", HEADRACE_LOG_LEVEL="debug")
    assert (2, True) == (ended.returncode, "Traceback" in ended.stderr)


def test_a_full_disk_at_the_end_is_said(stage, invoke) -> None:
    """Outcomes that a full disk did not take are one message and exit code 2."""
    invoke("submit", "add", "--args", "[1]", "--allow-unknown")
    program = (
        "from headrace.engine.files import settings\n"
        "import msgspec, sys\n"
        "from headrace.engine.files.buffered import BufferedFile\n"
        "from headrace.engine.files.settings import FileSettings\n"
        "from headrace.engine.cli.app import command_line\n"
        "init = BufferedFile.__init__\n"
        "def hasty(self, path, settings):\n"
        "    init(self, path, msgspec.structs.replace(settings, close_timeout_s=0.2))\n"
        "BufferedFile.__init__ = hasty\n"
        "command_line(['run', 'app:engine', '--burst', '--log-outcomes', '/dev/full'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=stage.folder, env=stage.environ, capture_output=True, text=True,
        check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert (2, True) == (ended.returncode, "/dev/full: 1 records not safely written" in ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_impatient_second_signal_after_the_drain_changes_nothing(stage) -> None:
    """Who sends another signal while a drained worker's process ends still gets its 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        process = stage.worker()
        process.popen.send_signal(signal.SIGINT)
        process.until(" stopped ")
        time.sleep(0.05)  # what is left is the end of the interpreter
        assert 0 == process.end(number)
