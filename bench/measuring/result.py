"""Results on disk: NAME.json with every raw round, NAME.md for people, NAME.svg to look at.

They are written beside each other into one folder; nothing else is touched there. An answer can be read back from its
JSON, so that page and picture are made anew where only the way of showing them has changed.
"""

import json
import pathlib
import statistics
from dataclasses import replace
from typing import Any

from .figures import FIGURES, ratios
from .plot import draw
from .question import Question
from .rounds import Answer, Row, Wish
from .table import page
from .verdicts import verdicts


def write(answer: Answer) -> list[pathlib.Path]:
    """Write an answer's three files and return their paths."""
    folder, name = answer.wish.results, answer.question.name
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "json": json.dumps(record(answer), indent=1) + "\n",
        "md": page_with_plot(answer),
        "svg": draw(answer),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{name}.{suffix}")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def page_with_plot(answer: Answer) -> str:
    """Return the page as it is written, with the picture beside it."""
    return page(answer) + f"\n![{answer.question.asks}]({answer.question.name}.svg)\n"


def read(question: Question, folder: pathlib.Path) -> Answer:
    """Return the answer that lies in a folder, as it was measured: options, jobs and rounds are those of its JSON.

    Raises:
        SystemExit: there is none, or it has cases that the question has no more.
    """
    path = folder / f"{question.name}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SystemExit(
            f"{path} cannot be read: {error.strerror}; measure it: python bench/{question.name}.py"
        ) from None
    cases, rows = {case.name: case for case in question.cases}, found["rows"]
    if gone := [row["case"] for row in rows if row["case"] not in cases]:
        raise SystemExit(f"{path} has cases that are no more: {', '.join(gone)}; measure it anew")
    measured = [replace(cases[row["case"]], options=row["options"]) for row in rows]
    made = [Row(case, row["jobs"], row["rounds"], row["skipped"]) for case, row in zip(measured, rows, strict=True)]
    wish = Wish(quick=found["quick"], rounds=found["rounds"], results=folder)
    loads = found["load_before"], found["load_after"]
    return Answer(question, wish, found["where"], found["began_at"], loads[0], made, loads[1], found["took_s"])


def record(answer: Answer) -> dict[str, object]:
    """Return everything that is known about an answer, for machines."""
    question, wish = answer.question, answer.wish
    return {
        "question": question.name,
        "asks": question.asks,
        "quick": wish.quick,
        "rounds": wish.rounds,
        "began_at": answer.began_at,
        "took_s": answer.took_s,
        "where": answer.where,
        "load_before": answer.load_before,
        "load_after": answer.load_after,
        "units": {name: figure.title for name, figure in FIGURES.items() if name in question.figures},
        "rows": [_row(answer, row) for row in answer.rows],
        "verdicts": [
            {"what": found.what, "must": found.must, "then": found.then, "measured": found.measured, "word": found.word}
            for found in verdicts(answer)
        ],
        "notes": question.notes,
    }


def _row(answer: Answer, row: Row) -> dict[str, object]:
    names = list(row.rounds[0]) if row.rounds else []
    compared: dict[str, dict[str, dict[str, float]]] = {}
    for other in row.case.against:
        if (found := answer.row(other)) is None:
            continue
        for name in answer.question.compared:
            if values := ratios(row.rounds, found.rounds, name):
                figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
                compared.setdefault(other, {})[name] = figures
    return {
        "case": row.case.name,
        "probe": row.case.probe,
        "options": dict(row.case.options),
        "jobs": row.jobs,
        "skipped": row.skipped,
        "median": {name: row.median(name) for name in names},
        "min": {name: min(figures[name] for figures in row.rounds) for name in names},
        "max": {name: max(figures[name] for figures in row.rounds) for name in names},
        "ratio": compared,
        "rounds": row.rounds,
    }
