"""One measurement of one peer: a fresh server, the jobs submitted, the workers started, all counted until it is empty.

The window opens when every worker has done a job and the warm-up's count is reached, and closes when all jobs are done
and the peer's queue on the server is empty. CPU and the server's counters are taken at both ends. Starting up is not in
it, settling the last job is.
"""

import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import redis
from support import cpu_s, server

from . import marks
from .environments import Environment, end, last_line
from .plan import About, Plan

#: A tenth of the jobs on top comes first, and at least so many: connections, code compiled while it runs, prefetching.
WARM_SHARE, WARM_MIN = 10, 100
DEADLINE_S = 180.0
LONE_JOBS, LONE_WARM = 400, 40


class Failed(Exception):
    """A measurement did not come to its end; the message says how far it came."""


@dataclass(frozen=True)
class Peer:
    """One row: an environment, what the peer says of itself, and the variant."""

    environment: Environment
    about: About
    variant: str

    @property
    def name(self) -> str:
        """Return the row's name."""
        return f"{self.environment.name}-{self.variant}" if self.variant else self.environment.name


@dataclass(frozen=True)
class Reading:
    """What the clocks and counters say at one moment."""

    at_s: float
    count: int
    worker_cpu_s: float
    server_cpu_s: float
    commands: int
    reads: int


