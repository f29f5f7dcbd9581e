"""The program of the load tests: a worker or a producer, whose truth is files of numbers outside the server.

    loaded.py work URL FOLDER LOOP     works until told to stop
    loaded.py flood URL FOLDER LOOP    submits faster than anybody can work, until told to stop

Settings come from the environment. Nobody is killed here, so numbers are gathered and written now and then and at the
end; a call to the file system for each job would slow down what is to be measured.
"""

import os
import signal
import sys
import threading
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import anyio

from headrace import Engine, QueueFull, Retry
from headrace.config.logs import configure

SLOTS = 20
#: The second queue, which no herd is in.
OTHER = "other"
#: How many numbers are gathered.
GATHERED_COUNT = 1_000
#: What a flood has on its way at a time: jobs on their own, each in a round trip with its neighbours, and one batch.
SINGLES, BATCH_COUNT = 10, 50
#: How long its jobs take: so long that the handlers and not the machine's other work say how fast a queue drains, and
#: the number of records, and with it the server's memory, stays the same.
FLOOD_JOB_MS = 40.0
#: How long a producer leaves a full queue alone.
FULL_PAUSE_S = 0.01
#: How failing jobs are tried again: often, and in the end `RETRY_MAX_S` apart, less up to half.
RETRY_MAX_S = 0.8
STUBBORN = Retry(attempts=10_000, delay=0.1, factor=2.0, max_delay=RETRY_MAX_S, jitter=0.5)
#: How long a call to a target takes that does not answer.
CALL_S = 0.01


class Numbers:
    """A file of numbers, for writing, from any thread, and for reading.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gathered = array("d")
        self._lock = threading.RLock()

    def note(self, *numbers: float) -> None:
        """Add numbers; they are in the file after `flush`."""
        with self._lock:
            self._gathered.extend(numbers)
            if len(self._gathered) >= GATHERED_COUNT:
                self.flush()

    def flush(self) -> None:
        """Write what was gathered, with one call."""
        with self._lock, self._path.open("ab", buffering=0) as file:
            file.write(self._gathered.tobytes())
            del self._gathered[:]

    def read(self) -> list[float]:
        """Return all that is in the file."""
        found = array("d")
        if self._path.exists():
            found.frombytes(self._path.read_bytes())
        return found.tolist()


class Truth:
    """What happened, a file for each kind and process.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Numbers] = {}

    def note(self, what: str, *numbers: float) -> None:
        """Note numbers of a kind."""
        if what not in self._files:
            self._files[what] = Numbers(self._folder / f"{what}.{os.getpid()}")
        self._files[what].note(*numbers)

    def flush(self) -> None:
        """Write what was gathered."""
        for each in self._files.values():
            each.flush()

    def read(self, what: str) -> list[float]:
        """Return the numbers of a kind, of all processes."""
        return [number for path in self._folder.glob(f"{what}.*") for number in Numbers(path).read()]

    def count(self, what: str) -> int:
        """Return how many numbers of a kind are in the files."""
        return sum(path.stat().st_size for path in self._folder.glob(f"{what}.*")) // 8

    def lost_and_strange(self) -> tuple[int, int, int]:
        """Return how many jobs were acknowledged and not done, done and not acknowledged, and done more than once."""
        acknowledged, done = self.read("ok"), Counter(self.read("done"))
        known = set(acknowledged)
        assert len(known) == len(acknowledged), "a number stands for two jobs"
        return len(known - done.keys()), len(done.keys() - known), sum(1 for count in done.values() if count > 1)


def make_engine(url: str, truth: Truth, **settings: Any) -> tuple[Engine, Mapping[str, Any]]:
    """Return an engine whose handlers note what they do, and the handlers by name."""
    engine = Engine(url, slots=SLOTS, drain_timeout=5, **settings)

    @engine.job
    async def due(number: int) -> None:
        """One of a herd: no work of its own, so that the engine is what is measured."""
        truth.note("done", number)

    @engine.job
    async def live(number: int, submitted_s: float) -> None:
        """Note how long it took to start, by the machine's clock."""
        truth.note("live", number, time.monotonic() - submitted_s)

    @engine.job
    async def slow(number: int, milliseconds: float) -> None:
        await anyio.sleep(milliseconds / 1000)
        truth.note("done", number)

    @engine.job(retry=STUBBORN)
    async def call(number: int, target: str) -> None:
        """Call a target that may be down."""
        truth.note("tried", time.monotonic())
        await anyio.sleep(CALL_S)
        if not os.path.exists(target):
            raise ConnectionError("the target is down")
        truth.note("done", number)

    return engine, {each.plan.name: each for each in (due, live, slow, call)}


class Flood:
    """Submits as fast as jobs are taken; a refused one is tried again in a while, until it is taken.

    Args:
        slow: The handler.
        truth: Takes the numbers of what was acknowledged, and when something was refused.
    """

    def __init__(self, slow: Any, truth: Truth) -> None:
        self._slow = slow.options(on_full="reject")
        self._truth = truth
        self._numbers = count(os.getpid() << 30)
        self._stopping = False

    async def run(self) -> None:
        """Submit until told to stop; what is on its way then is waited for, so that its fate is known."""
        async with anyio.create_task_group() as group:
            for _ in range(SINGLES):
                group.start_soon(self._submit, 1)
            group.start_soon(self._submit, BATCH_COUNT)
            group.start_soon(self._write)
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    self._stopping = True
                    break

    async def _submit(self, jobs: int) -> None:
        while not self._stopping:
            batch = [next(self._numbers) for _ in range(jobs)]
            while not await self._take(batch) and not self._stopping:
                await anyio.sleep(FULL_PAUSE_S)

    async def _take(self, batch: Sequence[int]) -> bool:
        try:
            if len(batch) == 1:
                await self._slow.submit(batch[0], FLOOD_JOB_MS)
            else:
                await self._slow.submit_many((number, FLOOD_JOB_MS) for number in batch)
        except QueueFull:
            self._truth.note("refused", time.monotonic())
            return False
        self._truth.note("ok", *batch)
        return True

    async def _write(self) -> None:
        while not self._stopping:
            await anyio.sleep(0.1)
            self._truth.flush()


async def flood(engine: Engine, jobs: Mapping[str, Any], truth: Truth) -> None:
    """Submit faster than anybody can work."""
    async with engine:
        await Flood(jobs["slow"], truth).run()


async def work(engine: Engine, _: Mapping[str, Any], truth: Truth) -> None:
    """Work, and write down now and then."""

    async def write() -> None:
        while True:
            await anyio.sleep(0.1)
            truth.flush()

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await engine.run(queues={"default": 1, OTHER: 1})
        group.cancel_scope.cancel()


def main() -> None:
    """Run until told to stop."""
    role, url, folder, loop = sys.argv[1:]
    configure("info", "json")
    truth = Truth(Path(folder))
    engine, jobs = make_engine(url, truth)
    try:
        anyio.run({"work": work, "flood": flood}[role], engine, jobs, truth, backend=loop)
    finally:
        truth.flush()


if __name__ == "__main__":
    main()
