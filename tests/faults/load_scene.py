"""What the load tests watch with: processes with settings, the server's answering times, and everybody's memory."""

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import redis
from checker import leftovers
from journal import until
from loaded import OTHER, Truth, make_engine

from servers import Server

PROGRAM = Path(__file__).with_name("loaded.py")
PING_EVERY_S, SAMPLE_EVERY_S = 0.005, 0.25
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """A look at a process.

    Attributes:
        rss_bytes: Its resident memory.
        files: Files and connections that it has open.
    """

    rss_bytes: int
    files: int


class Load:
    """The processes of one test, on one server; ends them by their own ids.

    Args:
        server: The server, emptied first.
        folder: Where the truth and the log go.
        settings: Settings of all engines.
    """

    def __init__(self, server: Server, folder: Path, **settings: object) -> None:
        self.server = server
        self.truth = Truth(folder)
        self.client = redis.Redis(unix_socket_path=server.unix_socket)
        self.client.flushall()
        self.log = folder / "log"
        self._folder = folder
        self._environment = {f"HEADRACE_{name.upper()}": str(value) for name, value in settings.items()}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.engine, self.jobs = make_engine(server.unix_url, self.truth, **settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.engine.connection.close()
        self.client.close()
        if error is not None:
            print(f"the processes said:\n{self.log.read_text()[-6000:] if self.log.exists() else ''}")

    def worker(self, loop: str) -> subprocess.Popen[bytes]:
        """Start a worker and return it once it has registered."""
        registered = self.client.zcard("headrace:{default}:workers")
        worker = self._start("work", loop)
        until(lambda: self.client.zcard("headrace:{default}:workers") > registered, "the worker to register")
        return worker

    def flood(self, loop: str) -> subprocess.Popen[bytes]:
        """Start a producer that is faster than the workers."""
        return self._start("flood", loop)

    def stop(self, *processes: subprocess.Popen[bytes]) -> None:
        """End processes in order; they must end well."""
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [0] * len(processes) == [process.wait(20.0) for process in processes]

    def leave(self, *workers: subprocess.Popen[bytes]) -> None:
        """See that all was done once and noted, and that the server holds nothing that it should not."""
        queues = [f"headrace:{{{queue}}}:" for queue in ("default", OTHER)]
        until(lambda: not any(self.client.xlen(f"{queue}jobs") for queue in queues), "the queues to be empty")
        until(lambda: not leftovers(self.client, workers=len(workers)), "what should not be there to go")
        ended = [queue + key for queue in queues for key in ("delayed", "bodies", "index", "dead", "cancelled")]
        assert 0 == self.client.exists(*ended)
        self.stop(*workers)
        assert [] == leftovers(self.client, workers=0)
        self.truth.flush()
        assert (0, 0, 0) == self.truth.lost_and_strange()

    def _start(self, role: str, loop: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(PROGRAM), role, self.server.unix_url, str(self._folder), loop]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, stderr=log, env=os.environ | self._environment)
        self._processes.append(process)
        return process


class Pings:
    """Asks a server for a sign of life all the time, from a thread of its own; use it as a context manager.

    Attributes:
        took_s: How long each answer took.
    """

    def __init__(self, server: Server) -> None:
        self.took_s: list[float] = []
        self._client = redis.Redis(unix_socket_path=server.unix_socket)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._done.wait(PING_EVERY_S):
            began_s = time.perf_counter()
            self._client.ping()
            self.took_s.append(time.perf_counter() - began_s)


class Samples:
    """Looks at processes for as long as it is told to.

    Args:
        pids: What each is called, and its process id.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self.seen: dict[str, list[Sample]] = {name: [] for name in pids}

    def watch(self, seconds: float) -> None:
        """Look for that long."""
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            for name, pid in self._pids.items():
                self.seen[name].append(look(pid))
            time.sleep(SAMPLE_EVERY_S)

    def fifths_mb(self) -> dict[str, list[float]]:
        """Return for each process the median memory of each fifth of the time, in MB."""
        return {
            name: [
                statistics.median(each.rss_bytes for each in part) / 1e6
                for part in ([*samples[len(samples) * i // 5 : len(samples) * (i + 1) // 5]] for i in range(5))
            ]
            for name, samples in self.seen.items()
        }

    def more_files(self) -> dict[str, int]:
        """Return for each process how many more files it had open at most in the last fifth than in the second."""
        found = {}
        for name, samples in self.seen.items():
            fifth = len(samples) // 5
            before = max(each.files for each in samples[fifth : 2 * fifth])
            found[name] = max(each.files for each in samples[-fifth:]) - before
        return found


def look(pid: int) -> Sample:
    """Return how a process is doing."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        pages = int(file.read().split()[1])
    return Sample(pages * _PAGE_BYTES, len(os.listdir(f"/proc/{pid}/fd")))


def waited_for_core_s(pid: int) -> float:
    """Return for how long a process could have run, since it began, and had no core to run on."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def quantiles_ms(took_s: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th of a hundred and the greatest, in milliseconds."""
    ordered, last = sorted(took_s), len(took_s) - 1
    places = {"p50": last // 2, "p99": last * 99 // 100, "max": last}
    return {name: round(ordered[place] * 1000, 2) for name, place in places.items()}
