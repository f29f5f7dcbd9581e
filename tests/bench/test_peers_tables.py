"""The tables of headrace beside its peers: medians and ratios within rounds, and nothing that failed is hidden."""

import json
from xml.etree import ElementTree as ET

import pytest
from peers import picture, tables

from checkout import ROOT

RESULTS = ROOT / "bench" / "results"


def records(question: str, row: str, *rates: float | str) -> list[tables.Record]:
    """Return a record for each round: a rate, or why there is none."""
    return [
        {
            "round": number, "question": question, "results": False, "row": row,
            "figures": {"jobs_per_s": rate, "submit_per_s": rate, "p50_ms": rate, "p99_ms": rate, "submit_one_ms": rate}
            if isinstance(rate, float) else None,
            "failed": None if isinstance(rate, float) else rate,
        }
        for number, rate in enumerate(rates)
    ]  # fmt: skip


def page(*found: tables.Record) -> list[str]:
    """Return the lines of a page."""
    return tables.page({"python": "3.11.7"}, found, [], {}).splitlines()


def test_a_ratio_is_taken_within_rounds_and_has_its_ends() -> None:
    """The rate is divided by the other of the same round; beside the median are the lowest and the highest."""
    lines = page(*records("b", "headrace", 100.0, 30.0, 80.0), *records("b", "slow", 10.0, 5.0, 10.0))
    assert "| slow | 10 | 5 to 10 | 8.00 (6.00 to 10.00) |" in " ".join(lines)


def test_a_round_that_failed_is_not_hidden_by_those_that_went_well() -> None:
    """A row with figures of some rounds says how many others failed and why; the reason cannot break the table."""
    lines = page(*records("b", "headrace", 100.0, 30.0), *records("b", "slow", 10.0, "a worker ended | early"))
    named = [line for line in lines if line.startswith("| slow (1 of 2 rounds failed: a worker ended / early) | 10 |")]
    assert 2 == len(named)  # of throughput, and of submission


@pytest.mark.parametrize("question", ["b", "e"])
def test_a_row_without_any_figure_stands_in_every_table(question: str) -> None:
    """A row whose rounds all failed is in each table as not measured, with the reason."""
    lines = page(*records(question, "headrace", 100.0), *records(question, "gone", "no such command"))
    assert (2 if question == "b" else 1) == sum("| gone | not measured: no such command |" in line for line in lines)


def test_latencies_have_their_ends() -> None:
    """Of p50 and p99 the lowest and the highest round stand beside the median."""
    lines = page(*records("e", "headrace", 1.5, 1.25, 3.0))
    assert "| headrace | 1.50 | 1.25 to 3.00 | 1.50 | 1.25 to 3.00 | 1.50 |" in lines


def test_jobs_that_ran_twice_are_told() -> None:
    """Where a probe counted them, the page says whether jobs ran twice, and in which measurement; else nothing."""
    found = records("b", "headrace", 100.0) + records("b", "twice", 50.0)
    assert "twice" not in tables.doubled(found)
    for record in found:
        record["figures"]["ran_twice"] = 0  # type: ignore[index]
    assert "In every measurement of throughput each job ran, and none twice." in page(*found)
    found[1]["figures"]["ran_twice"] = 3  # type: ignore[index]
    assert "Jobs that ran more than once, while no worker died: twice (b, round 0): 3." in page(*found)


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("peers*.json")))
def test_a_committed_page_is_what_its_json_says(name: str) -> None:
    """Each page of results is made from the JSON beside it, and from nothing else."""
    document = json.loads((RESULTS / f"{name}.json").read_text())
    made = tables.page(document["where"], document["records"], document["rows"], document["not_measured"])
    drawn = picture.picture(document["where"], document["records"])
    shown = f"\n![{picture.ASKS}]({name}.svg)\n" if drawn else ""
    assert made + shown == (RESULTS / f"{name}.md").read_text()
    assert not drawn or drawn == (RESULTS / f"{name}.svg").read_text()


def test_a_picture_has_a_bar_for_each_row_that_was_measured() -> None:
    """Rows without a figure have no bar; where nothing was measured there is no picture."""
    where: dict[str, object] = dict.fromkeys(("machine", "python", "server", "commit"), "x")
    drawn = picture.picture(where, [*records("b", "headrace", 900.0, 1100.0), *records("b", "gone", "no such command")])
    texts = [element.text for element in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"headrace, no-op", "1,000"} <= set(texts)
    assert "gone, no-op" not in texts
    assert "" == picture.picture(where, records("b", "gone", "no such command"))
