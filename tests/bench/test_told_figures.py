"""What README and docs/performance.md tell of speed is what the committed results say: no figure is of nowhere."""

import json
import re
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest

from checkout import ROOT

RESULTS = ROOT / "bench" / "results"
#: Columns of the table of peers: question, whether results are kept, figure.
COLUMNS = (
    ("b", False, "jobs_per_s"), ("b", True, "jobs_per_s"), ("b2", False, "jobs_per_s"), ("c", False, "jobs_per_s"),
    ("c2", False, "jobs_per_s"), ("b", False, "worker_cpu_us"), ("b", False, "commands_per_job"),
)  # fmt: skip
NAMES = {"headrace, asyncio": "headrace", "headrace, trio": "headrace-trio", "BullMQ": "bullmq"}


def case(question: str, name: str) -> Any:
    """Return what was measured of a case."""
    rows = json.loads((RESULTS / f"{question}.json").read_text())["rows"]
    return next(row for row in rows if row["case"] == name)


def test_the_number_of_the_readme_is_measured() -> None:
    """Rate, range, rounds and ratio to the floor are those of bench/results/engine.json."""
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    told = re.search(r"settled ([\d,]+) no-op jobs a second, ([\d.]+) of the floor", text)
    ends = re.search(r"Median of (\d) rounds, ([\d,]+) to ([\d,]+\d)", text)
    assert told is not None
    assert ends is not None
    row = case("engine", "engine, asyncio")
    rates = [row[which]["jobs_per_s"] for which in ("median", "min", "max")]
    assert [f"{round(rate, -2):,.0f}" for rate in rates] == [told[1], ends[2], ends[3]]
    assert f"{row['ratio']['floor, asyncio']['jobs_per_s']['median']:.2f}" == told[2]
    assert len(row["rounds"]) == int(ends[1])


def rows_of_peers() -> Iterator[list[str]]:
    """Yield the cells of each row of the page's table of peers."""
    lines = iter((ROOT / "docs" / "performance.md").read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("| jobs/s | no-op |"):
            break
    next(lines)
    for line in lines:
        if not line:
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("cells", list(rows_of_peers()), ids=lambda cells: cells[0])
def test_the_table_of_peers_is_measured(cells: list[str]) -> None:
    """Each figure of the page's table is that of bench/results/peers.json, rounded."""
    row = NAMES.get(cells[0]) or NAMES.get(cells[0].split()[0]) or cells[0].split()[0]
    records = json.loads((RESULTS / "peers.json").read_text())["records"]

    def measured(question: str, results: bool, figure: str) -> float:
        wanted = (question, results, row)
        return median(r["figures"][figure] for r in records if (r["question"], r["results"], r["row"]) == wanted)

    figures = [measured(*column) for column in COLUMNS] + [measured("e", False, name) for name in ("p50_ms", "p99_ms")]
    told = [float(cell.replace(",", "")) for cell in [*cells[1:8], *cells[8].split(", ")]]
    assert figures == pytest.approx(told, rel=0.02, abs=0.006)
