"""A loop that stands still for good ends its process; one that is slow, frozen with it, or ending does not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from headrace import Engine, JobCrashed
from headrace.engine.loops.stall import LOOKS, STALLED_EXIT_CODE, Stall
from servers import start_valkey

PROGRAM = Path(__file__).with_name("stalled_script.py")
#: Generous: it takes some 2 s.
ENDS_WITHIN_S = 30.0
#: What the program's worker has for `stall_limit`.
LIMIT_S = 1.0


@pytest.mark.anyio
async def test_a_loop_that_turns_is_left_alone() -> None:
    """However often somebody looks, nothing happens while the loop turns in between, be it once."""
    ended: list[float] = []
    stall = Stall(8.0, ended.append)
    async with anyio.create_task_group() as group:
        group.start_soon(stall.turn)
        for _ in range(3):
            await anyio.sleep(0.15)
            for _ in range(LOOKS - 1):
                stall.look()
        stall.rest()
    assert [] == ended


@pytest.mark.anyio
async def test_a_loop_that_stands_still_is_reported_at_the_limit() -> None:
    """When so many looks as make the limit find the loop where it was, its end is asked for with that time."""
    ended: list[float] = []
    stall = Stall(4.0, ended.append)
    for _ in range(LOOKS):
        stall.look()
    assert [] == ended
    stall.look()
    assert [4.0] == ended


@pytest.mark.anyio
async def test_turns_are_counted_while_the_end_takes_long() -> None:
    """Cancelled from outside, the loop is still seen to turn until the worker has ended."""
    ended: list[float] = []
    stall = Stall(1.0, ended.append)
    with anyio.move_on_after(10) as outer:
        async with anyio.create_task_group() as group:
            group.start_soon(stall.turn)
            await anyio.sleep(0.01)
            outer.cancel()
            with anyio.CancelScope(shield=True):
                for _ in range(LOOKS + 2):
                    await anyio.sleep(0.12)
                    stall.look()
            stall.rest()
    assert [] == ended


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_deadlocked_worker_does_not_keep_its_jobs(tmp_path: Path, loop: str) -> None:
    """A handler that blocks the loop for good ends its worker at the limit; in the end the job is given up."""
    with start_valkey(tmp_path) as server:
        engine = Engine(server.url)
        stuck = engine.sync.submit("block", (3600.0,))
        beside = engine.sync.submit("quick")
        for _ in range(2):
            stalled = start(server.url, loop)
            _, said = stalled.communicate(timeout=ENDS_WITHIN_S)
            assert STALLED_EXIT_CODE == stalled.returncode, said
            assert "held up the event loop for longer than stall_limit" in said
            assert "in block" in said  # where it is
        other = start(server.url, loop)
        try:
            assert "done" == beside.result(timeout=ENDS_WITHIN_S)
            with pytest.raises(JobCrashed, match="max_deliveries"):
                stuck.result(timeout=ENDS_WITHIN_S)
            assert other.poll() is None
        finally:
            other.terminate()
            other.communicate(timeout=ENDS_WITHIN_S)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_slow_or_frozen_worker_goes_on(tmp_path: Path, loop: str) -> None:
    """A handler that blocks for less than the limit, and a process that is frozen for longer, end nothing."""
    with start_valkey(tmp_path) as server:
        engine = Engine(server.url)
        worker = start(server.url, loop)
        try:
            assert "blocked" == engine.sync.submit("block", (LIMIT_S / 2,)).result(timeout=ENDS_WITHIN_S)
            worker.send_signal(signal.SIGSTOP)
            time.sleep(2 * LIMIT_S)
            worker.send_signal(signal.SIGCONT)
            assert "done" == engine.sync.submit("quick").result(timeout=ENDS_WITHIN_S)
            assert worker.poll() is None
        finally:
            worker.terminate()
            _, said = worker.communicate(timeout=ENDS_WITHIN_S)
        assert 0 == worker.returncode, said


def start(url: str, loop: str) -> subprocess.Popen[str]:
    """Start a worker."""
    return subprocess.Popen([sys.executable, str(PROGRAM), url, loop, str(LIMIT_S)], stderr=subprocess.PIPE, text=True)
