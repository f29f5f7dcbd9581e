"""The commands of an operator for queues and jobs that wait or run."""

import contextlib
import json
import signal
import subprocess
import sys
import time

import pytest


def test_a_paused_queue_is_left_alone_until_it_is_resumed(stage, invoke) -> None:
    """Jobs of a paused queue wait, also in a worker that ends when its queues are empty; resumed, they run."""
    job_id = invoke("submit", "add", "--args", "[1, 2]").stdout.strip()
    assert "paused default: 1 queued, 0 running\n" == invoke("queues", "pause", "default").stdout
    assert [True] == [queue["paused"] for queue in json.loads(invoke("queues", "list", "--json").stdout)]
    assert "paused" in invoke("queues", "list").stdout.splitlines()[1]
    assert 0 == stage.headrace("run", "app:engine", "--burst").returncode
    assert "queued" == json.loads(invoke("jobs", "show", job_id, "--json").stdout)["status"]
    assert not json.loads(invoke("queues", "resume", "default", "--json").stdout)["paused"]
    assert 0 == stage.headrace("run", "app:engine", "--burst").returncode
    assert 3 == json.loads(invoke("jobs", "show", job_id, "--json").stdout)["result"]


def test_a_purge_asks_first(invoke) -> None:
    """Without --yes a person is asked, and a no changes nothing; with it, what waits ends as cancelled."""
    ids = [invoke("submit", "add", "--delay", delay).stdout.strip() for delay in ("0", "60")]
    refused = invoke("queues", "purge", "default", stdin="n\n")
    assert (1, True) == (refused.exit_code, "End 1 queued and 1 delayed jobs of 'default'?" in refused.stderr)
    assert {"queue": "default", "purged": 2} == json.loads(
        invoke("queues", "purge", "default", "--yes", "--json").stdout
    )
    assert "purged 0\n" == invoke("queues", "purge", "default", stdin="y\n").stdout
    alone = invoke("queues", "purge", "default", stdin="")
    assert (2, True) == (alone.exit_code, "nobody is there to answer; give --yes" in alone.stderr)
    shown = [json.loads(invoke("jobs", "show", job_id, "--json").stdout) for job_id in ids]
    assert [("cancelled", "purged by an operator")] * 2 == [(job["status"], job["error"]["message"]) for job in shown]


def interrupt(asking: subprocess.Popen[bytes]) -> int:
    """Press Ctrl-C until the process has ended, as a person would; return its exit code.

    One may be lost: a signal that comes after Python last looked for one and before its read of the answer has begun is
    only noted, and the read goes on.
    """
    for _ in range(15):
        asking.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return asking.wait(2)
    asking.kill()
    raise AssertionError("15 times Ctrl-C did not end the process")


def test_a_ctrl_c_at_the_question_is_no_missing_answer(stage, invoke) -> None:
    """Where the answer was to come from a pipe, too: nothing is done, and nobody is told to give --yes."""
    job_id = invoke("submit", "add").stdout.strip()
    with subprocess.Popen(
        [sys.executable, "-m", "headrace", "queues", "purge", "default"],
        cwd=stage.folder, env=stage.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as asking:  # fmt: skip
        asked = b""
        while not asked.endswith(b"[y/N]:"):
            asked += (more := asking.stderr.read(1))
            assert more, asked
        code = interrupt(asking)
        said = asking.stderr.read()
        assert (1, False, True) == (code, b"nobody is there" in said, b"Aborted!" in said)
    assert "queued" == json.loads(invoke("jobs", "show", job_id, "--json").stdout)["status"]


def test_a_queue_that_nobody_used_is_paused_with_a_word(invoke) -> None:
    """It may be misspelt: stderr says so and names what is near; a queue that had a job is paused without a word."""
    invoke("submit", "add")
    wrong = invoke("queues", "pause", "defualt")
    assert (0, "paused defualt: 0 queued, 0 running\n") == (wrong.exit_code, wrong.stdout)
    assert "has used the queue 'defualt' so far; did you mean 'default'?" in wrong.stderr
    assert "`headrace queues resume defualt`" in wrong.stderr
    shown = json.loads(invoke("queues", "resume", "defualt", "--json").stdout)
    assert (False, False, ["default"]) == (shown["paused"], shown["known"], shown["similar"])
    right = invoke("queues", "pause", "default")
    assert (False, True) == ("so far" in right.stderr, "paused default" in right.stdout)


def test_a_waiting_job_is_cancelled_once(invoke) -> None:
    """The first time it is cancelled; then it has ended, and the exit code is 1."""
    job_id = invoke("submit", "add").stdout.strip()
    first = invoke("jobs", "cancel", job_id)
    assert (0, f"cancelled {job_id}\n") == (first.exit_code, first.stdout)
    again = invoke("jobs", "cancel", job_id, "--json")
    assert (1, False) == (again.exit_code, json.loads(again.stdout)["cancelled"])
    assert "has ended already" in again.stderr
    unknown = invoke("jobs", "cancel", "default:9999999999999-0")
    assert (1, True) == (unknown.exit_code, "there is no job" in unknown.stderr)


def test_a_running_job_is_cancelled_from_another_process(stage, invoke) -> None:
    """A worker process stops a job that a person cancelled, and goes on with others."""
    stage.worker()
    job_id = invoke("submit", "nap", "--args", "[60]", "--queue", "slow").stdout.strip()
    stage.wait_for("napping")
    assert 0 == invoke("jobs", "cancel", job_id).exit_code
    deadline_s = time.monotonic() + 20
    while "cancelled" != json.loads(invoke("jobs", "show", job_id, "--json").stdout)["status"]:
        assert time.monotonic() < deadline_s
    assert "3" == invoke("submit", "add", "--args", "[1, 2]", "--wait", "20").stdout.strip()


@pytest.mark.parametrize("verb", ["pause", "resume", "purge --yes"])
def test_what_is_no_queue_exits_with_2(invoke, verb) -> None:
    """A name that no queue can have is a usage error."""
    result = invoke("queues", *verb.split(), "a b")
    assert (2, True) == (result.exit_code, "cannot be a queue's name" in result.stderr)
