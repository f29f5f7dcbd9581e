"""How long does a lone job take from submit to its result in the submitter's hands, on an idle engine?

Worker and submitter are processes of their own, as a web server and its workers are; the handler does nothing.

    python bench/waiting.py [--jobs 300] [--loop asyncio uvloop trio] [--fsync everysec always] [--json]
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time

import anyio
from support import FSYNC, machine, server

from headrace import Engine

LOOPS = ("asyncio", "uvloop", "trio")


def make_engine(socket: str) -> Engine:
    engine = Engine(f"unix://{socket}")

    @engine.job
    async def nothing(number: int) -> int:
        return number

    return engine


async def measure(socket: str, jobs: int) -> dict[str, float]:
    """Submit one job after the other and wait for each, by await and by blocking."""
    engine = make_engine(socket)
    took_ms: list[float] = []
    async with engine:
        for number in range(jobs + 20):
            began_s = time.perf_counter()
            handle = await engine.submit("nothing", (number,))
            assert number == await handle.result(timeout=10)
            took_ms.append((time.perf_counter() - began_s) * 1000)
            await anyio.sleep(random.random() / 50)
    cuts = statistics.quantiles(took_ms[20:], n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3), "jobs": jobs}


def measure_blocking(socket: str, jobs: int) -> dict[str, float]:
    """Do the same from a thread without a loop."""
    engine = make_engine(socket)
    took_ms: list[float] = []
    for number in range(jobs + 20):
        began_s = time.perf_counter()
        assert number == engine.sync.submit("nothing", (number,)).result(timeout=10)
        took_ms.append((time.perf_counter() - began_s) * 1000)
        time.sleep(random.random() / 50)
    cuts = statistics.quantiles(took_ms[20:], n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3), "jobs": jobs}


def work(socket: str) -> None:
    anyio.run(make_engine(socket).run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--loop", choices=LOOPS, nargs="+", default=LOOPS)
    parser.add_argument("--fsync", choices=FSYNC, nargs="+", default=["everysec"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work")
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return
    rows = []
    for fsync in arguments.fsync:
        with server(fsync) as (socket, _):
            worker = subprocess.Popen([sys.executable, __file__, "--work", socket], stderr=subprocess.DEVNULL)
            try:
                for loop in arguments.loop:
                    backend = "trio" if loop == "trio" else "asyncio"
                    options = {"use_uvloop": True} if loop == "uvloop" else {}
                    figures = anyio.run(measure, socket, arguments.jobs, backend=backend, backend_options=options)
                    rows.append({"how": loop, "fsync": fsync, **figures})
                rows.append({"how": "blocking", "fsync": fsync, **measure_blocking(socket, arguments.jobs)})
            finally:
                worker.terminate()
                worker.wait()
    if arguments.json:
        print(json.dumps({"settings": machine(), "rows": rows}, indent=2))
        return
    print(" ".join(f"{name}={value}" for name, value in machine().items()))
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
