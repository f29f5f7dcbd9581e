"""The one way in which everything is measured: rounds outside, cases inside, every case in a process of its own.

What is compared is measured in the same round, so a noisy minute hits both; every other round goes backwards, so no
case always follows the same one. An Answer keeps every raw round.
"""

import os
import pathlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from . import children
from .figures import Round, median, middle, ratios
from .machine import load, machine
from .profiling import environment, profiler
from .question import Case, Question
from .servers import available_mb

Profile = Literal["cpu", "mem"]


@dataclass(frozen=True)
class Wish:
    """What the command line asks for.

    Attributes:
        quick: Fewer cases, jobs and rounds.
        rounds: Rounds; 0 for the question's own.
        jobs: Jobs of every case; 0 for the cases' own.
        only: Leave out cases without this in their name, but for what the others are measured against.
        profile: Profile each case once instead.
        results: Where results and profiles go.
    """

    quick: bool = False
    rounds: int = 0
    jobs: int = 0
    only: str = ""
    profile: Profile | None = None
    results: pathlib.Path = pathlib.Path("results")


@dataclass
class Row:
    """A case and what was measured.

    Attributes:
        case: The case.
        jobs: Jobs of each of its rounds.
        rounds: What its probe printed, round by round.
        skipped: Why it was left out; empty when it was not.
    """

    case: Case
    jobs: int
    rounds: list[Round] = field(default_factory=list)
    skipped: str = ""

    def median(self, figure: str) -> float | None:
        """Return the median of a figure; None where its probe does not measure it."""
        return median(self.rounds, figure) if self.rounds and figure in self.rounds[0] else None

    def middle(self, figure: str) -> float | None:
        """Return what a table shows of a figure; None where its probe does not measure it."""
        return middle(self.rounds, figure) if self.rounds and figure in self.rounds[0] else None


@dataclass
class Answer:
    """A question with everything that was measured for it."""

    question: Question
    wish: Wish
    where: dict[str, object]
    began_at: str
    load_before: list[float]
    rows: list[Row]
    load_after: list[float] = field(default_factory=list)
    took_s: float = 0.0

    def row(self, name: str) -> Row | None:
        """Return a measured case by its name; None where it was left out."""
        return next((row for row in self.rows if row.case.name == name and row.rounds), None)

    def ratio(self, row: Row, other: str, figure: str) -> float | None:
        """Return the median over rounds of a figure's ratio to another case's; None where there is none."""
        found = self.row(other)
        values = ratios(row.rounds, found.rounds, figure) if found else []
        return statistics.median(values) if values else None


def chosen(question: Question, wish: Wish) -> list[Case]:
    """Return the cases that are asked for.

    Raises:
        SystemExit: there are none.
    """
    cases = [case for case in question.cases if not wish.quick or case.quick_jobs]
    wanted = {case.name for case in cases if wish.only in case.name}
    wanted |= {other for case in cases if case.name in wanted for other in case.against}
    if not wanted:
        names = ", ".join(case.name for case in cases)
        raise SystemExit(f"{question.name}: no case has {wish.only!r} in its name; there are: {names}")
    return [case for case in cases if case.name in wanted]


def measure(question: Question, wish: Wish, tell: Callable[[str], None]) -> Answer:
    """Measure a question.

    Args:
        question: The question.
        wish: How much of it.
        tell: Is told what is being measured.

    Raises:
        SystemExit: a probe failed; with its message.
    """
    cases = chosen(question, wish)
    rounds = 1 if wish.profile else wish.rounds or (question.quick_rounds if wish.quick else question.rounds)
    began_s = time.monotonic()
    rows = [Row(case, wish.jobs or (case.quick_jobs if wish.quick else case.jobs)) for case in cases]
    answer = Answer(question, replace(wish, rounds=rounds), machine(), now(), load(), rows)
    for number in range(rounds):
        for row in rows if number % 2 == 0 else reversed(rows):
            if number >= (row.case.rounds_max or rounds) or row.skipped:
                continue
            if (free_mb := available_mb()) < row.case.needs_mb:
                row.skipped = f"needs {row.case.needs_mb:,} MB of memory, {free_mb:,.0f} are available"
                continue
            tell(f"{question.name}: round {number + 1} of {rounds}, {row.case.name}")
            row.rounds.append(_probe(question, row, wish))
    answer.load_after, answer.took_s = load(), round(time.monotonic() - began_s, 1)
    return answer


def now() -> str:
    """Return the time of day, for people."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _probe(question: Question, row: Row, wish: Wish) -> Round:
    command = row.case.command(row.jobs)
    if wish.profile is None:
        return children.probe(row.case.probe, command)
    target = wish.results / "profiles" / f"{question.name}-{row.case.name.replace(' ', '-').replace(',', '')}"
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    before = _profiles(target)
    environ = {**os.environ, **environment(wish.profile, target)}
    found = children.run([*profiler(wish.profile, target), *children.module(row.case.probe), *command], environ)
    if _profiles(target) == before:
        raise SystemExit(f"{question.name}, {row.case.name}: the probe {row.case.probe} left no profile at {target}-*")
    return found


def _profiles(target: pathlib.Path) -> dict[str, int]:
    """Return the profiles of a case that lie there, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in target.parent.glob(f"{target.name}-*")}
