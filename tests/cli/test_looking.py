"""The commands that look, and those of an operator."""

import json

import pytest

from headrace.config.settings import places


@pytest.fixture
def dead_ids(stage, invoke) -> list[str]:
    """Three dead jobs, the oldest first."""
    ids = [invoke("submit", "fail").stdout.strip() for _ in range(3)]
    assert 0 == stage.headrace("run", "app:engine", "--burst").returncode
    return ids


def test_config_shows_every_setting_and_its_origin(invoke) -> None:
    """`config show --json` lists every setting; passwords are masked, and a flag is named where one was given."""
    result = invoke("config", "show", "--json", "--url", "redis://me:secret@host:1/0")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert set(places()) == set(rows)
    assert {"name": "url", "value": "redis://me:***@host:1/0", "origin": "flag --url"} == rows["url"]


def test_the_url_may_stand_before_the_command(invoke) -> None:
    """--url means the same before and behind the command, and the one behind wins."""
    before = invoke("--url", "redis://a", "config", "show").stdout
    both = invoke("--url", "redis://a", "config", "show", "--url", "redis://b").stdout
    assert [True, True] == ["redis://a" in before, "redis://b" in both]


def test_a_wrong_setting_exits_with_2(invoke, monkeypatch) -> None:
    """A wrong variable is named, with exit code 2 and no traceback unless the log level is debug."""
    monkeypatch.setenv("HEADRACE_SLOTS", "many")
    quiet = invoke("stats")
    monkeypatch.setenv("HEADRACE_LOG_LEVEL", "debug")
    loud = invoke("stats")
    assert (2, True, False) == (quiet.exit_code, "HEADRACE_SLOTS" in quiet.stderr, "Traceback" in quiet.stderr)
    assert (2, True) == (loud.exit_code, "Traceback" in loud.stderr)


@pytest.mark.parametrize("command", ["stats", "jobs list", "queues list", "dead list", "submit add"])
def test_a_closed_port_exits_with_3(invoke, command) -> None:
    """Where nobody listens, every command says so and exits 3."""
    result = invoke(*command.split(), "--url", "redis://127.0.0.1:1")
    assert (3, "", True) == (result.exit_code, result.stdout, "cannot be reached" in result.stderr)


def test_an_unknown_job_is_not_found(invoke) -> None:
    """An id that never was exits 1 and says what to check."""
    result = invoke("jobs", "show", "default:1-0")
    assert (1, True) == (result.exit_code, "there is no job" in result.stderr)


def test_pages_of_jobs_join_into_the_whole(invoke) -> None:
    """Following the cursor gives every job once, in order."""
    ids = [invoke("submit", "add", "--queue", f"q{number % 2}").stdout.strip() for number in range(5)]
    found, cursor = [], ""
    while True:
        page = invoke("jobs", "list", "--json", "--limit", "2", "--cursor", cursor)
        found += [job["id"] for job in json.loads(page.stdout)]
        if "--cursor" not in page.stderr:
            break
        cursor = page.stderr.rpartition("--cursor '")[2].strip().removesuffix("'")
    assert sorted(ids) == sorted(found)


def test_a_job_shows_its_arguments_while_there_are_any(stage, invoke, dead_ids) -> None:
    """With --arguments those of a job that waits or died are shown; one that succeeded has none any more."""

    def show(job_id: str, *flags: str) -> dict[str, object]:
        return json.loads(invoke("jobs", "show", job_id, "--json", *(flags or ("--arguments",))).stdout)

    job_id = invoke("submit", "add", "--args", "[1]", "--kwargs", '{"b": 2}').stdout.strip()
    waiting = show(job_id)
    assert ([1], {"b": 2}) == (waiting["args"], waiting["kwargs"])
    assert set(waiting) - {"args", "kwargs"} == set(show(job_id, "--json"))
    human = [invoke("jobs", "show", job_id, *flags).stdout.splitlines() for flags in ((), ("--arguments",))]
    assert [False, True] == [["args", "[1]"] in [line.split() for line in lines] for lines in human]
    assert ([], {}) == ((dead := show(dead_ids[0]))["args"], dead["kwargs"])
    assert 0 == stage.headrace("run", "app:engine", "--burst").returncode
    ended = show(job_id)
    assert 3 == ended["result"]
    assert not {"args", "kwargs"} & set(ended)
    assert {"args", "kwargs"} | (set(ended) - {"result"}) == set(waiting)


