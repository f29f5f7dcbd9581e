"""`headrace demo` as a user runs it: a process of its own, with a real server, on a small folder."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded_scene import kill_server
from headrace.engine.embedded.record import ServerRecord, read_record
from leftovers import SHORT

#: Generous: only a hang is to be caught.
DEADLINE_S = 60.0
FILES = 40


class Scene:
    """Sources to index, and a short folder for what the demo writes."""

    def __init__(self, folder: Path, short: Path) -> None:
        self.sources = folder / "sources"
        self.state = short / "state"
        self.demo = self.state / "headrace" / "demo"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
            "XDG_STATE_HOME": str(self.state),
            "XDG_RUNTIME_DIR": str(short),
            "HEADRACE_PROCESS_SLOTS": "2",
        }
        self.processes: list[subprocess.Popen[str]] = []
        self.sources.mkdir()
        for number in range(FILES):
            (self.sources / f"{number:03}.py").write_text("import os\n" if number else "broken (\n")

    def fill_with_work(self, count: int = 200) -> None:
        """Add files that take a core some 50 ms each."""
        large = self.sources / "large.py"
        large.write_text("x = [1, 2, 3]\n" * 15_000)
        for number in range(count):
            os.link(large, self.sources / f"large{number:03}.py")

    def start(self, *args: str, **options: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "headrace", "demo", *args]
        process = subprocess.Popen(
            command, env=self.environ, cwd=self.state.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True, **options,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def run(self, *args: str) -> tuple[int, str, str]:
        process = self.start(*args)
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
        return process.returncode, stdout, stderr

    def close(self) -> None:
        """End what a test that failed left running, the server with it, and close the pipes."""
        record = read_record(self.demo / "server") if (self.demo / "server").is_dir() else None
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()
            process.wait()
        if record is not None:
            kill_server(record)

    def start_and_wait_for_outcomes(self) -> "tuple[subprocess.Popen[str], ServerRecord]":
        process = self.start("--path", str(self.sources), "--json")
        log = self.demo / "outcomes.jsonl"
        deadline_s = time.monotonic() + DEADLINE_S
        while not (log.exists() and log.stat().st_size):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        record = read_record(self.demo / "server")
        assert record is not None
        return process, record


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A stage in a folder whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix=SHORT, dir="/tmp") as short:
        os.chmod(short, 0o700)
        scene = Scene(tmp_path, Path(short))
        try:
            yield scene
        finally:
            scene.close()


def is_running(pid: int) -> bool:
    """Whether a process runs; the embedded server is no child of ours, so a zombie of it counts as ended."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return found.strip() != "" and not found.startswith("Z")


def children_of(pid: int) -> list[int]:
    """Return the process runner's children of a process."""
    rows = subprocess.run(
        ["ps", "-ww", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    found = [row.split(maxsplit=2) for row in rows.splitlines()]
    return [int(row[0]) for row in found if int(row[1]) == pid and "headrace.workers.runners.child" in row[2]]


def group_is_running(pid: int) -> bool:
    """Whether any process of the group runs: the demo and the children that it started."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_every_file_is_accounted_for(scene: Scene, loop: str) -> None:
    """On every loop each file has its job, its result and its line in the log, and nothing but the log stays."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    code, stdout, stderr = scene.run("--path", str(scene.sources), "--loop", loop, "--json")
    assert 0 == code, stderr
    found = json.loads(stdout)
    assert (FILES, FILES, 0, 0) == tuple(found[name] for name in ("files", "settled", "failed", "lost"))
    assert found["jobs_per_s"] > 0
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    lines = [json.loads(line) for line in Path(found["outcome_log"]).read_text().splitlines()]
    assert FILES == len(lines) == len({line["id"] for line in lines})
    assert {("index_file", "succeeded", 1)} == {(line["name"], line["status"], line["attempt"]) for line in lines}
    assert ["outcomes.jsonl"] == os.listdir(scene.demo)


def test_the_summary_is_for_people(scene: Scene) -> None:
    """Without --json stdout has the summary, with the file that is not understood, and stderr what is no figure."""
    code, stdout, stderr = scene.run("--path", str(scene.sources))
    assert 0 == code, stderr
    assert stdout.startswith(f"{FILES} files indexed in ")
    assert f"settled {FILES}   failed 0   lost 0" in stdout
    assert f"  os  {FILES - 1} files" in stdout
    assert "  000.py  does not parse: '(' was never closed (line 1)" in stdout
    assert stdout.endswith(f"{scene.demo / 'outcomes.jsonl'}\n")
    assert f"indexing {FILES} files" in stderr


def test_the_users_own_server_is_not_touched(scene: Scene) -> None:
    """A configured server, queue bound or retention does not reach the demo; memory:// alone is taken over."""
    scene.environ |= {
        "HEADRACE_URL": "redis://127.0.0.1:1/0",
        "HEADRACE_RESULT_TTL": "0",
        "HEADRACE_MAX_QUEUE_LENGTH": "5",
    }
    code, stdout, stderr = scene.run("--path", str(scene.sources), "--json")
    assert (0, FILES, 0) == (code, json.loads(stdout)["settled"], json.loads(stdout)["lost"]), stderr
    scene.environ |= {"HEADRACE_URL": "memory://", "PATH": ""}
    code, stdout, stderr = scene.run("--path", str(scene.sources))
    assert 0 == code, stderr
    assert "jobs in memory" in stdout.splitlines()[0]
    assert "embedded" not in stdout + stderr


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGHUP, "SIGHUP")])
def test_a_signal_ends_it_in_order(scene: Scene, number: int, name: str) -> None:
    """Ctrl-C, sent to the whole group as terminals do, ends it with 130 and a message, and leaves nothing running."""
    scene.fill_with_work()
    process, record = scene.start_and_wait_for_outcomes()
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    assert (130, "") == (process.returncode, stdout)
    last = stderr.splitlines()[-1]
    assert last.startswith(f"headrace: stopped by {name} after ")
    assert f"of {FILES + 201} files; nothing is left running" in last
    assert "Traceback" not in stderr
    assert not group_is_running(process.pid)
    assert not is_running(record.pid)
    assert ["outcomes.jsonl"] == os.listdir(scene.demo)


