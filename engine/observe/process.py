"""Figures of this process: memory, processor, loop lag, collector pauses, bytes in and out, waits for the disk.

Linux is read from /proc, macOS through getrusage; what neither knows (bytes of our own connections and files) is
counted by whoever moves them, in traffic.py. Nothing here ever waits, save the lag sampler, which sleeps. The
ProcessWatch belongs to the loop's thread; the collector's callback may be elsewhere.
"""

import gc
import resource
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Literal, Self

import anyio

from ..traffic import moved
from .histogram import WindowedHistogram
from .statistics import ProcessFigures

#: How often the loop is asked how late it is: often enough to meet a 50 ms block, at 20 wake-ups a second.
LAG_INTERVAL_S: Final = 0.05
#: For how long single delays are remembered; at most 20 a second, and only those that no later one exceeds.
_RECENT_MAX_S: Final = 10.0
#: Below this, a share of processor time is mostly rounding; the last one is given again.
CPU_INTERVAL_MIN_S: Final = 0.5
#: Pauses kept between two readings; the young generation is collected some hundred times a second under load.
_PAUSES_MAX: Final = 4096


class LoopLag:
    """Measures how late the event loop wakes a sleeper.

    Args:
        clock: Gives monotonic seconds.
        sleep: Sleeps for seconds on the loop that is measured.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        #: Seconds that each wake-up came late.
        self.window = WindowedHistogram()
        #: When each wake-up was, and how late, those apart that came later than one before.
        self._latest: deque[tuple[float, float]] = deque()

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            before_s = self._clock()
            await self._sleep(LAG_INTERVAL_S)
            now_s = self._clock()
            lag_s = now_s - before_s - LAG_INTERVAL_S
            self.window.record(now_s, lag_s)
            while self._latest and self._latest[-1][1] <= lag_s:
                self._latest.pop()
            self._latest.append((now_s, lag_s))
            while self._latest[0][0] < now_s - _RECENT_MAX_S:
                self._latest.popleft()

    def recent_s(self, now_s: float, within_s: float) -> float | None:
        """Return the longest delay of the last `within_s` seconds, at most _RECENT_MAX_S; None when nobody looked."""
        if not self._latest:
            return None
        since_s = now_s - self._latest[-1][0] - LAG_INTERVAL_S  # it may be late right now
        return max(0.0, since_s, *[lag_s for at_s, lag_s in self._latest if at_s >= now_s - within_s])


class CollectorPauses:
    """Measures the garbage collector's pauses while it is entered as a context manager."""

    def __init__(self) -> None:
        self._began_s = 0.0
        # The callback runs wherever a collection happens to be due, even in the midst of a reading: it only appends,
        # and readings move what is here into the window.
        self._pauses: deque[tuple[float, float]] = deque(maxlen=_PAUSES_MAX)
        self._window = WindowedHistogram()

    def __enter__(self) -> Self:
        gc.callbacks.append(self._on_phase)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.callbacks.remove(self._on_phase)

    def max_s(self, now_s: float) -> float | None:
        """Return the longest pause of the last 60 seconds; None when there was none."""
        while self._pauses:
            ended_s, pause_s = self._pauses.popleft()
            self._window.record(ended_s, pause_s)
        return self._window.snapshot(now_s).max_s

    def _on_phase(self, phase: Literal["start", "stop"], _info: dict[str, int]) -> None:
        now_s = time.monotonic()
        if phase == "start":
            self._began_s = now_s
        elif self._began_s:
            self._pauses.append((now_s, now_s - self._began_s))


class ProcessWatch:
    """Reads the figures of this process.

    Args:
        now_s: Monotonic seconds.
    """

    def __init__(self, now_s: float) -> None:
        self.lag = LoopLag()
        self.pauses = CollectorPauses()
        self._cpu_at_s = now_s
        self._cpu_s = time.process_time()
        self._cpu_percent = 0.0

    def figures(self, now_s: float) -> ProcessFigures:
        """Return the figures at monotonic time `now_s`."""
        return ProcessFigures(
            rss_bytes=rss_bytes(),
            cpu_percent=self._read_cpu_percent(now_s),
            loop_lag_ms=_ms(self.lag.window.snapshot(now_s).max_s),
            gc_pause_ms=_ms(self.pauses.max_s(now_s)),
            net_in_bytes=moved.received_bytes,
            net_out_bytes=moved.sent_bytes,
            disk_written_bytes=moved.written_bytes,
            fsync_ms=_ms(moved.longest_wait_s(now_s)),
        )

    def _read_cpu_percent(self, now_s: float) -> float:
        elapsed_s = now_s - self._cpu_at_s
        if elapsed_s >= CPU_INTERVAL_MIN_S:
            cpu_s = time.process_time()
            self._cpu_percent = 100 * (cpu_s - self._cpu_s) / elapsed_s
            self._cpu_at_s, self._cpu_s = now_s, cpu_s
        return self._cpu_percent


def rss_bytes() -> int:
    """Return the resident memory of this process; on macOS its peak, for the standard library knows no more there."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes there, kilobytes on Linux
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _ms(value_s: float | None) -> float | None:
    return None if value_s is None else value_s * 1000