def test_a_dead_job_can_be_read(invoke, dead_ids) -> None:
    """A dead letter shows why it died; the job's record says the same."""
    item = json.loads(invoke("dead", "show", dead_ids[0], "--json").stdout)
    record = json.loads(invoke("jobs", "show", dead_ids[0], "--json").stdout)
    assert ("fail", "failed", "ValueError: no such row") == (item["name"], item["reason"], item["error"])
    assert ("dead", "ValueError", "no such row") == (
        record["status"], record["error"]["type"].rpartition(".")[2], record["error"]["message"],
    )  # fmt: skip
    assert [*reversed(dead_ids)] == [item["id"] for item in json.loads(invoke("dead", "list", "--json").stdout)]
    assert "no such row" in invoke("dead", "list").stdout
    assert "Traceback" in invoke("dead", "show", dead_ids[0]).stdout


def test_dead_jobs_are_retried_by_id(invoke, dead_ids) -> None:
    """Retrying names the ids that were not there, with exit code 1, and queues the others."""
    result = invoke("dead", "retry", dead_ids[0], "default:1-0", "--json")
    assert (1, {"retried": 1, "missing": ["default:1-0"]}) == (result.exit_code, json.loads(result.stdout))
    assert "queued" == json.loads(invoke("jobs", "show", dead_ids[0], "--json").stdout)["status"]


def test_dead_jobs_are_dropped_by_reason(invoke, dead_ids) -> None:
    """--all with a reason takes only those; --all takes the rest."""
    assert "dropped 0\n" == invoke("dead", "drop", "--all", "--reason", "timed_out", "--yes").stdout
    assert "dropped 0\n" == invoke("dead", "drop", "--all", "--queue", "mail").stdout
    assert "dropped 3\n" == invoke("dead", "drop", "--all", "--reason", "failed", "--yes").stdout
    assert [] == json.loads(invoke("dead", "list", "--json").stdout)


def test_to_drop_all_dead_jobs_asks_first(invoke, dead_ids) -> None:
    """A no changes nothing, nobody to answer is a usage error that names --yes, and a yes drops them."""
    refused = invoke("dead", "drop", "--all", "--name", "fail", stdin="n\n")
    asked = "Forget for good those of handler 'fail' among 3 dead letters?"
    assert (1, "", True) == (refused.exit_code, refused.stdout, asked in refused.stderr)
    alone = invoke("dead", "drop", "--all", "--json", stdin="")
    assert (2, "", True) == (alone.exit_code, alone.stdout, "--yes" in alone.stderr)
    assert 3 == len(json.loads(invoke("dead", "list", "--json").stdout))
    agreed = invoke("dead", "drop", "--all", "--queue", "default", "--json", stdin="y\n")
    assert {"dropped": 3, "missing": []} == json.loads(agreed.stdout)
    assert "Forget for good all 3 dead letters of queue 'default'?" in agreed.stderr
    assert "dropped 0\n" == invoke("dead", "drop", "--all").stdout  # nothing is there to lose


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_a_reason_that_nobody_dies_of_is_refused(invoke, verb) -> None:
    """It would choose nothing, so it is a usage error that lists the reasons."""
    result = invoke("dead", verb, "--all", "--reason", "timeout")
    assert (2, "") == (result.exit_code, result.stdout)
    assert "'failed', 'timed_out', 'crashed', 'refused'" in result.stderr


@pytest.mark.parametrize("args", [(), ("--all", "default:1-0"), ("default:1-0", "--queue", "mail")])
def test_which_dead_jobs_must_be_said_clearly(invoke, args) -> None:
    """Neither ids nor --all, or both, or a choice among exact ids, is a usage error."""
    assert 2 == invoke("dead", "drop", *args).exit_code


def test_statistics_are_one_document(invoke) -> None:
    """`stats --json` is the statistics record; without --json it is tables."""
    invoke("submit", "add")
    figures = json.loads(invoke("stats", "--json").stdout)
    assert 1 == figures["queues"]["default"]["queued"]
    assert {"throughput", "latency_ms", "concurrency", "errors", "backpressure", "process"} <= set(figures)
    assert "QUEUE" in invoke("stats").stdout


def test_no_url_scheme_is_guessed(invoke) -> None:
    """A url that no broker has is a configuration error."""
    assert 2 == invoke("stats", "--url", "ftp://host").exit_code
