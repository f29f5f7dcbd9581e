"""A lone job on an idle engine, many times: from another process's submit to the start of its handler.

The worker is this process, the producer a child that submits one job after the other with pauses between. Both read the
wall clock, which is one clock on one machine.
"""

import argparse
import statistics
import subprocess
import sys
import time

import anyio
import anyio.to_thread
from measuring.children import module
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.servers import HERE, cpu_s, server

from headrace import Engine

#: The first jobs open connections and load scripts.
WARM_UP = 20
PATIENCE_S = 10


def make_engine(socket: str, waits_ms: list[float], slots: int) -> Engine:
    """Return an engine whose handler notes how long its job took to get there."""
    engine = Engine(f"unix://{socket}", slots=slots)

    @engine.job
    async def stamp(sent_ns: int) -> None:
        waits_ms.append((time.time_ns() - sent_ns) / 1e6)

    return engine


def produce(socket: str, jobs: int) -> None:
    """Submit one job after the other, with pauses that follow no beat of the engine's."""
    engine = make_engine(socket, [], 1)
    handle = None
    for number in range(jobs + WARM_UP):
        handle = engine.sync.submit("stamp", (time.time_ns(),))
        time.sleep(0.005 + (number % 7) / 1000)
    assert handle is not None
    handle.result(timeout=PATIENCE_S)


async def measure(socket: str, server_pid: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Work until the producer has its last result; CPU is that of the idle pauses, too."""
    waits_ms: list[float] = []
    command = [sys.executable, *module("latency"), "--produce", socket, "--jobs", str(arguments.jobs)]
    async with make_engine(socket, waits_ms, arguments.slots).running():
        own_cpu_s, server_cpu_s = time.process_time(), cpu_s(server_pid)
        await anyio.to_thread.run_sync(lambda: subprocess.run(command, cwd=HERE, check=True))
        own_cpu_s, server_cpu_s = time.process_time() - own_cpu_s, cpu_s(server_pid) - server_cpu_s
    jobs = arguments.jobs + WARM_UP
    return {
        **percentiles(waits_ms[WARM_UP:]),
        "cpu_us_per_job": own_cpu_s / jobs * 1e6,
        "server_cpu_us_per_job": server_cpu_s / jobs * 1e6,
        "lost": max(0, jobs - len(waits_ms)),
        "duplicates": max(0, len(waits_ms) - jobs),
    }


def percentiles(values_ms: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    cuts = statistics.quantiles(values_ms, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98]}


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--produce", metavar="SOCKET", help=argparse.SUPPRESS)
    arguments = made.parse_args()
    if arguments.produce:
        produce(arguments.produce, arguments.jobs)
        return
    end_by_signal()
    with server(arguments.fsync) as (socket, pid):
        report(run_on(arguments.loop, measure, socket, pid, arguments))


if __name__ == "__main__":
    main()
