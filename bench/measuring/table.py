"""An Answer as markdown: where it was measured, one row a case, what was promised, and notes."""

import statistics
from collections.abc import Iterator

from .figures import FIGURES, ratios, shown, spread, unclean
from .question import SETTINGS
from .rounds import Answer
from .verdicts import verdicts

ABSENT = "-"


def page(answer: Answer) -> str:
    """Return the page of an answer."""
    question, wish = answer.question, answer.wish
    parts = [f"# {question.name}", question.asks, table(answer)]
    if compared := comparison(answer):
        parts.append(compared)
    if skipped := [f"Left out: {row.case.name}, {row.skipped}." for row in answer.rows if row.skipped]:
        parts.append("\n".join(skipped))
    if clean := _clean(answer):
        parts.append(clean)
    if promised := "\n".join(_verdicts(answer)):
        parts.append(promised)
    if question.notes:
        parts.append(question.notes)
    kind = "A quick run" if wish.quick else "A full run"
    parts.append(
        f"{kind}: medians of {wish.rounds} rounds{_fewer(answer)} (lowest..highest behind them), ratios taken within "
        f"rounds, of what is to be 0 the most of all rounds; began {answer.began_at}, took {answer.took_s:.0f} s; load "
        f"before {_words(answer.load_before)}, after {_words(answer.load_after)}."
    )
    parts.append("; ".join(f"{name} {value}" for name, value in answer.where.items()) + ".")
    return "\n\n".join(parts) + "\n"


def table(answer: Answer) -> str:
    """Return the table of what was measured."""
    rows = [row for row in answer.rows if row.rounds]
    figures = [name for name in answer.question.figures if any(row.median(name) is not None for row in rows)]
    settings = [name for name in SETTINGS if any(name in row.case.options for row in rows)]
    head = ["case", *settings, "jobs"]
    for at, name in enumerate(figures):
        head += [FIGURES[name].title, *(["lowest..highest"] if at == 0 else [])]
    lines = [head]
    for row in rows:
        line = [row.case.name, *(str(row.case.options.get(name, ABSENT)) for name in settings), f"{row.jobs:,}"]
        for at, name in enumerate(figures):
            value = row.middle(name)
            line.append(ABSENT if value is None else shown(name, value))
            if at == 0:
                line.append(ABSENT if value is None else spread(row.rounds, name, FIGURES[name].digits))
        lines.append(line)
    return _markdown(lines)


def comparison(answer: Answer) -> str:
    """Return the table of ratios, or of costs in percent; empty where no case is measured against another."""
    question = answer.question
    as_cost = [question.as_cost and FIGURES[name].rises for name in question.compared]
    titles = [f"{FIGURES[name].title}, {'cost in %' if cost else 'ratio'}"
              for name, cost in zip(question.compared, as_cost, strict=True)]  # fmt: skip
    lines = [["case", "against", *titles]]
    for row in answer.rows:
        for other in row.case.against:
            found = answer.row(other)
            if found is None or not row.rounds:
                continue
            values = [ratios(row.rounds, found.rounds, name) for name in question.compared]
            lines.append([row.case.name, other, *map(_ratio, values, as_cost)])
    return _markdown(lines) if len(lines) > 1 else ""


def _ratio(values: list[float], as_cost: bool) -> str:
    """Return the median and the ends of one figure's ratios, or of the costs that follow from them."""
    if not values:
        return ABSENT
    shown_as = [(1 - value) * 100 for value in values] if as_cost else values
    digits = 1 if as_cost else 2
    ends = f"{min(shown_as):.{digits}f}..{max(shown_as):.{digits}f}"
    return f"{statistics.median(shown_as):.{digits}f} ({ends})"


def _markdown(lines: list[list[str]]) -> str:
    head, *rest = lines
    table = [head, ["---", *["---:"] * (len(head) - 1)], *rest]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def _clean(answer: Answer) -> str:
    """Return whether all rounds ended as they should, and which did not; empty where nothing is said of that."""
    if wrong := [f"{row.case.name}: {', '.join(found)}" for row in answer.rows if (found := unclean(row.rounds))]:
        return f"NOT CLEAN: {'; '.join(wrong)}."
    every = [figures for row in answer.rows for figures in row.rounds]
    told = [name for name, figure in FIGURES.items() if figure.worst and any(name in figures for figures in every)]
    return f"In every round: {', '.join(f'0 {FIGURES[name].title}' for name in told)}." if told else ""


def _fewer(answer: Answer) -> str:
    """Return which cases had fewer rounds than the others."""
    fewer = [row for row in answer.rows if 0 < len(row.rounds) < answer.wish.rounds]
    return "".join(f", {len(row.rounds)} of {row.case.name}" for row in fewer)


def _verdicts(answer: Answer) -> Iterator[str]:
    found = verdicts(answer)
    if found:
        yield "| promise | must | then | measured | |"
        yield "| --- | ---: | ---: | ---: | --- |"
    for verdict in found:
        yield f"| {verdict.what} | {verdict.must:g} | {verdict.then:g} | {verdict.measured:.3g} | {verdict.word} |"


def _words(values: list[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
