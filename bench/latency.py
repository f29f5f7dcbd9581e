"""How long does a lone job take from another process's submit to the start of its handler, on an idle engine?

python bench/latency.py [--jobs 500] [--loop asyncio uvloop trio] [--fsync everysec always] [--json]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import anyio
import anyio.to_thread
from support import FSYNC, machine, server

from headrace import Engine

LOOPS = ("asyncio", "uvloop", "trio")
waits_ms: list[float] = []


def make_engine(socket: str) -> Engine:
    engine = Engine(f"unix://{socket}")

    @engine.job
    async def stamp(sent_ns: int) -> None:
        waits_ms.append((time.time_ns() - sent_ns) / 1e6)

    return engine


def produce(socket: str, jobs: int) -> None:
    """Submit one job after the other, with pauses, from a process of its own."""
    engine = make_engine(socket)
    for number in range(jobs + 20):
        handle = engine.sync.submit("stamp", (time.time_ns(),))
        time.sleep(0.005 + (number % 7) / 1000)
    handle.result(timeout=10)


async def measure(socket: str, jobs: int) -> dict[str, float]:
    waits_ms.clear()
    async with make_engine(socket).running():
        command = [sys.executable, __file__, "--produce", socket, "--jobs", str(jobs)]
        await anyio.to_thread.run_sync(lambda: subprocess.run(command, check=True))
    cuts = statistics.quantiles(waits_ms[20:], n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3), "jobs": len(waits_ms) - 20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--loop", choices=LOOPS, nargs="+", default=LOOPS)
    parser.add_argument("--fsync", choices=FSYNC, nargs="+", default=["everysec"])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--produce")
    arguments = parser.parse_args()
    if arguments.produce:
        produce(arguments.produce, arguments.jobs)
        return
    rows = []
    for fsync in arguments.fsync:
        for loop in arguments.loop:
            with server(fsync) as (socket, _):
                backend = "trio" if loop == "trio" else "asyncio"
                options = {"use_uvloop": True} if loop == "uvloop" else {}
                figures = anyio.run(measure, socket, arguments.jobs, backend=backend, backend_options=options)
                rows.append({"loop": loop, "fsync": fsync, **figures})
    if arguments.json:
        print(json.dumps({"settings": machine(), "rows": rows}, indent=2))
        return
    print(" ".join(f"{name}={value}" for name, value in machine().items()))
    for row in rows:
        print("  ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
