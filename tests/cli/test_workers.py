"""The commands for workers: who is there and with which handlers, and telling one to be quiet or to stop."""

import json
import time
from typing import Any

DEADLINE_S = 30.0


def workers(invoke) -> list[dict[str, Any]]:
    """Return the workers that are there."""
    return json.loads(invoke("workers", "list", "--json").stdout)


def test_workers_are_listed_with_their_handlers(stage, invoke) -> None:
    """The table names them; the document also has their pools and each handler's schema."""
    assert [] == workers(invoke)
    process = stage.worker()
    (shown,) = workers(invoke)
    assert ("working", process.popen.pid, ["default", "slow"]) == (shown["state"], shown["pid"], shown["queues"])
    assert {"add", "nap", "fail", "block"} == shown["handlers"].keys()
    assert {"a", "b"} == shown["handlers"]["add"]["schema"]["properties"].keys()
    assert ("slow", "thread") == (shown["handlers"]["nap"]["queue"], shown["handlers"]["block"]["runner"])
    assert 100 == shown["runners"]["async"]["slots"]
    (row,) = invoke("workers", "list").stdout.splitlines()[1:]
    assert [shown["id"], "working", "default,slow"] == row.split()[:3]


def test_a_quiet_worker_runs_what_it_has_and_no_more(stage, invoke) -> None:
    """Told to be quiet it ends its jobs, leaves others in their queue, and stays until it is stopped."""
    process = stage.worker()
    running = invoke("submit", "nap", "--args", "[1]", "--queue", "slow").stdout.strip()
    stage.wait_for("napping")
    (shown,) = workers(invoke)
    told = invoke("workers", "quiet", shown["id"])
    assert (0, f"quiet {shown['id']}\n") == (told.exit_code, told.stdout)
    left = invoke("submit", "add", "--args", "[1, 2]").stdout.strip()
    until(lambda: "succeeded" == status(invoke, running))
    assert "queued" == status(invoke, left)
    assert ["quiet"] == [each["state"] for each in workers(invoke)]
    invoke("queues", "pause", "default")
    invoke("queues", "resume", "default")  # a queue is resumed, not a worker
    time.sleep(0.3)
    assert "queued" == status(invoke, left)
    assert process.popen.poll() is None
    assert 0 == invoke("workers", "stop", shown["id"]).exit_code
    assert 0 == process.popen.wait(DEADLINE_S)
    assert 0 == stage.headrace("run", "app:engine", "--burst").returncode
    assert "succeeded" == status(invoke, left)


def test_a_stopped_worker_drains(stage, invoke) -> None:
    """Told to stop, by the beginning of its id, it lets running jobs end and ends well; the other one works on."""
    process = stage.worker()
    running = invoke("submit", "nap", "--args", "[1]", "--queue", "slow").stdout.strip()
    stage.wait_for("napping")
    other = stage.worker()
    victim = next(each["id"] for each in workers(invoke) if each["pid"] == process.popen.pid)
    told = invoke("workers", "stop", victim[:-1], "--json")
    assert (0, {"id": victim, "obeys": True}) == (told.exit_code, json.loads(told.stdout))
    assert 0 == process.popen.wait(DEADLINE_S)
    assert "succeeded" == status(invoke, running)
    until(lambda: [other.popen.pid] == [each["pid"] for each in workers(invoke)])
    assert "3" == invoke("submit", "add", "--args", "[1, 2]", "--wait", "20").stdout.strip()


def test_an_unknown_worker_is_a_usage_error(stage, invoke) -> None:
    """Whoever is not there, or is not meant clearly, is named with those that are there."""
    nobody = invoke("workers", "stop", "nobody")
    assert (2, True) == (nobody.exit_code, "there is no worker 'nobody'; there are: none" in nobody.stderr)
    stage.worker()
    stage.worker()
    first, second = (each["id"] for each in workers(invoke))
    common = next(first[:size] for size in range(len(first), 0, -1) if second.startswith(first[:size]))
    both = invoke("workers", "quiet", common)
    assert (2, True, True) == (both.exit_code, first in both.stderr, second in both.stderr)


def test_a_dead_job_is_retried_by_its_id(stage, invoke) -> None:
    """`jobs retry` queues it again; one that is not dead is left alone, with exit code 1."""
    job_id = invoke("submit", "fail").stdout.strip()
    assert 0 == stage.headrace("run", "app:engine", "--burst").returncode
    assert "dead" == status(invoke, job_id)
    again = invoke("jobs", "retry", job_id)
    assert (0, f"queued {job_id} again\n") == (again.exit_code, again.stdout)
    refused = invoke("jobs", "retry", job_id, "--json")
    assert (1, "queued") == (refused.exit_code, json.loads(refused.stdout)["status"])
    assert "only dead jobs can be retried" in refused.stderr
    unknown = invoke("jobs", "retry", "default:9999999999999-0")
    assert (1, True) == (unknown.exit_code, "there is no job" in unknown.stderr)


def status(invoke, job_id: str) -> str:
    """Return a job's state."""
    return str(json.loads(invoke("jobs", "show", job_id, "--json").stdout)["status"])


def until(is_so) -> None:
    """Return once something is so."""
    ends_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.02)
