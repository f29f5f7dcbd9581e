"""The guard against drift: that it finds what costs a job more, names it, and says what to do about its baseline."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from checkout import ROOT
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.loops.assigner import Assigner

SHORT, LONG = 500, 1000
MARGINS = {"instructions": 0.01, "calls": 0.01}


@pytest.fixture(scope="module")
def parts() -> Any:
    """The guard and its parts; bench/ is on the path only while they are imported, for it has an engine.py."""
    sys.path.append(str(ROOT / "bench"))
    try:
        import guard
        from guarding import allocations, baseline, callgrind, report
    finally:
        sys.path.remove(str(ROOT / "bench"))
    return SimpleNamespace(guard=guard, allocations=allocations, baseline=baseline, callgrind=callgrind, report=report)


@pytest.fixture(scope="module")
def counted(parts: Any) -> Any:
    """What a job costs now."""
    return parts.guard.count_code("asyncio", SHORT, LONG)


@pytest.fixture
def file(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed baseline, which the guard reads and writes instead."""
    copy = tmp_path / "baseline.json"
    copy.write_bytes(parts.baseline.PATH.read_bytes())
    monkeypatch.setattr(parts.baseline, "PATH", copy)
    return copy


def slower(function: Callable[..., Any], loop: str, line: str) -> Callable[..., Any]:
    """Return a method as it would be with a line more in one of its loops, in the same file."""
    owner = function.__qualname__.partition(".")[0]
    source = inspect.getsource(function)
    indent = next(each for each in source.splitlines() if loop in each).partition(loop)[0]
    changed = source.replace(f"{loop}\n", f"{loop}\n{indent}    {line}\n")
    assert changed != source
    scope: dict[str, Any] = {}
    code = compile(f"class {owner}:\n{changed}", function.__code__.co_filename, "exec")
    exec(code, function.__globals__, scope)
    return getattr(scope[owner], function.__name__)


def test_a_run_like_the_baseline_passes(parts: Any, counted: Any) -> None:
    """Counted twice, a job costs exactly the same: nothing has grown, in no part."""
    again = parts.guard.count_code("asyncio", SHORT, LONG)
    changes = list(parts.baseline.compare(counted, again, MARGINS))
    assert ["worker on asyncio", "submission on asyncio"] == list(dict.fromkeys(change.run for change in changes))
    assert [(0.0, ())] * 4 == [(change.share, change.parts) for change in changes]


