"""Medians, ratios and spreads of rounds, the tables and verdicts made of them, and the plots."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from answers import answer, case, question, rates
from measuring.figures import FIGURES, median, middle, ratio, ratios, spread, unclean
from measuring.plot import Axis, draw
from measuring.question import Plot, Target
from measuring.result import read, record, write
from measuring.rounds import Answer, Wish
from measuring.table import comparison, page, table
from measuring.verdicts import verdicts


def test_a_figure_is_the_median_of_its_rounds() -> None:
    """Of an odd number of rounds the middle one counts, of an even number the mean of the two in the middle."""
    assert 20 == median(rates(10, 1000, 20), "jobs_per_s")
    assert 15 == median(rates(10, 20), "jobs_per_s")


def test_ratios_are_taken_within_rounds() -> None:
    """A round is divided by the same round of the other, so a slow minute that hit both changes nothing."""
    mine, floor = rates(50, 5, 60), rates(100, 10, 100)
    assert [0.5, 0.5, 0.6] == ratios(mine, floor, "jobs_per_s")
    assert 0.5 == ratio(mine, floor, "jobs_per_s")


def test_ratios_are_of_rounds_that_both_have() -> None:
    """A case that had fewer rounds is compared in those, and a figure that the other lacks in none."""
    assert [0.5] == ratios(rates(50), rates(100, 10), "jobs_per_s")
    assert [] == ratios(rates(50), [{"p99_ms": 1.0}], "jobs_per_s")


def test_a_spread_names_the_ends() -> None:
    """A spread is the lowest and the highest round."""
    assert "10..1,000" == spread(rates(20, 1000, 10), "jobs_per_s")


def compared() -> Answer:
    """Two cases, of which one is measured against the other."""
    asked = question(
        case("engine", "floor"),
        case("floor"),
        targets=(
            Target("a share of the floor", "engine", 0.4, 0.8, against="floor"),
            Target("latency, ms", "engine", 15.0, 5.0, "p99_ms"),
            Target("more than there is", "engine", 1_000, 2_000),
            Target("of a case that was left out", "absent", 1, 1),
        ),
    )
    return answer(asked, {"engine": rates(50, 100, 80), "floor": rates(100, 200, 100)})


def test_a_table_has_a_row_for_each_case_and_its_settings() -> None:
    """Each row shows loop, slots, jobs, the median with its spread, and the other figures."""
    head, _, *rows = table(compared()).splitlines()
    assert "| case | loop | slots | jobs | jobs/s | lowest..highest | p99 ms | lost |" == head
    assert "| engine | asyncio | 100 | 1,000 | 80 | 50..100 | 12.50 | 0 |" == rows[0]
    assert 2 == len(rows)


def test_a_round_that_lost_jobs_is_not_hidden_by_others() -> None:
    """Of what is to be 0 a table shows the worst round, and the page names case and round, though the median is 0."""
    rounds = [{**each, "lost": lost, "failed": 0.0} for each, lost in zip(rates(50, 100, 80), (0, 3, 0), strict=True)]
    assert (0, 3) == (median(rounds, "lost"), middle(rounds, "lost"))
    assert ["3 lost in round 2"] == unclean(rounds)
    found = answer(question(case("engine"), case("floor")), {"engine": rounds, "floor": rates(100, 200, 100)})
    assert "| engine | asyncio | 100 | 1,000 | 80 | 50..100 | 12.50 | 3 |" == table(found).splitlines()[2]
    assert "NOT CLEAN: engine: 3 lost in round 2." in page(found)


def test_a_page_says_that_nothing_was_lost_only_where_that_was_looked_at() -> None:
    """What was counted and was 0 in every round is named; what no probe counted is not."""
    assert "In every round: 0 lost.\n" in page(compared())
    found = answer(question(case("engine")), {"engine": [{"jobs_per_s": 7.0}]})
    assert "In every round" not in page(found)


def test_a_case_with_fewer_rounds_is_named() -> None:
    """The page says how many rounds there were, and of which cases there were fewer."""
    found = answer(question(case("engine"), case("huge")), {"engine": rates(1, 2, 3), "huge": rates(4)})
    assert "medians of 3 rounds, 1 of huge (lowest" in page(found)


def test_a_comparison_is_a_ratio_or_a_cost() -> None:
    """What is measured against another shows the median and the ends of the rounds' ratios, or what it costs."""
    assert "| engine | floor | 0.50 (0.50..0.80) |" == comparison(compared()).splitlines()[-1]
    found = compared()
    costs = answer(question(*found.question.cases, as_cost=True), {row.case.name: row.rounds for row in found.rows})
    assert "| engine | floor | 50.0 (20.0..50.0) |" == comparison(costs).splitlines()[-1]


