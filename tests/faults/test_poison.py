"""Jobs that kill their worker: they end in the dead letters, and nobody else does."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import LONG

from headrace import Engine, JobCrashed
from headrace.engine import inspect
from servers import Server, start_valkey

PROGRAM = Path(__file__).with_name("poisoned.py")
#: How many jobs do no harm: as many before the poison as behind it.
HARMLESS_COUNT = 10_000 if LONG else 400
#: Generous: the crashes take some 5 s, and 10,000 jobs as long again.
ALL_DONE_S = 240.0 if LONG else 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own."""
    with start_valkey(tmp_path) as server:
        yield server


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    """Both loops."""
    return str(request.param)


def test_a_poison_job_dies_alone(server: Server, loop: str) -> None:
    """One poison job and one that must not start twice, among thousands: those two are dead, all others succeed."""
    engine = Engine(server.url)
    harmless = [engine.sync.submit("harmless", (number,)) for number in range(HARMLESS_COUNT // 2)]
    poison, payment = engine.sync.submit("poison"), engine.sync.submit("payment")
    harmless += [engine.sync.submit("harmless", (number,)) for number in range(HARMLESS_COUNT // 2, HARMLESS_COUNT)]
    left = [*harmless, poison, payment]
    deaths = []
    deadline_s = time.monotonic() + ALL_DONE_S
    worker = subprocess.Popen([sys.executable, str(PROGRAM), server.url, loop], stderr=subprocess.DEVNULL)
    try:
        while left:
            assert time.monotonic() < deadline_s, f"{deaths}; {[handle.status() for handle in (poison, payment)]}"
            while left and left[-1].status() in ("succeeded", "dead"):
                left.pop()
            if worker.poll() is not None:
                deaths.append(worker.returncode)
                worker = subprocess.Popen([sys.executable, str(PROGRAM), server.url, loop], stderr=subprocess.DEVNULL)
            time.sleep(0.02)
    finally:
        worker.terminate()
        worker.wait(timeout=ALL_DONE_S)
    assert list(range(HARMLESS_COUNT)) == [handle.result(timeout=5) for handle in harmless]
    for handle in (poison, payment):
        with pytest.raises(JobCrashed):
            handle.result(timeout=5)
    broker = engine.connection.open()
    letters, _ = inspect.dead(broker, None, "", 10)
    engine.connection.close()
    assert {(poison.id, "crashed", 3), (payment.id, "crashed", 1)} == {
        (letter.id, letter.reason, letter.deliveries) for letter in letters
    }
    assert 1 == deaths.count(12)
    # A delivery to a worker that died before it got round to the job counts, too: it cannot be told from a start.
    assert 2 <= deaths.count(11) <= 3
