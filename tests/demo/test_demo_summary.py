"""The demo's figures and their words."""

import json

from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.demo.indexer import IndexedFile
from headrace.engine.demo.page import Setting, document, render, shown
from headrace.engine.demo.summary import JobEnd, percentile, summarize
from headrace.engine.sinks.lines import OutcomeLine

AT_MS = 1_795_406_593_000
SETTING = Setting(root="/src/", loop="trio", processes=2, server="embedded server", outcome_log="/state/outcomes.jsonl")


def end(number: int, *, imports: tuple[str, ...] = (), problem: str | None = None) -> JobEnd:
    path = f"/src/{number}.py"
    file = IndexedFile(path=path, size_bytes=100, lines=10, sha256="", imports=imports, problem=problem)
    return JobEnd(f"default:{AT_MS}-{number}", path, file=file)


def line(number: int, *, run_ms: float = 1.0, status: str = "succeeded", started_ms: int = 0) -> OutcomeLine:
    return OutcomeLine(
        id=f"default:{AT_MS}-{number}", name="index_file", queue="default", status=status, attempt=1,
        started_at_ms=AT_MS + started_ms, run_ms=run_ms, error=None,
    )  # fmt: skip


def test_figures_add_up() -> None:
    """Files, lines, bytes, imports, speed, latencies, slowest files and problems come from results and log lines."""
    ends = [end(0, imports=("os", "sys")), end(1, imports=("os", ".x")), end(2, problem="does not parse: no")]
    lines = [line(0, run_ms=5), line(1, run_ms=3, started_ms=10), line(2, run_ms=8, started_ms=20)]
    found = summarize(ends, lines, 1.5)
    assert (3, 3, 0, 0) == (found.files, found.settled, found.failed, found.lost)
    assert (30, 300, 2.0) == (found.lines, found.size_bytes, found.jobs_per_s)
    assert (("os", 2), ("sys", 1)) == found.most_imported
    assert (13.0, 28.0) == (found.p50_ms, found.p99_ms)
    assert (5.0, 8.0) == (found.run_p50_ms, found.run_p99_ms)
    assert (("/src/2.py", 8), ("/src/0.py", 5), ("/src/1.py", 3)) == found.slowest
    assert (("/src/2.py", "does not parse: no"),) == found.problems


def test_a_job_without_its_result_or_its_line_is_lost() -> None:
    """A job is lost when its result is missing, when its line is, and when its only line is of a run that went back."""
    no_result = JobEnd(f"default:{AT_MS}-0", "/src/0.py")
    lines = [line(0), line(2, status="interrupted"), line(3), line(4), line(99)]
    found = summarize([no_result, end(1), end(2), end(3)], lines, 1.0)
    assert (4, 3, 0, 3) == (found.files, found.settled, found.failed, found.lost)


def test_a_failed_job_is_settled_and_told() -> None:
    """A job that failed counts as settled and failed, is not lost, and is named with its error."""
    failed = JobEnd(f"default:{AT_MS}-0", "/src/0.py", error="JobCrashed: the process died")
    found = summarize([failed, end(1)], [line(0, status="crashed"), line(1)], 1.0)
    assert (2, 2, 1, 0) == (found.files, found.settled, found.failed, found.lost)
    assert "0.py  JobCrashed: the process died" in render(found, SETTING)


def test_nothing_gives_no_latency() -> None:
    """Without any outcome the percentiles are null and everything is lost."""
    found = summarize([JobEnd("default:1-0", "/src/0.py")], [], 0.0)
    assert (None, None, 1, 0.0) == (found.p50_ms, found.p99_ms, found.lost, found.jobs_per_s)
    assert "latency p50 -, p99 -" in render(found, SETTING)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_least_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    """At least the share of all values do not exceed the percentile, and fewer do not reach it."""
    values = [round(value, 3) for value in values]
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)))
def test_lost_is_counted_whatever_the_order(order: list[int], without_line: set[int], without_result: set[int]) -> None:
    """Lost are exactly the jobs that lack a line or a result, in whatever order the lines stand."""
    ends = [JobEnd(end(n).id, end(n).path) if n in without_result else end(n) for n in range(8)]
    found = summarize(ends, [line(n) for n in order if n not in without_line], 1.0)
    assert len(without_line | without_result) == found.lost
    assert 8 - len(without_result) == found.settled


def test_the_document_has_the_promised_keys() -> None:
    """The JSON document has its eight keys and no others."""
    keys = ["files", "settled", "failed", "lost", "jobs_per_s", "p50_ms", "p99_ms", "outcome_log"]
    found = json.loads(document(summarize([end(0)], [line(0)], 0.5), "/state/outcomes.jsonl"))
    assert keys == list(found)
    assert (1, 1, 0, 0, 2.0, 1.0, 1.0, "/state/outcomes.jsonl") == tuple(found.values())


def test_the_page_says_it_all() -> None:
    """The summary for people has files, speed, loop, imports, slowest files, problems and the outcome log."""
    ends = [end(number, imports=("os",), problem="bad" if number < 12 else None) for number in range(2000)]
    lines = [line(number, run_ms=9 if number == 7 else 1) for number in range(2000)]
    page = render(summarize(ends, lines, 4.0), SETTING)
    assert page.startswith("2,000 files indexed in 4.00 s by 2 processes (trio, embedded server): 500 jobs/s\n")
    for part in (
        "settled 2,000   failed 0   lost 0", "20,000 lines, 0.2 MB in /src/", "  os  2,000 files",
        "read, but not understood (10 of 12):", "  0.py  bad", "slowest files:\n  7.py     9.0 ms",
    ):  # fmt: skip
        assert part in page
    assert page.endswith("outcome log, a line for each job: /state/outcomes.jsonl")


@given(st.text())
def test_names_cannot_steer_the_terminal(text: str) -> None:
    """Whatever a file is called, what is shown of it is printable."""
    assert shown(text).isprintable()