def test_verdicts_know_which_way_is_better() -> None:
    """A rate has to reach its bounds, a latency has to stay below them; a case that was not measured has no verdict."""
    assert ["must met", "must met", "missed"] == [verdict.word for verdict in verdicts(compared())]


def test_a_page_says_where_and_when_it_was_measured() -> None:
    """The page has machine, disk, Python, server and commit, the load, and the notes."""
    wanted = ("x86_64, 2 cores", "ext4 on /dev/vda", "Valkey 9.1.2", "abc1234", "load before 0.1", "Read with care.")
    assert [] == [words for words in wanted if words not in page(compared())]


def test_what_was_left_out_is_said() -> None:
    """A case that was skipped stands on the page with its reason, and in no table."""
    found = compared()
    found.rows[1].rounds, found.rows[1].skipped = [], "needs 4,000 MB of memory, 100 are available"
    assert "Left out: floor, needs 4,000 MB of memory, 100 are available." in page(found)
    assert "" == comparison(found)


def test_a_record_keeps_every_round() -> None:
    """The JSON has each case's options, raw rounds, medians and ratios with their ends."""
    row = json.loads(json.dumps(record(compared())))["rows"][0]
    assert [50, 100, 80] == [each["jobs_per_s"] for each in row["rounds"]]
    assert (80, 50, 100) == (row["median"]["jobs_per_s"], row["min"]["jobs_per_s"], row["max"]["jobs_per_s"])
    assert {"median": 0.5, "min": 0.5, "max": 0.8} == row["ratio"]["floor"]["jobs_per_s"]
    assert {"loop": "asyncio", "slots": 100} == row["options"]


def test_an_answer_can_be_read_back(tmp_path: Path) -> None:
    """The page made of what lies on the disk is the page that was written, with the options that were measured."""
    found = replace(compared(), wish=Wish(rounds=3, results=tmp_path))
    write(found)
    again = read(found.question, tmp_path)
    assert page(found) == page(again)
    renamed = question(case("engine"))
    with pytest.raises(SystemExit, match="has cases that are no more: floor; measure it anew"):
        read(renamed, tmp_path)
    with pytest.raises(SystemExit, match=r"speed\.json cannot be read: .*; measure it: python bench/speed.py"):
        read(found.question, tmp_path / "nowhere")


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_a_plot_is_a_picture_with_every_case(kind: str, log_y: bool) -> None:
    """A plot is well-formed SVG, and shows each case's median, whatever characters the question has."""
    plot = Plot(("jobs_per_s",), kind, "slots", log_y)  # type: ignore[arg-type]
    asked = question(case("a & b", x=1, series="<one>"), case("c", x=10_000, series="two"), plot=plot)
    root = ET.fromstring(draw(answer(asked, {"a & b": rates(10, 30), "c": rates(44_000)})))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Is a < b & c?", "20", "44,000"} <= set(texts)


def test_an_axis_ends_at_round_numbers() -> None:
    """A linear axis goes from 0 in round steps past the highest value, a logarithmic one in powers of ten."""
    assert [0, 20, 40, 60, 80] == Axis([63.0], 0, 1, log=False).ticks
    assert [10, 100, 1000] == Axis([12.0, 800.0], 0, 1, log=True).ticks


def test_every_figure_has_a_title_of_its_own() -> None:
    """No two figures are called the same, for a table's columns would be."""
    titles = [figure.title for figure in FIGURES.values()]
    assert len(titles) == len(set(titles))
