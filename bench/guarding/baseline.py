"""The baseline: what one job costs, by run, as it is committed in bench/baseline.json; and what has grown since.

Rows of figures that depend on Python's version stand under its minor version; what a server counts stands by itself.
Reading checks everything, so that a file which was merged badly is refused and not half obeyed.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

PATH = Path(__file__).parents[1] / "baseline.json"
#: Of each figure that has grown, this many of its parts are named.
_NAMED_COUNT: Final = 5


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one job of one run costs.

    Attributes:
        figures: Figure -> how much of it.
        by: Figure -> part, such as a function or a command -> its share, for the parts that matter.
    """

    figures: dict[str, float]
    by: dict[str, dict[str, float]] = {}


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is committed.

    Attributes:
        about: What the figures and margins are, and how the margins were found.
        margins: Figure -> by what share of the baseline it may grow.
        bounds: Run -> figure -> the most that it may be in an engine at full load, which is compared with nothing else.
        python: Minor version -> run -> its row.
        server: Run -> its row.
        machine: Architecture and minor version -> run -> its row, as callgrind counts.
    """

    about: list[str]
    margins: dict[str, float]
    bounds: dict[str, dict[str, float]]
    python: dict[str, dict[str, Row]]
    server: dict[str, Row]
    machine: dict[str, dict[str, Row]]


class BadBaseline(Exception):
    """The file cannot be used; the message says why and what to do."""


class Change(msgspec.Struct, frozen=True):
    """A figure beside its baseline.

    Attributes:
        run: Such as "worker on asyncio".
        figure: Such as "instructions".
        before: In the baseline; None where it has none.
        now: As counted.
        margin: The share by which it may grow.
        parts: The parts that grew or shrank most: name, before, now.
    """

    run: str
    figure: str
    before: float | None
    now: float
    margin: float = 0.0
    parts: tuple[tuple[str, float, float], ...] = ()

    @property
    def share(self) -> float:
        """By what share it has grown; 0 where there is nothing to compare with."""
        if self.before is None:
            return 0.0
        if not self.before:
            return float("inf") if self.now > 0 else 0.0
        return self.now / self.before - 1

    @property
    def has_grown(self) -> bool:
        """Whether it has grown by more than it may."""
        return self.share > self.margin

    @property
    def has_shrunk(self) -> bool:
        """Whether it has shrunk by more than it might have grown."""
        return self.share < -self.margin


def read() -> Baseline:
    """Return the committed baseline.

    Raises:
        BadBaseline: there is none, or it is damaged.
    """
    path, mend = (
        PATH,
        "restore it (git checkout bench/baseline.json; after a merge, either side's), then run `make baseline`",
    )
    try:
        baseline = msgspec.json.decode(path.read_bytes(), type=Baseline)
    except OSError as error:
        raise BadBaseline(f"{path} cannot be read: {error.strerror}; {mend}") from None
    except msgspec.MsgspecError as error:
        raise BadBaseline(f"{path} is damaged: {error}; {mend}") from None
    groups = [baseline.server, *baseline.python.values(), *baseline.machine.values()]
    without = sorted(
        {figure for rows in groups for row in rows.values() for figure in row.figures} - {*baseline.margins}
    )
    if without:
        raise BadBaseline(f"{path} is damaged: it has no margin for {', '.join(without)}; {mend}")
    return baseline


def write(baseline: Baseline) -> None:
    """Write a baseline, in the same order whoever made it."""
    made: dict[str, Any] = msgspec.to_builtins(baseline)
    for name in ("python", "server", "machine"):
        made[name] = dict(sorted(made[name].items()))
    PATH.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def compare(before: Mapping[str, Row], now: Mapping[str, Row], margins: Mapping[str, float]) -> Iterator[Change]:
    """Yield every figure of the rows of `now` beside its baseline."""
    for run, row in now.items():
        old = before.get(run, Row({}))
        for figure, count in row.figures.items():
            was = old.figures.get(figure)
            parts = _moved(old.by.get(figure, {}), row.by.get(figure, {})) if was is not None else ()
            yield Change(run, figure, was, count, margins.get(figure, 0.0), parts)


def _moved(before: Mapping[str, float], now: Mapping[str, float]) -> tuple[tuple[str, float, float], ...]:
    names = dict.fromkeys([*before, *now])
    every = [(name, before.get(name, 0.0), now.get(name, 0.0)) for name in names]
    moved = sorted((part for part in every if part[1] != part[2]), key=lambda part: -abs(part[2] - part[1]))
    return tuple(moved[:_NAMED_COUNT])
