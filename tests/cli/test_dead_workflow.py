"""`headrace dead`: editing, and retrying or dropping all of them at a rate."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture
def dead_ids(stage, invoke) -> list[str]:
    """Three dead jobs, the oldest first."""
    ids = [invoke("submit", "fail").stdout.strip() for _ in range(3)]
    assert 0 == stage.headrace("run", "app:engine", "--burst").returncode
    return ids


def test_a_dead_job_is_edited_and_keeps_what_died(invoke, dead_ids) -> None:
    """New arguments are shown beside the old ones; without a worker stderr says that nobody checked them."""
    result = invoke("dead", "edit", dead_ids[0], "--args", "[5]", "--json")
    item = json.loads(result.stdout)
    assert ([5], {}, [], {}) == (item["args"], item["kwargs"], item["edited"]["args"], item["edited"]["kwargs"])
    assert "checked only when one runs it" in result.stderr
    assert item == json.loads(invoke("dead", "show", dead_ids[0], "--json").stdout)
    assert f"edited {dead_ids[0]}" in invoke("dead", "edit", dead_ids[0], "--kwargs", '{"a": 1}').stdout


@pytest.mark.parametrize(
    ("args", "exit_code", "said"),
    [
        ([], 2, "give --args, --kwargs or both"),
        (["--args", "{}"], 2, "expected a JSON array"),
        (["--args", "[1"], 2, "is no JSON"),
    ],
)
def test_an_edit_says_what_is_wrong(invoke, dead_ids, args, exit_code, said) -> None:
    """What is missing or no JSON is a usage error."""
    result = invoke("dead", "edit", dead_ids[0], *args)
    assert (exit_code, True) == (result.exit_code, said in result.stderr)


def test_a_letter_that_is_not_there_cannot_be_edited(invoke) -> None:
    """An unknown id exits 1."""
    result = invoke("dead", "edit", "default:1-0", "--args", "[]")
    assert (1, True) == (result.exit_code, "there is no dead letter" in result.stderr)


def test_all_go_at_a_rate(invoke, dead_ids) -> None:
    """At 10/s three letters take two tenths of a second; a name that none has finds none."""
    assert "retried 0" in invoke("dead", "retry", "--all", "--name", "other").stdout
    began_s = time.monotonic()
    assert "retried 3" in invoke("dead", "retry", "--all", "--rate", "10/s", "--name", "fail").stdout
    assert 0.2 <= time.monotonic() - began_s
    assert [] == json.loads(invoke("dead", "list", "--json").stdout)


@pytest.mark.parametrize("rate", ["0", "-1/s", "fast", "nan"])
def test_a_rate_is_a_number_above_zero(invoke, rate) -> None:
    """Anything else is a usage error."""
    result = invoke("dead", "retry", "--all", "--rate", rate)
    assert (2, True) == (result.exit_code, "such as 50/s" in result.stderr)


def test_a_rate_is_for_all(invoke) -> None:
    """With ids there is nothing to choose."""
    assert 2 == invoke("dead", "drop", "default:1-0", "--rate", "1/s").exit_code


def test_ctrl_c_ends_it_between_two_batches(stage, invoke, dead_ids) -> None:
    """What was done is told and stays done, the rest is untouched, and the same command goes on with it."""
    command = [sys.executable, "-m", "headrace", "dead", "drop", "--all", "--yes", "--rate", "0.5/s"]
    child = subprocess.Popen(
        command, env=stage.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    ends_s = time.monotonic() + 20
    while 3 == len(json.loads(invoke("dead", "list", "--json").stdout)):
        assert time.monotonic() < ends_s
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert (130, "dropped 1\n", True) == (child.returncode, out, "the same command goes on" in err)
    assert dead_ids[:2] == sorted(item["id"] for item in json.loads(invoke("dead", "list", "--json").stdout))
    assert "dropped 2" in invoke("dead", "drop", "--all", "--yes").stdout


def test_past_max_dead_the_oldest_go_to_the_data_folder(stage, invoke, dead_ids) -> None:
    """A worker moves them there as `dead list` shows them, says so, and tells it in the figures."""
    items = json.loads(invoke("dead", "list", "--json").stdout)
    stage.environ["HEADRACE_MAX_DEAD"] = "1"
    worker = stage.worker()
    worker.until("dead letters exported")
    assert dead_ids[2:] == [item["id"] for item in json.loads(invoke("dead", "list", "--json").stdout)]
    (path,) = (stage.folder / "data" / "dead-letters").iterdir()
    assert str(path) in worker.log
    assert items[:0:-1] == [json.loads(line) for line in path.read_bytes().splitlines()]
    assert 0 == worker.end()


def test_a_wrong_cursor_is_a_usage_error(invoke, dead_ids) -> None:
    """It is the caller's fault, not the server's."""
    for cursor in ("garbage", "default|garbage", "default|nan x"):
        result = invoke("dead", "list", "--cursor", cursor)
        assert (2, True) == (result.exit_code, "is no cursor" in result.stderr)