def test_the_next_demo_clears_up_after_a_killed_one(scene: Scene) -> None:
    """After kill -9 the next demo stops the server that was left over, and its figures are its own."""
    scene.fill_with_work()
    process, record = scene.start_and_wait_for_outcomes()
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    assert is_running(record.pid)
    for large in scene.sources.glob("large*.py"):
        large.unlink()
    code, stdout, stderr = scene.run("--path", str(scene.sources), "--json")
    assert (0, FILES) == (code, json.loads(stdout)["settled"]), stderr
    assert not is_running(record.pid)
    assert ["outcomes.jsonl"] == os.listdir(scene.demo)


def test_two_at_a_time_are_refused(scene: Scene) -> None:
    """A second demo beside a running one exits 2, says so, and leaves the first one's folder alone."""
    scene.fill_with_work()
    process, _ = scene.start_and_wait_for_outcomes()
    code, stdout, stderr = scene.run("--path", str(scene.sources))
    assert (2, "") == (code, stdout)
    assert "another `headrace demo` is running" in stderr
    assert (scene.demo / "server").is_dir()
    process.terminate()
    assert 130 == process.wait(DEADLINE_S)
    process.communicate()


def test_closed_streams_do_no_harm(scene: Scene) -> None:
    """With stdout and stderr closed it still does its work and exits 0."""
    command = 'exec "$0" -m headrace demo --path "$1" --json >&- 2>&-'
    ended = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, str(scene.sources)],
        env=scene.environ, cwd=scene.state.parent, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert 0 == ended.returncode
    assert FILES == len((scene.demo / "outcomes.jsonl").read_text().splitlines())


def test_mistakes_of_the_caller_exit_2(scene: Scene) -> None:
    """A folder without sources, no folder, an unknown loop, no place to write to: one line each, nothing started."""
    empty, file = scene.sources.parent / "empty", scene.sources / "000.py"
    empty.mkdir()
    for args, message in (
        (("--path", str(empty)), f"--path {empty} holds no *.py file"),
        (("--path", str(file)), f"--path {file} is not a folder"),
        (("--path", str(empty / "none")), f"--path {empty / 'none'} is not a folder"),
        (("--loop", "curio"), "Invalid value for '--loop'"),
    ):
        code, stdout, stderr = scene.run(*args)
        assert (2, "") == (code, stdout)
        assert message in stderr
        assert not scene.state.exists()
    scene.environ["XDG_STATE_HOME"] = str(file)
    code, stdout, stderr = scene.run("--path", str(scene.sources))
    assert (2, "") == (code, stdout)
    assert f"the demo's folder {file}/headrace/demo, for its outcome log, cannot be written to" in stderr
    assert 1 == len(stderr.splitlines())


@pytest.mark.parametrize(("deliveries", "expected"), [("5", (0, 0, 0)), ("1", (1, 1, 0))])
def test_a_crash_is_run_again_or_told(scene: Scene, deliveries: str, expected: tuple[int, int, int]) -> None:
    """A job whose process is killed runs again, or has failed where no second start is allowed; it is never lost."""
    scene.fill_with_work(count=12)
    scene.environ["HEADRACE_MAX_DELIVERIES"] = deliveries
    process, _ = scene.start_and_wait_for_outcomes()
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    found = json.loads(stdout)
    assert expected == (process.returncode, found["failed"], found["lost"]), stderr
    assert found["files"] == found["settled"] == FILES + 13
    assert '"status":"crashed"' in (scene.demo / "outcomes.jsonl").read_text()
    assert ("0 jobs were lost and 1 failed" in stderr) == bool(process.returncode)
