"""What the worker's log says of jobs that fail: a line for each, so many a second, and none for a success."""

import logging
from types import SimpleNamespace

import anyio
import pytest

from headrace import Engine, JobFailed, Retry
from headrace.engine.broker.port import Lease, Source
from headrace.engine.loops import joblog
from headrace.engine.loops.joblog import LINES_PER_S, JobLog
from headrace.engine.observe.seldom import Seldom
from headrace.jobs.disposition import Disposition, Kind, Rules
from headrace.jobs.outcome import Outcome, Status
from headrace.jobs.unread import bury_unread

pytestmark = pytest.mark.anyio

LEASE = Lease(Source("q", "w"), b"1-0", b"")
RULES = Rules(result_ttl_s=0, max_result_bytes=1000)
WAIT_S = 20


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines about jobs, without the quotes of their values."""
    said = [record for record in caplog.records if record.name == "headrace.jobs"]
    return [f"{record.levelname} {record.msg}".replace("'", "") for record in said]


async def test_a_failing_job_is_seen_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A retry is told, and the end with its reason and error; the job that succeeds is not mentioned."""
    engine = Engine("memory://")

    @engine.job(retry=Retry(attempts=2, delay=0.01))
    async def pays(amount: int) -> int:
        if amount < 0:
            raise ValueError("no such amount")
        return amount

    with caplog.at_level(logging.INFO):
        async with engine.running():
            assert 1 == await (await pays.submit(1)).result(timeout=WAIT_S)
            failing = await pays.submit(-1)
            with pytest.raises(JobFailed):
                await failing.result(timeout=WAIT_S)
    retry, dead = lines(caplog)
    assert retry.startswith("INFO job failed ")
    assert dead.startswith("WARNING job is dead ")
    for part in ("handler=pays", "no such amount", "job=default:"):
        assert part in retry
        assert part in dead
    assert "reason=failed" in dead


def test_so_many_lines_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """Above the bound jobs are counted, and the first line of the next second says how many were left out."""
    dead = bury_unread(LEASE, "q:1-0", "q", RULES, reason="malformed", error="what is wrong " * 100, now_ms=1)
    outcome, told = Outcome(SimpleNamespace(label=""), Status.UNREADABLE), JobLog()
    with caplog.at_level(logging.INFO):
        told.tell(5.0, [outcome] * 1000, [dead] * 1000)
        assert LINES_PER_S == len(lines(caplog))
        told.tell(6.0, [outcome], [dead])
    assert LINES_PER_S + 1 == len(lines(caplog))
    assert f"lines_left_out={1000 - LINES_PER_S}" in lines(caplog)[-1]
    assert max(map(len, lines(caplog))) < 800


def test_an_unknown_handler_is_named_seldom(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of an unknown handler that go round again leave one warning that names it; waiting suspects leave none."""
    monkeypatch.setattr(joblog, "seldom", Seldom(joblog.log))
    again = Disposition(LEASE, Kind.RETRY, body=b"", delay_ms=1000)
    lost, waits = (
        Outcome(SimpleNamespace(label="lost", reason=reason, error="no handler is called 'lost'"), Status.UNREADABLE)
        for reason in ("unknown_handler", "suspect")
    )
    with caplog.at_level(logging.INFO):
        JobLog().tell(5.0, [lost, waits, lost], [again] * 3)
    (line,) = lines(caplog)
    assert line.startswith("WARNING unknown handler handler=lost ")


async def test_malformed_entries_count_as_dead(caplog: pytest.LogCaptureFixture) -> None:
    """An entry that cannot be read is a dead job in the statistics, and a line in the log."""
    engine = Engine("memory://")

    @engine.job
    async def ok() -> None:
        """Do nothing."""

    async with engine.running():
        broker = engine.connection.open()
        job_id = broker.add_raw("default", {b"nonsense": b"1"})  # type: ignore[attr-defined]
        with anyio.fail_after(WAIT_S):
            while engine.statistics().errors.dead != 1:
                await anyio.sleep(0.01)
    (line,) = lines(caplog)
    assert line.startswith(f"WARNING job is dead job={job_id} ")
    assert "reason=malformed" in line
