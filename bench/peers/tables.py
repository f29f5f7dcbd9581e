"""What was measured, as Markdown: a table for each question, medians over the rounds, headrace's ratio to each.

Nothing is left out in silence: a row that failed stands in its table with the reason, and one that failed in some of
its rounds says in how many.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

QUESTIONS = {
    "b": ("No-op handlers, one worker", "noop", 1),
    "b2": ("No-op handlers, two workers", "noop", 2),
    "c": ("Handlers that sleep 1 ms, one worker", "sleep", 1),
    "c2": ("Handlers that sleep 1 ms, two workers", "sleep", 2),
    "e": ("A lone job on an idle worker, submit to the handler's start", "stamp", 1),
}
OWN, FLOOR = "headrace", "floor"
Record = dict[str, object]


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table; all columns but the first are to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rule, *lines])


def text_table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table of words."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *lines])


class Figures:
    """The records, by question, results and row."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records

    def names(self, question: str, results: bool) -> list[str]:
        """Return the rows that were tried, in order of their first appearance in a round."""
        found = {r["row"]: None for r in self.records if r["question"] == question and r["results"] == results}
        return sorted(map(str, found), key=lambda name: (name != FLOOR, not name.startswith(OWN), name))

    def rounds(self, question: str, results: bool, row: str, figure: str) -> dict[int, float]:
        """Return one figure of one row, by round."""
        return {
            r["round"]: r["figures"][figure]  # type: ignore[index, misc]
            for r in self.records
            if (r["question"], r["results"], r["row"]) == (question, results, row) and figure in (r["figures"] or {})  # type: ignore[operator]
        }

    def failure(self, question: str, results: bool, row: str) -> str:
        """Return why a row has no figures, where it has none."""
        return next((failed for failed in self._outcomes(question, results, row) if failed), "it says nothing")

    def title(self, question: str, results: bool, row: str) -> str:
        """Return a row's name, with what failed: figures of the rounds that went well are not the whole truth."""
        outcomes = self._outcomes(question, results, row)
        failed = [reason for reason in outcomes if reason]
        return f"{row} ({len(failed)} of {len(outcomes)} rounds failed: {failed[0]})" if failed else row

    def _outcomes(self, question: str, results: bool, row: str) -> list[str]:
        wanted = (question, results, row)
        mine = [r["failed"] for r in self.records if (r["question"], r["results"], r["row"]) == wanted]
        return [str(failed or "").replace("|", "/") for failed in mine]  # a bar would be a column

    def ratio(self, question: str, results: bool, row: str, figure: str) -> str:
        """Return the median over rounds of headrace's figure to a row's of the same round; of several with the ends."""
        own, theirs = (self.rounds(question, results, name, figure) for name in (OWN, row))
        ratios = [own[number] / theirs[number] for number in own if theirs.get(number)]
        ends = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 and row != OWN else ""
        return f"{median(ratios):.2f}{ends}" if ratios else ""

    def middle(self, question: str, results: bool, row: str, figure: str, shape: str = ",.0f") -> str:
        """Return the median over rounds."""
        values = list(self.rounds(question, results, row, figure).values())
        return f"{median(values):{shape}}" if values else ""

    def spread(self, question: str, results: bool, row: str, figure: str, shape: str = ",.0f") -> str:
        """Return the lowest and the highest of all rounds."""
        values = list(self.rounds(question, results, row, figure).values())
        return f"{min(values):{shape}} to {max(values):{shape}}" if values else ""


def throughput(figures: Figures, question: str, results: bool) -> str:
    """Return the table of one question about throughput."""
    lines = []
    for row in figures.names(question, results):
        cell: Callable[..., str] = lambda *rest, row=row: figures.middle(question, results, row, *rest)  # noqa: E731
        if not cell("jobs_per_s"):
            lines.append([row, f"not measured: {figures.failure(question, results, row)}", *[""] * 8])
            continue
        lines.append([
            figures.title(question, results, row), cell("jobs_per_s"),
            figures.spread(question, results, row, "jobs_per_s"), figures.ratio(question, results, row, "jobs_per_s"),
            cell("worker_cpu_us", ",.1f"), cell("server_cpu_us", ",.1f"), cell("commands_per_job", ",.2f"),
            cell("reads_per_job", ",.3f"), cell("worker_rss_mb"), cell("jobs"),
        ])  # fmt: skip
    heads = (
        "", "jobs/s", "lowest to highest", "headrace to it", "worker CPU us/job", "server CPU us/job",
        "server commands/job", "server reads/job", "workers' RSS MB", "jobs",
    )  # fmt: skip
    return table(heads, lines)


