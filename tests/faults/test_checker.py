"""The checker itself: it finds what is lost, made up or run too often, and forgives what a fault explains."""

from pathlib import Path

import pytest
from checker import Fault, check
from journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal of two jobs that were submitted and one that is done."""
    journal = Journal(tmp_path / "journal")
    journal.note("ok", "q:1-0", 1)
    journal.note("ok", "q:2-0", 2)
    journal.note("start", "q:1-0", 1)
    journal.note("end", "q:1-0")
    return journal


def test_a_lost_job_is_found(journal: Journal) -> None:
    """What was acknowledged and is neither done nor given up is lost, whatever state the server reports."""
    assert ("q:2-0",) == check(journal, {"q:1-0": "gone", "q:2-0": "succeeded"}).lost
    assert () == check(journal, {"q:2-0": "dead"}).lost


def test_strangers_are_unexpected_unless_somebody_tried(journal: Journal) -> None:
    """A job that ran unasked is unexpected; one whose submitter never heard of it is recovered."""
    journal.note("try", 3)
    journal.note("start", "q:3-0", 3)
    journal.note("start", "q:4-0", 4)
    report = check(journal, {"q:2-0": "dead"})
    assert (("q:3-0",), ("q:4-0",)) == (report.recovered, report.unexpected)
    assert not report.is_clean


def test_a_second_start_needs_a_fault(journal: Journal) -> None:
    """A fault explains one more start of a job that its victim had started, and of no other."""
    before = Fault(journal.size)
    journal.note("start", "q:2-0", 2)
    after = Fault(journal.size)
    journal.note("start", "q:2-0", 2)
    journal.note("end", "q:2-0")
    assert ("q:2-0",) == check(journal, {}).excess
    assert ("q:2-0",) == check(journal, {}, [before], 10).excess
    assert ("q:2-0",) == check(journal, {}, [Fault(after.size, pid=1)], 10).excess
    assert check(journal, {}, [after], 10).is_clean
    journal.note("start", "q:2-0", 2)
    assert ("q:2-0",) == check(journal, {}, [after], 10).excess


def test_only_the_last_starts_were_in_hand(journal: Journal) -> None:
    """A job that its victim had started long before a fault, and so had settled, is not excused by it."""
    journal.note("start", "q:2-0", 2)
    journal.note("end", "q:2-0")
    fault = Fault(journal.size)
    journal.note("start", "q:1-0", 1)
    assert ("q:1-0",) == check(journal, {}, [fault], 1).excess
    assert check(journal, {}, [fault], 2).is_clean
