"""Processes that die, freeze or block: nothing is lost, and what runs twice is what a fault had caught."""

import signal
import time
from pathlib import Path

import pytest
from fleet import LONG, LOOPS, SOON_S, Fleet
from journal import Line, until

from servers import Server

#: How long a sweep may come after a lease's end, at these leases.
SWEEP_S = 0.34


def is_busy(fleet: Fleet, pid: int) -> bool:
    """Return whether a worker has started a job; see that there is one, though the others are quick."""
    if fleet.journal.count("start", pid):
        return True
    fleet.submit("work", 3, 20)
    return False


def late(fleet: Fleet, killed: list[tuple[int, float]]) -> list[str]:
    """Return the orphans that were started again later than a lease, a sweep and SOON_S after the last death."""
    starts: dict[str, list[Line]] = {}
    for line in fleet.journal.lines("start"):
        starts.setdefault(line.subject, []).append(line)
    ended = {(line.subject, line.pid) for line in fleet.journal.lines("end")}
    found = []
    for victim, killed_at_s in killed:
        for job, lines in starts.items():
            after = [line.at_s for line in lines if line.at_s > killed_at_s]
            if (job, victim) in ended or victim not in [line.pid for line in lines] or not after:
                continue
            # Whoever took it over may have been killed in turn.
            last_s = max(at_s for _, at_s in killed if at_s < after[0])
            if after[0] > last_s + fleet.lease_s + SWEEP_S + SOON_S:
                found.append(f"{job}: {after[0] - last_s:.2f} s")
    return found


def test_killed_workers_lose_nothing(durable: Server, tmp_path: Path) -> None:
    """Workers on both loops, killed in a loop and started again: each job is done, orphans soon after the lease."""
    with Fleet(durable, tmp_path) as fleet:
        crew, killed = fleet.workers(), []
        for turn in range(200 if LONG else 15):
            fleet.submit("work", 20, 20)
            victim = crew[turn % 2]
            until(lambda victim=victim: is_busy(fleet, victim.pid), "the victim to start a job")
            time.sleep(fleet.random.uniform(0.01, 0.5))
            killed.append((victim.pid, fleet.kill(victim)))
            crew[turn % 2] = fleet.worker(LOOPS[turn % 2])
        report = fleet.drained()
        report.insist(fleet.seed)
        assert [] == late(fleet, killed)
        fleet.leave(*crew)


def test_killed_producers_have_submitted_what_they_were_told(durable: Server, tmp_path: Path) -> None:
    """Producers on both loops, killed in a loop: each job whose id came back is done."""
    with Fleet(durable, tmp_path) as fleet:
        crew = fleet.workers()
        for turn in range(200 if LONG else 4):
            producer = fleet.producer(LOOPS[turn % 2])
            fleet.journal.wait("ok", pid=producer.pid)
            time.sleep(fleet.random.uniform(0.01, 0.3))
            fleet.kill(producer)
        fleet.faults.clear()  # nothing that ran was hit
        report = fleet.drained()
        report.insist(fleet.seed)
        assert {} == report.duplicates
        fleet.leave(*crew)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_frozen_worker_changes_nothing_when_it_wakes(durable: Server, tmp_path: Path, loop: str) -> None:
    """A worker that slept through its lease settles nothing, stops what it ran, and goes on, registered anew."""
    with Fleet(durable, tmp_path) as fleet:
        frozen = fleet.worker(loop)
        # Some end while it is frozen, and are settled late; some still run when it wakes.
        jobs = fleet.submit("hold", 4, 1.0) + fleet.submit("hold", 4, 30.0)
        fleet.journal.wait("start", 8, frozen.pid)
        other = fleet.worker(LOOPS[loop == "asyncio"])
        frozen.send_signal(signal.SIGSTOP)
        fleet.journal.wait("end", 8, other.pid)
        results = [fleet.handle(job).result(timeout=20) for job in jobs]
        assert {other.pid} == set(results)
        time.sleep(fleet.lease_s)
        frozen.send_signal(signal.SIGCONT)
        fleet.strike(frozen.pid)
        fleet.journal.wait("cut", 4, frozen.pid)
        fleet.stop(other)
        more = fleet.submit("work", 20, 1)
        fleet.journal.wait("start", 8 + 20, frozen.pid)
        report = fleet.drained()
        report.insist(fleet.seed)
        assert 8 == report.duplicate_count
        assert results == [fleet.handle(job).result(timeout=20) for job in jobs]
        assert {frozen.pid} == {fleet.handle(job).result(timeout=20) for job in more}
        assert 4 == fleet.journal.count("cut", frozen.pid)
        fleet.leave(frozen)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_blocked_loop_keeps_its_jobs(server: Server, tmp_path: Path, loop: str) -> None:
    """A handler that blocks its loop for two leases and more costs no registration: no other worker starts its jobs."""
    with Fleet(server, tmp_path) as fleet:
        blocked = fleet.worker(loop)
        fleet.submit("block", 1, 2.5)
        fleet.journal.wait("start", pid=blocked.pid)
        other = fleet.worker(LOOPS[loop == "asyncio"])
        report = fleet.drained()
        report.insist(fleet.seed)
        assert {} == report.duplicates
        assert "registration lost" not in fleet.log.read_text()
        fleet.leave(blocked, other)


def test_early_acknowledgement_is_noticed(durable: Server, tmp_path: Path) -> None:
    """The checker reports what is lost by a worker that acknowledges before it runs, when it is killed."""
    with Fleet(durable, tmp_path) as fleet:
        worker = fleet.worker("asyncio", "early-ack")
        fleet.submit("work", 50, 300)
        fleet.journal.wait("start", pid=worker.pid)
        fleet.kill(worker)
        fleet.worker("asyncio", "early-ack")
        report = fleet.drained()
        assert report.lost
        assert not report.is_clean
        assert f"{len(report.lost)} lost: {report.lost[0]}" in str(report)


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "unfenced"])
def test_a_missing_fence_is_noticed(durable: Server, tmp_path: Path, fenced: bool) -> None:
    """A worker that wakes without a fence sends a job round again that another one runs, and the checker reports it."""
    with Fleet(durable, tmp_path) as fleet:
        frozen = fleet.worker("asyncio", *(() if fenced else ("no-fence",)))
        fleet.submit("stumble", 1, 2.0)
        fleet.journal.wait("start", pid=frozen.pid)
        frozen.send_signal(signal.SIGSTOP)
        other = fleet.worker("trio")
        fleet.journal.wait("start", pid=other.pid)
        frozen.send_signal(signal.SIGCONT)
        fleet.strike(frozen.pid)
        fleet.journal.wait("end", 1 if fenced else 2)
        report = fleet.drained()
        assert fenced == report.is_clean, str(report)
        assert (0 if fenced else 1) == len(report.excess)
