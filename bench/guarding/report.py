"""What the guard says: a line for each figure, and for each that has grown a sentence that names the parts."""

from collections.abc import Sequence

from .baseline import Change

ADVICE = (
    "guard: take the growth out again; or, where it is worth its cost, run `make baseline`, commit bench/baseline.json "
    "with the change, and say in its message what the cost buys (docs/bench.md, The guard)"
)


def table(changes: Sequence[Change]) -> str:
    """Return the figures, one a line."""
    lines = [("a job of", "takes", "now", "baseline", "change", "allowed")]
    lines += [
        (
            change.run,
            change.figure,
            _number(change.now),
            "none" if change.before is None else _number(change.before),
            "" if change.before is None else f"{change.share:+.2%}",
            "" if not change.margin else f"{change.margin:.2%}",
        )
        for change in changes
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    shown = []
    for line in lines:
        words = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
        words += [word.rjust(width) for word, width in zip(line[2:], widths[2:], strict=True)]
        shown.append("  ".join(words).rstrip())
    if any(change.has_shrunk and change.margin for change in changes):
        shown.append("guard: some of it is less by more than the margin; `make baseline` keeps what was won")
    return "\n".join(shown)


def growth(change: Change) -> str:
    """Return what has grown, by how much, and where."""
    assert change.before is not None
    said = (
        f"{change.run}: a job takes {_number(change.now)} {change.figure}, {change.share:.1%} more than the baseline's "
        f"{_number(change.before)}; {change.margin:.2%} is allowed"
    )
    lines = [said]
    lines += [
        f"  {name}: {_number(now)}, was {_number(before)} ({now - before:+.4g})" for name, before, now in change.parts
    ]
    return "\n".join(lines)


def _number(count: float) -> str:
    return f"{count:,.4f}".rstrip("0").rstrip(".")