def submission(figures: Figures, results: bool) -> str:
    """Return the table of batched submission, measured while the queues for (b) were filled."""
    lines = []
    for row in figures.names("b", results):
        rate = figures.middle("b", results, row, "submit_per_s")
        if not rate:
            lines.append([row, f"not measured: {figures.failure('b', results, row)}", *[""] * 3])
            continue
        lines.append([
            figures.title("b", results, row), rate, figures.spread("b", results, row, "submit_per_s"),
            figures.ratio("b", results, row, "submit_per_s"),
            figures.middle("b", results, row, "submit_cpu_us", ",.1f"),
        ])  # fmt: skip
    return table(("", "jobs/s", "lowest to highest", "headrace to it", "producer CPU us/job"), lines)


def lone(figures: Figures, results: bool) -> str:
    """Return the table of latency."""
    lines = []
    for row in figures.names("e", results):
        p50, p99, returns = (figures.middle("e", results, row, name, ",.2f")
                             for name in ("p50_ms", "p99_ms", "submit_one_ms"))  # fmt: skip
        if not p50:
            lines.append([row, f"not measured: {figures.failure('e', results, row)}", *[""] * 4])
            continue
        ends = [figures.spread("e", results, row, name, ",.2f") for name in ("p50_ms", "p99_ms")]
        lines.append([figures.title("e", results, row), p50, ends[0], p99, ends[1], returns])
    heads = ("", "p50 ms", "lowest to highest", "p99 ms", "lowest to highest", "of p50, submit returns after ms")
    return table(heads, lines)


def about(rows: Sequence[dict[str, object]], skipped: dict[str, str]) -> str:
    """Return what each row is: versions, settings, promise."""
    lines = [
        [str(row["name"]), ", ".join(f"{name} {version}" for name, version in row["versions"].items()),  # type: ignore[attr-defined]
         str(row["settings"]), str(row.get("source", "")), str(row["promise"]), str(row["redelivery"])]
        for row in rows
    ]  # fmt: skip
    lines += [[name, f"not measured: {reason}", *[""] * 4] for name, reason in skipped.items()]
    return text_table(("", "versions", "settings", "said by", "a job whose worker dies", "redelivery"), lines)


def doubled(records: Sequence[Record]) -> str:
    """Return which measurements ran jobs more than once; empty where none was told to count that."""
    told = [r for r in records if "ran_twice" in (r["figures"] or {}) and r["question"] != "loss"]  # type: ignore[operator]
    found = [f"{r['row']} ({r['question']}, round {r['round']}): {r['figures']['ran_twice']:,.0f}"  # type: ignore[index]
             for r in told if r["figures"]["ran_twice"]]  # type: ignore[index]  # fmt: skip
    if found:
        return f"Jobs that ran more than once, while no worker died: {'; '.join(found)}."
    return "In every measurement of throughput each job ran, and none twice." if told else ""


def losses(records: Sequence[Record]) -> str:
    """Return the table of the loss probe."""
    names = ("busy_when_killed", "never_ran", "ran_twice", "waited_s", "new_jobs", "patience_s")
    lines = []
    for record in records:
        figures: dict[str, float] = record["figures"] or {}  # type: ignore[assignment]
        cells = [f"not measured: {record['failed']}", *[""] * 5]
        if figures:
            cells = [f"{figures[name]:,.0f}" for name in names]
        lines.append([str(record["row"]), *cells])
    heads = (
        "", "busy when killed", "not run by the end", "ran twice", "s from the kill to the last job",
        "new jobs meanwhile", "given up after s without one",
    )  # fmt: skip
    return table(heads, lines)


def page(
    where: dict[str, object], records: Sequence[Record], rows: Sequence[dict[str, object]], skipped: dict[str, str]
) -> str:
    """Return the whole page."""
    figures, parts = Figures(records), [
        "# headrace beside other engines",
        ", ".join(f"{name} {value}" for name, value in where.items()),
        about(rows, skipped),
    ]  # fmt: skip
    if twice := doubled(records):
        parts.append(twice)
    for results in (False, True):
        kept = "results kept" if results else "no results"
        if figures.names("b", results):
            parts += [f"## (a) Batched submission, {kept}", submission(figures, results)]
        for question, (title, _, _) in QUESTIONS.items():
            if figures.names(question, results):
                made = lone(figures, results) if question == "e" else throughput(figures, question, results)
                parts += [f"## ({question}) {title}, {kept}", made]
    if figures.names("loss", False):
        parts += ["## kill -9 of a busy worker amid 200 jobs of 50 ms, redelivery at its lowest", losses(records)]
    return "\n\n".join(parts) + "\n"
