"""A lone job on an idle engine, many times: from submit to its result in the submitter's hands.

The worker is a child, as a web server's workers are; the submitter is this process, on a loop or in a thread.
"""

import argparse
import random
import time

import anyio
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.profiling import profiled
from measuring.servers import cpu_s, server

from headrace import Engine

from .latency import WARM_UP, percentiles
from .serving import workers

#: Pauses are random up to this, so that they follow no beat of the engine's.
PAUSE_MAX_S = 0.02
PATIENCE_S = 10


async def measure(socket: str, jobs: int) -> list[float]:
    """Submit one job after the other and await each; returns how long each took, in milliseconds."""
    took_ms = []
    async with Engine(f"unix://{socket}") as engine:
        for number in range(jobs + WARM_UP):
            began_s = time.perf_counter()
            handle = await engine.submit("echo", (number,))
            assert number == await handle.result(timeout=PATIENCE_S)
            took_ms.append((time.perf_counter() - began_s) * 1000)
            await anyio.sleep(random.random() * PAUSE_MAX_S)
    return took_ms


def measure_blocking(socket: str, jobs: int) -> list[float]:
    """Do the same from a thread without a loop."""
    engine, took_ms = Engine(f"unix://{socket}"), []
    for number in range(jobs + WARM_UP):
        began_s = time.perf_counter()
        assert number == engine.sync.submit("echo", (number,)).result(timeout=PATIENCE_S)
        took_ms.append((time.perf_counter() - began_s) * 1000)
        time.sleep(random.random() * PAUSE_MAX_S)
    return took_ms


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--blocking", action="store_true", help="submit from a thread without a loop")
    arguments: argparse.Namespace = made.parse_args()
    end_by_signal()
    with server(arguments.fsync) as (socket, pid), workers(socket, 1, arguments.slots) as (worker,):
        used_s = [-cpu_s(worker.pid), -cpu_s(pid), -time.process_time()]
        if arguments.blocking:
            with profiled():
                took_ms = measure_blocking(socket, arguments.jobs)
        else:
            took_ms = run_on(arguments.loop, measure, socket, arguments.jobs)
        now_s = (cpu_s(worker.pid), cpu_s(pid), time.process_time())
    names = ("cpu_us_per_job", "server_cpu_us_per_job", "producer_cpu_us_per_job")
    cpu = {name: (before + now) / len(took_ms) * 1e6 for name, before, now in zip(names, used_s, now_s, strict=True)}
    report({**percentiles(took_ms[WARM_UP:]), **cpu})


if __name__ == "__main__":
    main()
