"""How a question is asked: the order of rounds, what is left out, what a failing probe says, and one whole run."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from answers import answer, case, question, rates
from measuring import children, rounds
from measuring.index import write_index
from measuring.question import Target
from measuring.result import write
from measuring.rounds import Wish, chosen, measure
from measuring.servers import filesystem

from checkout import ROOT

BENCH = ROOT / "bench"


def run(script: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a script of the benchmarks as a person would."""
    command = [sys.executable, str(BENCH / script), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environ}, timeout=60
    )


def quiet(text: str) -> None:
    """Listen to nothing."""


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that probes were given, while every probe measures 7 jobs/s."""
    commands: list[list[str]] = []

    def probe(name: str, arguments: list[str]) -> dict[str, float]:
        commands.append(arguments)
        return {"jobs_per_s": 7.0}

    monkeypatch.setattr(rounds.children, "probe", probe)
    return commands


def test_rounds_are_outside_and_cases_inside(probed: list[list[str]]) -> None:
    """Every round has every case once, and every other one goes backwards."""
    told: list[str] = []
    found = measure(question(case("a"), case("b", "a")), Wish(rounds=3), told.append)
    assert ["a", "b", "b", "a", "a", "b"] == [text.rsplit(", ", 1)[1] for text in told]
    assert [3, 3] == [len(row.rounds) for row in found.rows]


def test_a_case_may_be_worth_fewer_rounds(probed: list[list[str]]) -> None:
    """A case with rounds_max is measured in the first rounds only."""
    found = measure(question(case("a"), case("huge", rounds_max=1)), Wish(rounds=3), quiet)
    assert [3, 1] == [len(row.rounds) for row in found.rows]


def test_a_case_that_needs_more_memory_than_there_is_is_left_out(probed: list[list[str]]) -> None:
    """A case for which memory is short is not measured, and says so."""
    found = measure(question(case("a"), case("huge", needs_mb=10**9)), Wish(rounds=1), quiet)
    assert [1, 0] == [len(row.rounds) for row in found.rows]
    assert "needs 1,000,000,000 MB of memory" in found.rows[1].skipped


def test_a_quick_run_has_its_own_jobs(probed: list[list[str]]) -> None:
    """A quick run takes the cases' quick jobs, and --jobs is stronger than both."""
    measure(question(case("a")), Wish(quick=True), quiet)
    measure(question(case("a")), Wish(rounds=1, jobs=77), quiet)
    assert ["10", "77"] == [command[1] for command in probed]


def test_options_become_flags() -> None:
    """True is a flag, False none, and any other value follows its flag."""
    told = rounds.Case("a", "worker", {"no_results": True, "unique": False, "sleep_ms": 1}, 5)
    assert ["--jobs", "9", "--no-results", "--sleep-ms", "1"] == told.command(9)


def test_chosen_cases_bring_what_they_are_measured_against() -> None:
    """--only keeps the cases with the text in their name, and those that they are divided by."""
    asked = question(case("engine, trio", "floor, t"), case("floor, t"), case("engine, uvloop"))
    assert ["engine, trio", "floor, t"] == [each.name for each in chosen(asked, Wish(only="trio"))]
    with pytest.raises(SystemExit, match="no case has 'curio' in its name; there are: engine, trio, floor, t"):
        chosen(asked, Wish(only="curio"))


def test_a_failing_probe_says_why() -> None:
    """What a failing process said reaches the user, with its exit code and how it was called."""
    with pytest.raises(SystemExit, match=r"(?s)python\S* -c .* failed with code 3:\nthe disk is full"):
        children.run([sys.executable, "-c", "import sys; sys.stderr.write('the disk is full'); sys.exit(3)"])


def test_a_child_that_does_not_end_when_asked_is_ended() -> None:
    """A child that is deaf to SIGTERM is killed when its time is over, and is gone then."""
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert b"deaf" == process.stdout.readline().strip()
        children.end(process, 0.1)
    assert process.returncode == -signal.SIGKILL


def test_a_probe_that_measures_nothing_is_no_success() -> None:
    """A process that ends well without a line of JSON fails the measurement, and what it said is shown."""
    with pytest.raises(SystemExit, match=r"(?s)printed no JSON, but:\nhello"):
        children.run([sys.executable, "-c", "print('hello')"])


def test_a_question_that_fails_ends_with_its_reason(tmp_path: Path) -> None:
    """A script whose server cannot be had exits with 1 and a message, not with a traceback."""
    done = run("broker.py", "--quick", "--results", str(tmp_path), BENCH_SERVER_BINARY="/nowhere/valkey-server")
    assert 1 == done.returncode
    assert "BENCH_SERVER_BINARY is /nowhere/valkey-server, which is no program" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif("tmpfs" not in filesystem(Path("/dev/shm")), reason="this system has no folder in memory")
