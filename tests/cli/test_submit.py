"""`headrace submit`, one job and many."""

import json
from pathlib import Path

import pytest

from headrace.engine.cli.lines import lines


def test_a_job_without_workers_is_accepted_with_a_note(invoke) -> None:
    """Where no worker publishes names, any is accepted; stdout has the id alone and stderr says so."""
    result = invoke("submit", "anything", "--args", "[1]", "--queue", "mail")
    assert (0, "mail:", True) == (result.exit_code, result.stdout[:5], "no worker is running" in result.stderr)
    listed = json.loads(invoke("jobs", "list", "--json").stdout)
    assert [(result.stdout.strip(), "anything", "queued")] == [
        (job["id"], job["name"], job["status"]) for job in listed
    ]


def test_a_delayed_job_waits(invoke) -> None:
    """--delay takes a duration as people write it."""
    job_id = invoke("submit", "add", "--delay", "1h").stdout.strip()
    record = json.loads(invoke("jobs", "show", job_id, "--json").stdout)
    assert ("delayed", 3_600_000) == (record["status"], record["due_at_ms"] - record["submitted_at_ms"])


def test_an_id_of_ones_own_is_taken_once(invoke) -> None:
    """--id names the job for `jobs show`; a second one exits 1 and names the first."""
    job_id = invoke("submit", "add", "--id", "order-17").stdout.strip()
    assert job_id == json.loads(invoke("jobs", "show", "order-17", "--json").stdout)["id"]
    second = invoke("submit", "add", "--id", "order-17")
    assert (1, "", True) == (second.exit_code, second.stdout, job_id in second.stderr)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--args", "[1"), "--args '[1' is no JSON"),
        (("--args", "{}"), "expected a JSON array"),
        (("--kwargs", "[]"), "expected a JSON object"),
        (("--delay", "soon"), "delay='soon'"),
        (("--queue", "a b"), "cannot be a queue's name"),
        (("--id", "a b"), "id='a b'"),
    ],
)
def test_wrong_usage_says_what_to_write(invoke, args, said) -> None:
    """What cannot be read ends with exit code 2, naming the option, without a traceback."""
    result = invoke("submit", "add", *args)
    assert (2, "", True) == (result.exit_code, result.stdout, said in result.stderr)
    assert "Traceback" not in result.stderr


def test_a_wait_that_ends_prints_the_id(invoke) -> None:
    """A wait that is too short exits 4; the job goes on, and stdout has its id."""
    result = invoke("submit", "add", "--wait", "50ms")
    assert (4, "default:") == (result.exit_code, result.stdout[:8])
    assert "only the wait ended" in result.stderr


def test_memory_is_refused(invoke) -> None:
    """A broker inside this process would forget the job, so it is refused."""
    result = invoke("submit", "add", "--url", "memory://x")
    assert (2, True) == (result.exit_code, "inside one process" in result.stderr)


def test_a_batch_submits_the_good_lines_and_names_the_bad(invoke) -> None:
    """Bad lines are reported by number and make the exit code 2; the good ones are submitted all the same."""
    text = """{"name": "add", "args": [1, 2]}
{oops

{"name": "add", "kwargs": {"a": 1}, "queue": "mail"}
{"name": "add", "arguments": [1]}
{"name": "add", "queue": "a b"}
{"name": "last"}"""
    path = Path("batch.ndjson")
    path.write_text(text)
    result = invoke("submit", "--batch", str(path))
    assert (2, {"accepted": 3, "rejected": 3}) == (result.exit_code, json.loads(result.stdout))
    assert [True, True, True] == [f"line {number}: " in result.stderr for number in (2, 5, 6)]
    queued = {queue["name"]: queue["queued"] for queue in json.loads(invoke("queues", "list", "--json").stdout)}
    assert {"default": 2, "mail": 1} == queued


def test_a_batch_that_is_not_there_says_so(invoke) -> None:
    """A file that cannot be opened ends with exit code 2 and its name."""
    result = invoke("submit", "--batch", "nowhere.ndjson")
    assert (2, True) == (result.exit_code, "nowhere.ndjson: No such file" in result.stderr)


def test_lines_are_cut_to_a_bound(tmp_path) -> None:
    """A line that is too long costs no more memory than the bound, and the next is whole."""
    path = tmp_path / "lines"
    path.write_bytes(b"x" * 300_000 + b"\nshort\n\nlast")
    with path.open("rb") as file:
        found = list(lines(file.fileno(), 10))
    assert [b"x" * 11, b"short", b"", b"last"] == found


ONE_AT_A_TIME = """
from headrace import Engine

engine = Engine()


@engine.job(unique=True, queue="later")
async def refresh(city: str) -> None: ...
"""


def test_a_handlers_own_key_holds_for_the_command_line(stage, invoke) -> None:
    """A running worker says what makes its jobs unique: a second one is refused, singly and by its line of a batch."""
    (stage.folder / "cities.py").write_text(ONE_AT_A_TIME)
    invoke("queues", "pause", "later")
    stage.start("run", "cities:engine").until(" working ")
    first = invoke("submit", "refresh", "--args", '["Oslo"]')
    second = invoke("submit", "refresh", "--args", '["Oslo"]')
    assert (0, 1, "") == (first.exit_code, second.exit_code, second.stdout)
    assert f"job {first.stdout.strip()} has the unique key" in second.stderr
    lines = "\n".join(f'{{"name": "refresh", "args": ["{city}"]}}' for city in ("Bergen", "Oslo", "Bergen", "Troms"))
    Path("cities.ndjson").write_text(lines)
    batch = invoke("submit", "--batch", "cities.ndjson")
    assert (2, {"accepted": 2, "rejected": 2}) == (batch.exit_code, json.loads(batch.stdout))
    assert [True, True] == [f"line {number}: job " in batch.stderr for number in (2, 3)]
