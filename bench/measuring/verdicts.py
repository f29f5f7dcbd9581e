"""What was promised, held against what was measured. A verdict is for people; no test and no exit code hangs on it."""

from dataclasses import dataclass

from .figures import FIGURES
from .rounds import Answer


@dataclass(frozen=True)
class Verdict:
    """One promise and what came of it.

    Attributes:
        what: The promise in words.
        must: What it has to reach.
        then: What it is to reach in the end.
        measured: What it reached.
        word: "then met", "must met" or "missed".
    """

    what: str
    must: float
    then: float
    measured: float
    word: str


def verdicts(answer: Answer) -> list[Verdict]:
    """Return a verdict for each promise whose cases were measured."""
    found = []
    for target in answer.question.targets:
        row = answer.row(target.case)
        if row is None:
            continue
        value = answer.ratio(row, target.against, target.figure) if target.against else row.median(target.figure)
        if value is not None:
            rises = FIGURES[target.figure].rises
            met = [value >= bound if rises else value <= bound for bound in (target.must, target.then)]
            word = "then met" if met[1] else "must met" if met[0] else "missed"
            found.append(Verdict(target.what, target.must, target.then, value, word))
    return found
