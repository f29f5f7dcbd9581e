"""Writes the pages that are made from code, so that code and page cannot disagree.

`make docs` runs it; tests/tidy fails when a page on disk is not what it would write. A page is one row of PAGES.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from headrace.config.page import page as configuration_page
from headrace.engine.observe.families import GROUPS
from headrace.engine.observe.histogram import BOUNDS_S
from headrace.engine.observe.page import page as statistics_page
from headrace.engine.redisio.keys import TABLE
from headrace.jobs import states

FOLDER: Final = Path(__file__).parent
NOTE: Final = "<!-- Made by docs/generate.py: change the code it shows, then run make docs. -->\n\n"


def states_page() -> str:
    """Return docs/states.md: the diagram, and a table of every move."""
    rows = [
        f"| {state} | {event} | {after} |" for state, moves in states.MOVES.items() for event, after in moves.items()
    ]
    table = "\n".join(["| state | what happens | state after it |", "|---|---|---|", *rows])
    ended = ", ".join(state for state in states.State if state in states.ENDED)
    return (
        f"{NOTE}# The states of a job\n\nA result can be waited for until the job is {ended}.\n\n{table}\n\n"
        f"As a diagram:\n\n```mermaid\n{states.diagram()}\n```\n"
    )


def keys_page() -> str:
    """Return docs/keys.md: every key that headrace has in a server."""
    rows = [
        f"| `{rule.name.replace('{{', '{').replace('}}', '}')}` | {rule.type} | {'yes' if rule.expires else 'no'} "
        f"| {rule.holds} | {rule.writers} |"
        for rule in TABLE
    ]
    table = "\n".join(["| key | type | expires | holds | written by |", "|---|---|---|---|---|", *rows])
    return (
        f"{NOTE}# Keys\n\nEvery key on the server. `{{namespace}}` is the setting of that name, `headrace` by default; "
        f"`Q` is a queue, in braces that are part of the key; ID and TOKEN vary. A key that does not expire ends with "
        f"its last member, or never.\n\n{table}\n"
    )


def metrics_page() -> str:
    """Return docs/metrics.md: every metric of GET /metrics."""
    sections = []
    for group in GROUPS:
        labels = ", ".join(f"`{label}`" for label in group.labels) or "none"
        rows = [f"| `{each.name}` | {each.kind} | {each.help} |" for each in group.families]
        table = "\n".join(["| name | kind | meaning |", "|---|---|---|", *rows])
        sections.append(f"## {group.about}\n\nLabels: {labels}.\n\n{table}\n")
    bounds = ", ".join(f"{bound:g}" for bound in BOUNDS_S)
    return (
        f"{NOTE}# Metrics\n\n`GET /metrics` gives these, as Prometheus text or, where the Accept header asks for it, "
        "as OpenMetrics. One API tells of all workers and queues; `deploy/` has a dashboard and alert rules.\n\n"
        "A worker's counters have its id as a label and begin at 0 with it; when it ends, its series end. So no "
        "counter falls, and `sum(rate(...))` is right however workers come and go; what one counted between the last "
        "scrape and its end is not seen. A handler that its worker does not declare is shown as `(others)`, and so "
        "are queues beyond 1,000. While the server is away only the last group is there, with "
        "`headrace_broker_up_flag` 0.\n\n"
        f"Histograms have buckets up to {bounds} seconds. They are made of finer ones: a value within 3.2 % of a "
        "bound may be counted on the other side of it, and the sum is as exact.\n\n" + "\n".join(sections)
    )


#: file in docs/ -> what makes its text.
PAGES: Final[dict[str, Callable[[], str]]] = {
    "configuration.md": configuration_page,
    "keys.md": keys_page,
    "metrics.md": metrics_page,
    "states.md": states_page,
    "statistics.md": statistics_page,
}


def main() -> None:
    """Write every page that differs from what the code says now."""
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"docs: wrote {path.name}")


if __name__ == "__main__":
    main()