def test_a_journal_in_memory_is_refused(tmp_path: Path) -> None:
    """Where BENCH_DISK lies in memory, nothing is measured: an fsync there costs nothing."""
    done = run("broker.py", "--quick", "--results", str(tmp_path), BENCH_DISK="/dev/shm")
    assert 1 == done.returncode
    assert "/dev/shm lies on tmpfs, where nothing is synced: set BENCH_DISK" in done.stderr


@pytest.mark.parametrize(("kind", "named"), [("cpu", "broker-everysec-cpu"), ("mem", "broker-everysec-mem")])
def test_a_profile_is_left_for_each_case(kind: str, named: str, tmp_path: Path) -> None:
    """A profiled run leaves a profile and stores no figures."""
    done = run("broker.py", "--jobs", "500", "--only", "everysec", "--profile", kind, "--results", str(tmp_path))
    assert 0 == done.returncode, done.stderr
    assert [named] == sorted({path.name.partition(".")[0] for path in (tmp_path / "profiles").iterdir()})
    assert ["profiles"] == [path.name for path in tmp_path.iterdir()]


def test_a_probe_that_leaves_no_profile_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a profile was asked for and none is there, the question fails and says which case left none."""
    monkeypatch.setattr(rounds.children, "run", lambda command, environ: {"jobs_per_s": 7.0})
    with pytest.raises(SystemExit, match="speed, a: the probe worker left no profile at "):
        measure(question(case("a")), Wish(profile="cpu", results=tmp_path), quiet)


def test_an_unknown_question_is_refused() -> None:
    """The runner names what it does not know, and all that there is."""
    done = run("run.py", "slots", "sloths")
    assert 1 == done.returncode
    assert "no such question: sloths; there are: engine, slots, " in done.stderr


def test_a_question_that_fails_is_named_at_the_end(tmp_path: Path) -> None:
    """The runner asks the other questions all the same, writes the index, and ends with 1."""
    environ = {"BENCH_SERVER_BINARY": "/nowhere/valkey-server"}
    done = run("run.py", "broker", "files", "--quick", "--results", str(tmp_path), **environ)
    assert 1 == done.returncode
    assert done.stderr.endswith("failed: broker, files; what each said is above\n")
    assert "Failed: broker, files." in (tmp_path / "README.md").read_text()


def test_a_question_is_answered_from_end_to_end(tmp_path: Path) -> None:
    """A run on a real server writes JSON with all that is promised, a page and a picture, and loses no job."""
    wish = ["--only", "engine, asyncio", "--jobs", "200", "--rounds", "1"]
    done = run("engine.py", *wish, "--results", str(tmp_path))
    assert 0 == done.returncode, done.stderr
    record = json.loads((tmp_path / "engine.json").read_text())
    assert {
        "question", "asks", "quick", "rounds", "began_at", "took_s", "where", "load_before", "load_after", "units",
        "rows", "verdicts", "notes",
    } == set(record)  # fmt: skip
    assert {"python", "machine", "server", "commit", "cpu", "kernel", "disk"} == set(record["where"])
    rows = {row["case"]: row for row in record["rows"]}
    assert {"engine, asyncio", "floor, asyncio"} <= set(rows)
    engine = rows["engine, asyncio"]
    assert {"fsync": "everysec", "loop": "asyncio", "slots": 100} == engine["options"]
    assert {
        "jobs_per_s", "submit_per_s", "cpu_us_per_job", "server_cpu_us_per_job", "commands_per_job", "trips_per_job",
        "run_p50_ms", "run_p99_ms", "rss_mb", "lost", "duplicates",
    } <= set(engine["rounds"][0])  # fmt: skip
    assert [(0, 0)] * len(rows) == [(row["median"]["lost"], row["median"]["duplicates"]) for row in rows.values()]
    assert {"jobs_per_s", "submit_per_s"} <= set(engine["ratio"]["floor, asyncio"])
    assert "| engine, asyncio | everysec | asyncio | 100 | 200 |" in (tmp_path / "engine.md").read_text()
    assert (tmp_path / "engine.svg").read_text().startswith("<svg ")


def test_an_index_leads_to_every_answer(tmp_path: Path) -> None:
    """The index of a folder has each question that was answered there, and every promise with its verdict."""
    asked = question(case("a"), case("b"), targets=(Target("a is half of b", "a", 0.5, 1, against="b"),))
    write(replace(answer(asked, {"a": rates(60), "b": rates(100)}), wish=Wish(results=tmp_path)))
    text = write_index(tmp_path, ["speed", "absent"], []).read_text(encoding="utf-8")
    assert "[speed](speed.md)" in text
    assert "| a is half of b | speed | 0.5 | 1 | 0.6 | must met |" in text
    assert "absent" not in text
