"""headrace beside its peers as a picture: no-op jobs and waits of 1 ms, one worker, no results; a logarithmic axis."""

from collections.abc import Sequence

from measuring.plot import draw
from measuring.question import Case, Plot, Question
from measuring.rounds import Answer, Row, Wish

from . import tables

SHOWN = {"b": "no-op", "c": "1 ms asleep"}
ASKS = "Jobs a second, one worker, results not kept"


def picture(where: dict[str, object], records: Sequence[tables.Record]) -> str:
    """Return the picture as SVG; empty where no throughput without results was measured."""
    figures, rows = tables.Figures(records), []
    for question, kind in SHOWN.items():
        for name in figures.names(question, False):
            rates = figures.rounds(question, False, name, "jobs_per_s").values()
            if rates:
                rows.append(Row(Case(f"{name}, {kind}", "peers", {}, 0), 0, [{"jobs_per_s": rate} for rate in rates]))
    if not rows:
        return ""
    asked = Question("peers", ASKS, tuple(row.case for row in rows), ("jobs_per_s",), Plot(("jobs_per_s",), log_y=True))
    return draw(Answer(asked, Wish(), where, "", [], rows))
