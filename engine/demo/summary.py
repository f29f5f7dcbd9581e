"""From what became of the demo's jobs to its figures: a pure function over results and the lines of the outcome log.

A job counts as lost unless both its result and its line are there: the two are written by different ways, and each is
checked by the other. It does no I/O and reads no clock.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from headrace.jobs import ids
from headrace.jobs.outcome import Status

from ..sinks.lines import OutcomeLine
from .indexer import IndexedFile

#: A screenful of each list.
SHOWN_COUNT: Final = 10


class JobEnd(msgspec.Struct, frozen=True):
    """What became of one job; neither `file` nor `error` where no result came.

    Attributes:
        id: The job.
        path: The file that it was given.
        file: What the handler returned.
        error: Why it failed.
    """

    id: str
    path: str
    file: IndexedFile | None = None
    error: str | None = None

    @property
    def settled(self) -> bool:
        """Whether its result came, be it an error."""
        return self.file is not None or self.error is not None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The demo's figures; percentiles are exact, and null when no job ran.

    Attributes:
        files: Jobs submitted, one a file.
        settled: Those whose result came.
        failed: Those of them that failed.
        lost: Jobs without a result or without a line in the outcome log.
        elapsed_s: From the first submission until the last result was there.
        jobs_per_s: `settled` over `elapsed_s`.
        p50_ms: Half of the jobs took at most this, from submission to the handler's end.
        p99_ms: 99 % took at most this.
        run_p50_ms: Half of the jobs took at most this in the handler alone.
        run_p99_ms: 99 % took at most this.
        lines: Lines of all files.
        size_bytes: Bytes of all files.
        most_imported: Absolute modules with the number of files that import them, the most first.
        slowest: Files with the milliseconds that their handler took, the slowest first.
        problems: Files that could not be read or parsed, and why.
        failures: Files whose job failed, and why.
    """

    files: int
    settled: int
    failed: int
    lost: int
    elapsed_s: float
    jobs_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    run_p50_ms: float | None
    run_p99_ms: float | None
    lines: int
    size_bytes: int
    most_imported: tuple[tuple[str, int], ...]
    slowest: tuple[tuple[str, float], ...]
    problems: tuple[tuple[str, str], ...]
    failures: tuple[tuple[str, str], ...]


def summarize(ends: Sequence[JobEnd], lines: Iterable[OutcomeLine], elapsed_s: float) -> Summary:
    """Return the figures.

    Args:
        ends: Every job that was submitted.
        lines: The outcome log; lines of other jobs, and of runs that went back to the queue, do not count.
        elapsed_s: From the first submission until the last result was there.
    """
    path_of = {end.id: end.path for end in ends}
    last = {line.id: line for line in lines if line.id in path_of and line.status != Status.INTERRUPTED}
    files = [end.file for end in ends if end.file is not None]
    settled = sum(end.settled for end in ends)
    imports = Counter(name for file in files for name in file.imports if not name.startswith("."))
    runs_ms = {path_of[job_id]: line.run_ms for job_id, line in last.items()}
    totals_ms = [total for line in last.values() if (total := total_ms(line)) is not None]
    return Summary(
        files=len(ends),
        settled=settled,
        failed=sum(end.error is not None for end in ends),
        lost=sum(not end.settled or end.id not in last for end in ends),
        elapsed_s=round(elapsed_s, 3),
        jobs_per_s=round(settled / elapsed_s, 1) if elapsed_s > 0 else 0.0,
        p50_ms=percentile(totals_ms, 0.50),
        p99_ms=percentile(totals_ms, 0.99),
        run_p50_ms=percentile(list(runs_ms.values()), 0.50),
        run_p99_ms=percentile(list(runs_ms.values()), 0.99),
        lines=sum(file.lines for file in files),
        size_bytes=sum(file.size_bytes for file in files),
        most_imported=tuple(sorted(imports.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_COUNT]),
        slowest=tuple(sorted(runs_ms.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_COUNT]),
        problems=tuple((file.path, file.problem) for file in files if file.problem is not None),
        failures=tuple((end.path, end.error) for end in ends if end.error is not None),
    )


def total_ms(line: OutcomeLine) -> float | None:
    """Return the milliseconds from a job's submission, which its id tells, to its end; None where it never ran."""
    job_id = ids.parse(line.id)
    if job_id is None or line.started_at_ms is None:
        return None
    return max(0.0, line.started_at_ms + line.run_ms - job_id.at_ms)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the least of `values` that at least `share` of them do not exceed; None of none."""
    if not values:
        return None
    return round(sorted(values)[max(0, math.ceil(len(values) * share) - 1)], 3)
