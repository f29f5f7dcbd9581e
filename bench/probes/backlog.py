"""A worker before a long queue, once: its rate, its fetches and its memory over the first jobs of the backlog.

Children fill the queue, so this process is the worker and nothing else. The rate counts between settlings on the
server, after the first that warm the worker up: the prefetch follows the speed, and takes some thousand jobs to find
it. A backlog that is shorter than what is measured is filled again and again.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import anyio
from measuring.children import end, module
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.servers import HERE, cpu_s, rss_mb, server

from headrace import Engine

from .handlers import Starts, items
from .latency import percentiles

#: Not counted, at the beginning of each fill.
WARM_UP = 3_000
SUBMIT_COUNT = 10_000
LOOK_S = 0.02
#: Up to so many jobs the start of a second process takes longer than it saves.
ONE_FILLS_MAX = 500_000


class Watched:
    """Notes what a broker's fetches and settlings brought, and when.

    Args:
        broker: The broker; its two verbs are replaced.
    """

    def __init__(self, broker: Any) -> None:
        self.fetches: list[tuple[float, int]] = []
        self.settled: list[tuple[float, int]] = []
        self.settled_count = 0
        self._fetch, self._settle = broker.fetch, broker.settle
        broker.fetch, broker.settle = self.fetch, self.settle

    def fetch(self, *arguments: Any) -> Any:
        began_s = time.perf_counter()
        leases = self._fetch(*arguments)
        if leases:
            self.fetches.append((time.perf_counter() - began_s, len(leases)))
        return leases

    def settle(self, dispositions: Sequence[Any]) -> int:
        refused: int = self._settle(dispositions)
        self.settled_count += len(dispositions) - refused
        self.settled.append((time.perf_counter(), self.settled_count))
        return refused

    def measured(self, until_count: int) -> tuple[int, float]:
        """Return how many jobs were settled after the warm-up, and in how many seconds.

        Raises:
            SystemExit: no batch came after the warm-up; the measurement was given too few jobs.
        """
        first = next((mark for mark in self.settled if mark[1] >= WARM_UP), self.settled[0])
        last = next((mark for mark in self.settled if mark[1] >= until_count), self.settled[-1])
        if last[1] <= first[1]:
            raise SystemExit(f"{until_count} jobs are over in the warm-up of {WARM_UP}: measure more, such as 20000")
        return last[1] - first[1], last[0] - first[0]


def make_engine(socket: str, arguments: argparse.Namespace, starts: Starts) -> tuple[Engine, Any]:
    """Return an engine without a bound, and its handler."""
    engine = Engine(f"unix://{socket}", slots=arguments.slots, max_queue_length=0, max_queue_bytes=0, result_ttl="10s")
    return engine, engine.job(name="noop")(starts.handler("async", 0))


async def submit(socket: str, arguments: argparse.Namespace) -> None:
    """Fill the queue, or a part of it."""
    engine, noop = make_engine(socket, arguments, Starts(0))
    async with engine:
        for first in range(arguments.first, arguments.first + arguments.jobs, SUBMIT_COUNT):
            await noop.submit_many(items(min(SUBMIT_COUNT, arguments.first + arguments.jobs - first), first=first))


def fill(socket: str, queued: int) -> None:
    """Have children fill the queue; two for a long one, since one does not keep the server busy."""
    parts = 2 if queued > ONE_FILLS_MAX else 1
    each = -(-queued // parts)
    children: list[subprocess.Popen[bytes]] = []
    try:
        for part in range(parts):
            numbers = ["--first", str(part * each), "--jobs", str(min(each, queued - part * each))]
            command = [sys.executable, *module("backlog"), "--submit", socket, *numbers]
            children.append(subprocess.Popen(command, cwd=HERE))
        codes = [child.wait() for child in children]
        if any(codes):
            raise SystemExit(f"the queue could not be filled with {queued} jobs")
    finally:
        for child in children:
            end(child)


async def work(socket: str, arguments: argparse.Namespace, memory_mb: list[float]) -> tuple[Watched, Starts]:
    """Work until the measured part of the backlog is settled."""
    starts, until_count = Starts(arguments.queued, sparse=True), min(arguments.jobs, arguments.queued)
    engine, _ = make_engine(socket, arguments, starts)
    watched = Watched(engine.connection.open())
    async with engine.running():
        while watched.settled_count < until_count:
            if watched.settled_count >= WARM_UP:
                memory_mb.append(rss_mb())
            await anyio.sleep(LOOK_S)
        memory_mb.append(rss_mb())
    engine.connection.close()
    return watched, starts


def measure(socket: str, server_pid: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Fill and work, as often as it takes to measure enough."""
    jobs = count = duplicates = 0
    took_s = own_cpu_s = server_cpu_s = server_mb = submit_s = 0.0
    memory_mb: list[float] = []
    fetches: list[tuple[float, int]] = []
    fills = max(1, min(arguments.fills_max, arguments.jobs // arguments.queued))
    for _ in range(fills):
        began_s = time.perf_counter()
        fill(socket, arguments.queued)
        submit_s += time.perf_counter() - began_s
        server_mb = rss_mb(server_pid)
        own_cpu_s, server_cpu_s = own_cpu_s - time.process_time(), server_cpu_s - cpu_s(server_pid)
        watched, starts = run_on(arguments.loop, work, socket, arguments, memory_mb)
        own_cpu_s, server_cpu_s = own_cpu_s + time.process_time(), server_cpu_s + cpu_s(server_pid)
        found_count, found_s = watched.measured(min(arguments.jobs, arguments.queued))
        jobs, took_s, count = jobs + found_count, took_s + found_s, count + watched.settled_count
        duplicates += starts.duplicates()
        fetches += watched.fetches
    times = percentiles([seconds * 1000 for seconds, _ in fetches])
    return {
        "jobs_per_s": jobs / took_s,
        "submit_per_s": arguments.queued * fills / submit_s,
        "fetch_p50_ms": times["p50_ms"],
        "fetch_p99_ms": times["p99_ms"],
        "fetch_jobs": statistics.median(found for _, found in fetches),
        "cpu_us_per_job": own_cpu_s / count * 1e6,
        "server_cpu_us_per_job": server_cpu_s / count * 1e6,
        "rss_mb": max(memory_mb),
        "rss_growth_mb": max(memory_mb) - memory_mb[0],
        "server_rss_mb": server_mb,
        "measured": jobs,
        "duplicates": duplicates,
    }


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--queued", type=int, default=100_000, help="how long the queue is")
    made.add_argument("--fills-max", type=int, default=10, help="how often a short queue is filled again at most")
    made.add_argument("--submit", metavar="SOCKET", help=argparse.SUPPRESS)
    made.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    arguments = made.parse_args()
    if arguments.submit:
        anyio.run(submit, arguments.submit, arguments)
        return
    end_by_signal()
    with server(arguments.fsync) as (socket, pid):
        report(measure(socket, pid, arguments))


if __name__ == "__main__":
    main()
