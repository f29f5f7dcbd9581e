"""`headrace run` with several processes: kept alive, told to stop, never orphaned."""

import os
import re
import signal
import socket
import time
import urllib.request

from command_stage import DEADLINE_S
from servers import free_port


def pids(log: str) -> dict[str, int]:
    """The process that each child is now, by its name."""
    return {name: int(pid) for name, pid in re.findall(r"started .*child='?([\w ]+?)'? pid=(\d+)", log)}


def until_gone(pid: int) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline_s, f"process {pid} is still there"
        time.sleep(0.01)


def test_a_killed_worker_is_started_again_and_a_signal_drains_all(stage) -> None:
    """A child that was killed comes back, each writes an outcome log of its own, and SIGTERM drains all: exit 0."""
    supervisor = stage.start("run", "app:engine", "--processes", "2", "--log-outcomes", "out.jsonl")
    supervisor.until(" working ", 2)
    first = pids(supervisor.log)
    os.kill(first["worker 1"], signal.SIGKILL)
    supervisor.until(" working ", 3)
    second = pids(supervisor.log)
    assert (True, True) == (first["worker 1"] != second["worker 1"], first["worker 2"] == second["worker 2"])
    stage.headrace("submit", "nap", "--args", "[0.3]")
    stage.wait_for("napping")
    assert 0 == supervisor.end(signal.SIGTERM)
    for pid in second.values():
        until_gone(pid)
    written = "".join((stage.folder / f"out.jsonl.{number}").read_text() for number in (1, 2))
    assert 1 == written.count("succeeded")


def test_workers_end_when_their_supervisor_is_killed(stage) -> None:
    """SIGKILL of the supervisor leaves no worker running."""
    supervisor = stage.start("run", "app:engine", "--processes", "2")
    supervisor.until(" working ", 2)
    children = pids(supervisor.log)
    supervisor.popen.kill()
    supervisor.popen.wait(DEADLINE_S)
    for pid in children.values():
        until_gone(pid)


def test_a_signal_to_the_whole_group_hurries_nobody(stage) -> None:
    """Where the supervisor and its workers all get SIGTERM, as under systemd, running jobs still end."""
    supervisor = stage.start("run", "app:engine", "--processes", "2")
    supervisor.until(" working ", 2)
    job_id = stage.headrace("submit", "nap", "--args", "[0.5]").stdout.strip()
    stage.wait_for("napping")
    for pid in pids(supervisor.log).values():
        os.kill(pid, signal.SIGTERM)
    assert 0 == supervisor.end(signal.SIGTERM)
    assert '"status":"succeeded"' in stage.headrace("jobs", "show", job_id, "--json").stdout


def test_a_burst_ends_with_its_last_worker(stage, invoke) -> None:
    """With --burst, workers that are done are not started again."""
    invoke("submit", "add", "--args", "[1]")
    ended = stage.headrace("run", "app:engine", "--processes", "2", "--burst")
    assert (0, 2) == (ended.returncode, ended.stderr.count("started "))


def test_the_api_is_a_process_beside_the_worker(stage) -> None:
    """--http serves the API from a child of its own, which ends with the others."""
    port = free_port()
    supervisor = stage.start("run", "app:engine", "--http", f"127.0.0.1:{port}")
    supervisor.until(" working ")
    children = pids(supervisor.log)
    assert {"worker 1", "http"} == set(children)
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/stats", timeout=5) as reply:
                assert 200 == reply.status
                break
        except OSError:
            assert time.monotonic() < deadline_s, supervisor.log
            time.sleep(0.02)
    assert 0 == supervisor.end(signal.SIGTERM), supervisor.log
    assert 1 == supervisor.log.count("Jobs are kept on this machine"), supervisor.log  # by the supervisor, for all
    for pid in children.values():
        until_gone(pid)


def test_an_api_that_cannot_be_served_ends_all(stage) -> None:
    """A port that is taken is a configuration error of the whole command."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = stage.headrace("run", "app:engine", "--http", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (2, True) == (ended.returncode, "cannot serve on" in ended.stderr), ended.stderr
