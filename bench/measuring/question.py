"""A question as data: its cases, what each is measured against, which figures are shown, and what was promised.

A script in bench/ is one Question and a call of `ask`. Frozen, and without any doing of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Option = str | int | float | bool
Options = dict[str, Option]

#: What every row says of itself where it applies; other options are in the case's name.
SETTINGS = ("fsync", "loop", "slots")


@dataclass(frozen=True)
class Case:
    """One row: a probe with its options.

    Attributes:
        name: What the row is called; other cases name it in `against`.
        probe: The module in bench/probes that measures it.
        options: Its options by name: no_results=True is --no-results, slots=10 is --slots 10.
        jobs: Jobs of a round (or records).
        quick_jobs: The same in a quick run; 0 leaves the case out of it.
        against: Cases that it is divided by, round by round.
        rounds_max: The most rounds that it is worth; 0 for as many as the question has.
        needs_mb: Memory that has to be available; the case is left out, and that is said, where there is less.
        x: Its place on the axis of a plot of lines.
        series: The line that it belongs to.
    """

    name: str
    probe: str
    options: Mapping[str, Option]
    jobs: int
    quick_jobs: int = 0
    against: tuple[str, ...] = ()
    rounds_max: int = 0
    needs_mb: int = 0
    x: float = 0.0
    series: str = ""

    def command(self, jobs: int) -> list[str]:
        """Return the arguments of its probe."""
        words = ["--jobs", str(jobs)]
        for name, value in self.options.items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                words.append(flag)
            elif value is not False:
                words += [flag, str(value)]
        return words


@dataclass(frozen=True)
class Plot:
    """How the answer is drawn.

    Attributes:
        figures: The figures; bars stand beside each other, of lines there is one figure.
        kind: Bars by case, or lines over `Case.x`, one for each `Case.series`.
        x_title: What the axis of a plot of lines says.
        log_y: Whether the other axis is logarithmic.
    """

    figures: tuple[str, ...]
    kind: Literal["bars", "lines"] = "bars"
    x_title: str = ""
    log_y: bool = False


@dataclass(frozen=True)
class Target:
    """A promise that the answer is held against.

    Attributes:
        what: The promise in words.
        case: Whose figure it is about.
        must: What it has to reach.
        then: What it is to reach in the end.
        figure: The figure; with `against`, its ratio to that case's.
        against: The case that it is divided by; empty for the figure itself.
    """

    what: str
    case: str
    must: float
    then: float
    figure: str = "jobs_per_s"
    against: str = ""


@dataclass(frozen=True)
class Question:
    """A question, complete.

    Attributes:
        name: The script's name without .py.
        asks: The question in one sentence.
        cases: Its rows, in their order.
        figures: The figures that are shown; the first is the one that is compared, with its spread.
        compared: The figures whose ratios are shown for cases that are measured against others.
        plot: How it is drawn.
        rounds: Rounds of a full run.
        quick_rounds: Rounds of a quick run.
        targets: Promises that it is held against.
        as_cost: Show ratios of the first figure as a cost in percent.
        notes: What a reader has to know to read the figures.
    """

    name: str
    asks: str
    cases: tuple[Case, ...]
    figures: tuple[str, ...]
    plot: Plot
    compared: tuple[str, ...] = ("jobs_per_s",)
    rounds: int = 3
    quick_rounds: int = 1
    targets: tuple[Target, ...] = ()
    as_cost: bool = False
    notes: str = field(default="", kw_only=True)