def test_a_line_more_for_each_job_is_found_and_named(parts: Any, counted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement more in a hot loop is growth beyond the margin, and its function is named first."""
    monkeypatch.setattr(Assigner, "assign", slower(Assigner.assign, "for lease in leases:", "repr(repr(lease.starts))"))
    again = parts.guard.count_code("asyncio", SHORT, LONG)
    grown = [change for change in parts.baseline.compare(counted, again, MARGINS) if change.has_grown]
    assert [("worker on asyncio", "instructions"), ("worker on asyncio", "calls")] == [
        (change.run, change.figure) for change in grown
    ]
    where = "engine/loops/assigner.py Assigner.assign"
    assert [where, where] == [change.parts[0][0] for change in grown]
    assert f"  {where}: 7, was 5 (+2)" in parts.report.growth(grown[1]).splitlines()


def test_an_allocation_more_for_each_job_is_found(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is taken and given back at once counts, though nothing is held in the end: 2 of 30 is growth."""
    run = "worker on asyncio"  # in this process there is much else: a bare one counts the same to the second digit
    before = parts.guard.count_allocations("asyncio")
    again = parts.guard.count_allocations("asyncio")
    assert before[run].figures["allocations"] == pytest.approx(again[run].figures["allocations"], abs=0.5)
    monkeypatch.setattr(Assigner, "assign", slower(Assigner.assign, "for lease in leases:", "bytes(1000), bytes(1000)"))
    grown = parts.guard.count_allocations("asyncio")
    changes = list(parts.baseline.compare(before, grown, {"allocations": 0.01}))
    assert run in [change.run for change in changes if change.has_grown]
    assert 2.0 == pytest.approx(grown[run].figures["allocations"] - before[run].figures["allocations"], abs=0.5)


def test_allocators_are_put_back(parts: Any) -> None:
    """What is allocated outside of the block is not counted, and nothing that was allocated inside is harmed."""
    with parts.allocations.Allocations() as counted:
        kept = [bytes(1000) for _ in range(100)]
    count = counted.count
    assert 100 <= count < 150
    kept += [bytes(1000) for _ in range(100)]
    assert count == counted.count
    assert 200 == len({id(each) for each in kept})


def test_without_a_compiler_the_rest_is_counted(
    parts: Any, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where allocations cannot be counted the guard says so and compares the rest; a baseline is not written there."""
    monkeypatch.setattr(parts.allocations, "COMPILERS", ("no-such-compiler",))
    monkeypatch.setattr(parts.guard, "MINOR", "3.99")
    monkeypatch.setattr(parts.guard, "ask_live", lambda bounds: [])
    assert 0 == parts.guard.check(parts.baseline.read(), with_callgrind=False)
    assert "allocations are not counted: that takes a C compiler (no-such-compiler)" in capsys.readouterr().out
    assert {} == parts.guard.count_allocations("asyncio")
    with pytest.raises(SystemExit, match="a baseline has allocations, which take a C compiler"):
        parts.guard.update(parts.baseline.read(), with_callgrind=False)


def test_a_command_more_for_each_batch_is_found_and_named(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command more for each five hundred jobs, in a round trip of its own, is beyond both margins."""
    before = parts.guard.ask_servers()
    fetch = RedisBroker.fetch

    def fetch_and_look(broker: RedisBroker, *args: Any) -> Any:
        broker._any.exchange([(b"XLEN", b"nothing")])
        return fetch(broker, *args)

    monkeypatch.setattr(RedisBroker, "fetch", fetch_and_look)
    committed = parts.baseline.read()
    changes = list(parts.baseline.compare(before, parts.guard.ask_servers(), committed.margins))
    grown = [(change.run, change.figure) for change in changes if change.has_grown]
    assert [(run, figure) for run in ("results kept", "no results") for figure in ("commands", "exchanges")] == grown
    assert {"xlen"} == {change.parts[0][0] for change in changes if change.figure == "commands"}


def test_an_engine_above_its_bounds_is_told(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At full load, too, more commands a job than allowed are a failure, which names the commands."""
    monkeypatch.setattr(parts.guard, "LOOPS", ("asyncio",))
    wrong = parts.guard.ask_live({"no results": {"commands": 0.9, "exchanges": 1.0}})
    assert ["commands a job, and may take 0.9; its commands: xadd 1."] == [
        said.partition("takes ")[2].partition(" ")[2][:55] for said in wrong
    ]


def test_another_python_compares_what_does_not_depend_on_it(
    parts: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the baseline has no row for this Python, the guard says so, asks the server all the same, and passes."""
    monkeypatch.setattr(parts.guard, "MINOR", "3.99")
    committed = parts.baseline.read()
    monkeypatch.setattr(parts.guard, "ask_live", lambda bounds: [])
    assert 0 == parts.guard.check(committed, with_callgrind=False)
    said = capsys.readouterr().out
    assert "no figures for Python 3.99, only for 3.11" in said
    assert "aof_bytes" in said
    assert "instructions" not in said


def test_growth_ends_the_check_with_advice(
    parts: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A baseline below what a job costs fails the check, and the last line says what can be done."""
    monkeypatch.setattr(parts.guard, "MINOR", "3.99")
    monkeypatch.setattr(parts.guard, "ask_live", lambda bounds: [])
    committed = parts.baseline.read()
    committed.server["results kept"].figures["aof_bytes"] *= 0.9
    assert 1 == parts.guard.check(committed, with_callgrind=False)
    said = capsys.readouterr().err
    assert "results kept: a job takes " in said
    assert "aof_bytes, 11.1% more than the baseline's" in said
    assert "make baseline" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("was", "becomes", "why"),
    [
        ('"margins": {', '<<<<<<< ours\n"margins": {', "JSON is malformed"),
        ('"exchanges": 0.02', '"exchanges": "2 %"', "Expected `float`, got `str`"),
        ('"python": {', '"pythons": {', "unknown field `pythons`"),
        ('"calls": 0.01', '"call": 0.01', "it has no margin for calls"),
    ],
)
def test_a_damaged_baseline_is_refused(
    parts: Any, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    was: str, becomes: str, why: str,
) -> None:  # fmt: skip
    """A baseline that a merge has damaged is not half obeyed: the guard ends with 2, and says how to mend it."""
    text = file.read_text()
    assert was in text
    file.write_text(text.replace(was, becomes, 1))
    monkeypatch.setattr(sys, "argv", ["guard.py"])
    with pytest.raises(SystemExit) as ended:
        parts.guard.main()
    assert 2 == ended.value.code
    said = capsys.readouterr().err
    assert why in said
    assert "git checkout bench/baseline.json" in said


def test_an_update_keeps_what_it_did_not_count(
    parts: Any, counted: Any, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new baseline replaces this Python's rows, keeps those of others and the margins, and says what is different."""
    before = parts.baseline.read()
    monkeypatch.setattr(parts.guard, "count_here", lambda: counted)
    monkeypatch.setattr(parts.guard, "MINOR", "3.99")
    parts.guard.update(before, with_callgrind=False)
    after = parts.baseline.read()
    assert before.python | {"3.99": counted} == after.python
    assert (before.about, before.margins, before.bounds) == (after.about, after.margins, after.bounds)
    assert "submission on asyncio" in capsys.readouterr().out


def test_callgrind_without_valgrind_is_refused(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no valgrind, the option for it says so and what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="needs valgrind on PATH; install it, or leave the option out"):
        parts.callgrind.instructions("guard.py", "worker", "asyncio")
