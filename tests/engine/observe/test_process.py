"""Figures of the process: what is counted, and that the samplers tell what happened."""

import gc
import time

import anyio
import pytest

from headrace.engine.observe.process import LAG_INTERVAL_S, CollectorPauses, LoopLag, ProcessWatch, rss_bytes
from headrace.engine.traffic import moved


class LateLoop:
    """A clock and a sleeper on it that comes late by given seconds, and ends the sampler after the last."""

    def __init__(self, *late_s: float) -> None:
        self.now_s = 100.0
        self._late_s = list(late_s)

    def clock(self) -> float:
        """Return the time."""
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        """Let the time pass, and the delay."""
        if not self._late_s:
            raise StopAsyncIteration
        self.now_s += duration_s + self._late_s.pop(0)


@pytest.mark.anyio
async def test_loop_lag_is_how_late_a_sleeper_wakes() -> None:
    """Of wake-ups 1, 30 and 2 ms late the window's longest is 30 ms."""
    loop = LateLoop(0.001, 0.030, 0.002)
    lag = LoopLag(clock=loop.clock, sleep=loop.sleep)
    with pytest.raises(StopAsyncIteration):
        await lag.run()
    seen = lag.window.snapshot(loop.now_s)
    assert 3 == seen.count
    assert pytest.approx(0.030) == seen.max_s


@pytest.mark.anyio
async def test_loop_lag_samples_the_running_loop_until_cancelled() -> None:
    """On a real loop a sample arrives without help, and cancelling ends the sampler."""
    slept = anyio.Event()
    sleeps_s: list[float] = []

    async def sleep(duration_s: float) -> None:
        if sleeps_s:  # the second sleep begins once the first has been counted
            slept.set()
        sleeps_s.append(duration_s)
        await anyio.sleep(duration_s)

    lag = LoopLag(sleep=sleep)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(lag.run)
            await slept.wait()
            group.cancel_scope.cancel()
    assert 1 == lag.window.snapshot(time.monotonic()).count
    assert [LAG_INTERVAL_S] * 2 == sleeps_s


def test_a_collection_is_seen_while_entered() -> None:
    """A collection inside the block is a pause; leaving the block takes the callback away."""
    before = list(gc.callbacks)
    with CollectorPauses() as pauses:
        gc.collect()
        assert 0 < (pauses.max_s(time.monotonic()) or 0)
    assert before == gc.callbacks


def test_no_collection_is_no_pause() -> None:
    """Without a collection the pause is unknown, not nought."""
    assert CollectorPauses().max_s(0.0) is None


def test_what_the_process_moved_is_in_its_figures() -> None:
    """Bytes of connections and files, whoever moved them, and the longest wait for a disk; see test_traffic.py."""
    watch, now_s = ProcessWatch(0.0), time.monotonic()
    before = watch.figures(now_s)
    moved.receive(1024)
    moved.send(7)
    moved.write(5)
    moved.confirm(now_s, 3600.0)
    after = watch.figures(now_s)
    assert (1024, 7, 5, 3_600_000.0) == (
        after.net_in_bytes - before.net_in_bytes,
        after.net_out_bytes - before.net_out_bytes,
        after.disk_written_bytes - before.disk_written_bytes,
        after.fsync_ms,
    )
    assert watch.figures(now_s + 90.0).fsync_ms is None


def test_processor_time_is_a_share_of_the_time_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds of processor time in two seconds are 150 %, and stay so for readings in quick succession."""
    used_s = [10.0]
    monkeypatch.setattr(time, "process_time", lambda: used_s[0])
    watch = ProcessWatch(100.0)
    used_s[0] = 13.0
    assert 150.0 == watch.figures(102.0).cpu_percent
    used_s[0] = 14.0
    assert 150.0 == watch.figures(102.1).cpu_percent


def test_resident_memory_is_of_this_process() -> None:
    """A Python interpreter takes more than 5 MB, and 32 MB more once it has written to as many."""
    before_bytes = rss_bytes()
    ballast = bytearray(b"\x01") * (32 << 20)
    assert 5 << 20 < before_bytes
    assert 28 << 20 < rss_bytes() - before_bytes
    assert 32 << 20 == len(ballast)