class Place:
    """A server and a folder for marks, with the workers and producers that were started there."""

    def __init__(self, peer: Peer, plan: Plan, server_pid: int, folder: pathlib.Path) -> None:
        self.peer, self.plan, self.server_pid, self.folder = peer, plan, server_pid, folder
        self.connection = redis.Redis(unix_socket_path=plan.socket, protocol=2)
        self.workers: list[subprocess.Popen[str]] = []

    def start_worker(self) -> subprocess.Popen[str]:
        """Start a worker; what it prints goes to a file in the folder."""
        with (self.folder / "worker.log").open("a") as log:
            worker = self.peer.environment.start(self.plan, "work", stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def pending(self) -> int:
        """Return how many jobs the server still has, by the commands that the peer names."""
        total = 0
        for command in self.peer.about.pending:
            try:
                answer = self.connection.execute_command(*command)
            except redis.ResponseError:  # no such stream or group yet
                continue
            while isinstance(answer, (list, dict)):
                answer = answer["pending"] if isinstance(answer, dict) else answer[0]
            total += int(answer)
        return total

    def worker_cpu_s(self) -> float:
        """Return the CPU seconds of all processes of all workers."""
        return sum(cpu_s(pid) for pid in processes([worker.pid for worker in self.workers]))

    def read(self, at_s: float, count: int) -> Reading:
        """Read clocks and counters."""
        stats = self.connection.info("commandstats")
        commands = sum(entry["calls"] for name, entry in stats.items() if name not in OWN_COMMANDS)
        reads = self.connection.info("stats").get("total_reads_processed", 0)
        return Reading(at_s, count, self.worker_cpu_s(), cpu_s(self.server_pid), commands, reads)

    def complaint(self) -> str:
        """Return the last line that the workers printed."""
        return last_line((self.folder / "worker.log").read_text(errors="replace"))

    def close(self) -> None:
        """End the workers and close the connection."""
        for worker in self.workers:
            end(worker, signal.SIGKILL)
        self.connection.close()


#: What the driver itself asks.
OWN_COMMANDS = frozenset({"cmdstat_info"})


def processes(groups: Sequence[int]) -> Iterator[int]:
    """Yield the processes of some process groups."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                group = int((entry / "stat").read_text().rpartition(")")[2].split()[2])
            except OSError:
                continue
            if group in groups:
                yield int(entry.name)


def rss_mb(groups: Sequence[int]) -> float:
    """Return the resident memory of the processes of some groups, in MB."""
    total = 0.0
    for pid in processes(groups):
        try:
            total += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        except OSError:
            continue
    return total


@contextmanager
def place(peer: Peer, plan: Plan, fsync: str) -> Iterator[Place]:
    """Run a server and give the place in which the peer is measured."""
    with ExitStack() as stack:
        socket, server_pid = stack.enter_context(server(fsync))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="peers"))
        plan = replace(plan, socket=socket, variant=peer.variant, marks=folder)
        opened = Place(peer, plan, server_pid, pathlib.Path(folder))
        stack.callback(opened.close)
        yield opened


def wait_until(opened: Place, jobs: int, pause_s: float, deadline_s: float) -> dict[str, int]:
    """Wait until so many jobs are done; returns how many each process has done.

    Raises:
        Failed: they were not within the deadline, or a worker ended.
    """
    began_s = time.monotonic()
    while True:
        done = marks.look(opened.plan.marks)
        count = sum(done.values())
        if count >= jobs:
            return done
        if any(worker.poll() is not None for worker in opened.workers):
            raise Failed(f"a worker ended after {count} jobs: {opened.complaint()}")
        if time.monotonic() - began_s > deadline_s:
            raise Failed(f"{count} of {jobs} jobs within {deadline_s:.0f} s: {opened.complaint()}")
        time.sleep(pause_s)


def throughput(peer: Peer, plan: Plan, jobs: int, workers: int, fsync: str) -> dict[str, float]:
    """Measure one filled queue worked off.

    Raises:
        Failed: the jobs were not all done and settled in time.
    """
    warm = max(WARM_MIN, jobs // WARM_SHARE)
    with place(peer, plan, fsync) as opened:
        filled = peer.environment.ask(opened.plan, "fill", str(warm), str(jobs))
        for _ in range(workers):
            opened.start_worker()
        counts = wait_until(opened, warm, 0.005, DEADLINE_S)
        while sum(count > 0 for count in counts.values()) < workers:
            if sum(counts.values()) > warm + jobs / 2:
                raise Failed("half of the jobs were done before all workers began: raise --scale")
            time.sleep(0.005)
            counts = marks.look(opened.plan.marks)
        first = opened.read(time.monotonic(), sum(counts.values()))
        counts = wait_until(opened, jobs + warm, 0.005, DEADLINE_S)
        ran_s = time.monotonic()
        while pending := opened.pending():
            if time.monotonic() - ran_s > DEADLINE_S:
                raise Failed(f"all jobs ran, but {pending} are still pending: {opened.complaint()}")
            time.sleep(0.002)
        last = opened.read(time.monotonic(), sum(counts.values()))
        memory_mb = rss_mb([worker.pid for worker in opened.workers])
    done = last.count - first.count
    return {
        "jobs": done,
        "jobs_per_s": done / (last.at_s - first.at_s),
        "ran_twice": max(0, last.count - jobs - warm),  # none is lost: the window closes when all have run
        "ran_per_s": done / (ran_s - first.at_s),
        "worker_cpu_us": (last.worker_cpu_s - first.worker_cpu_s) / done * 1e6,
        "server_cpu_us": (last.server_cpu_s - first.server_cpu_s) / done * 1e6,
        "commands_per_job": (last.commands - first.commands) / done,
        "reads_per_job": (last.reads - first.reads) / done,
        "worker_rss_mb": memory_mb,
        **{name: float(value) for name, value in filled.items()},  # type: ignore[arg-type]
    }


def latency(peer: Peer, plan: Plan, fsync: str, jobs: int = LONE_JOBS) -> dict[str, float]:
    """Measure how long lone jobs wait on an idle worker.

    Raises:
        Failed: the jobs did not all run in time.
    """
    with place(peer, replace(plan, handler="stamp"), fsync) as opened:
        opened.start_worker()
        time.sleep(2.0)  # the worker is up and idle
        asked = peer.environment.ask(opened.plan, "ping", str(jobs + LONE_WARM))
        wait_until(opened, jobs + LONE_WARM, 0.05, 30.0)
        cuts = statistics.quantiles(marks.waits_ms(opened.plan.marks)[LONE_WARM:], n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], **{name: float(value) for name, value in asked.items()}}  # type: ignore[arg-type]
