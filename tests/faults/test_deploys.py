"""Stopping workers under load: nothing is lost, nothing runs twice, and the stop keeps its deadline."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from headrace import Engine
from servers import Server, start_valkey

PROGRAM = Path(__file__).with_name("deploys.py")
#: Generous: a stop takes some 50 ms here.
EXIT_S = 15.0
#: What the test that runs has started.
started: list[subprocess.Popen[str]] = []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose acknowledged writes are on disk."""
    with start_valkey(tmp_path_factory.mktemp("deploys"), "--appendonly", "yes") as server:
        yield server


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    """End what a test that failed left running."""
    yield
    while started:
        worker = started.pop()
        worker.kill()
        worker.communicate()


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    """Both loops."""
    return str(request.param)


def start(server: Server, journal: Path, loop: str, *more: str) -> subprocess.Popen[str]:
    """Start a worker and return it once it has done something."""
    command = [sys.executable, str(PROGRAM), server.url, str(journal), loop, *more]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    started.append(worker)
    return worker


def lines(journal: Path) -> Counter[str]:
    """Return what the jobs noted, and how often."""
    return Counter(journal.read_text().splitlines()) if journal.exists() else Counter()


def wait_for(count: int, journal: Path) -> None:
    """Return once the journal has so many lines."""
    deadline_s = time.monotonic() + EXIT_S
    while sum(lines(journal).values()) < count:
        assert time.monotonic() < deadline_s, f"only {lines(journal)}"
        time.sleep(0.01)


def producer(server: Server) -> Engine:
    """Return an engine that submits."""
    engine = Engine(server.url)

    @engine.job
    async def work(number: int) -> int:
        return number

    @engine.job
    async def stubborn(seconds: float) -> None:
        return None

    return engine


def test_deploys_under_load_lose_nothing_and_run_nothing_twice(server: Server, tmp_path: Path, loop: str) -> None:
    """Workers that are told to stop in the middle of a full queue leave each job done once or waiting."""
    journal = tmp_path / "journal"
    engine = producer(server)
    handles = [engine.sync.submit("work", (number,)) for number in range(3000)]
    for round_ in range(3):
        worker = start(server, journal, loop)
        wait_for(200 + 400 * round_, journal)
        stopped_s = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=EXIT_S)
        assert worker.returncode == 0, errors
        assert time.monotonic() - stopped_s < EXIT_S
    worker = start(server, journal, loop, "--burst")
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    noted = lines(journal)
    assert {1} == {noted[f"{what} {number}"] for what in ("start", "end") for number in range(3000)}
    assert handles[-1].status() == "succeeded"


def test_a_drain_that_is_over_sends_running_jobs_back(server: Server, tmp_path: Path, loop: str) -> None:
    """A job that outlasts the drain is interrupted, and waits in the queue with all its tries."""
    journal = tmp_path / "journal"
    handle = producer(server).sync.submit("stubborn", (60.0,))
    worker = start(server, journal, loop)
    wait_for(1, journal)
    began_s = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    _, errors = worker.communicate(timeout=EXIT_S)
    assert worker.returncode == 0, errors
    assert 4.5 < time.monotonic() - began_s
    assert handle.status() == "queued"
    purge(server)


def test_a_second_signal_stops_at_once(server: Server, tmp_path: Path, loop: str) -> None:
    """Whoever sends two signals does not wait for the drain, and the job goes back all the same."""
    journal = tmp_path / "journal"
    handle = producer(server).sync.submit("stubborn", (60.0,))
    worker = start(server, journal, loop)
    wait_for(1, journal)
    began_s = time.monotonic()
    worker.send_signal(signal.SIGINT)
    time.sleep(0.3)
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate(timeout=EXIT_S)
    assert worker.returncode == 0, errors
    assert time.monotonic() - began_s < 4
    assert handle.status() == "queued"
    purge(server)


def purge(server: Server) -> None:
    """Empty the server for the next test."""
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        client.flushall()
