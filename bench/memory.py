"""Does a worker's memory depend on how much is queued? Its RSS over a whole run, at a small and at a large backlog.

python bench/memory.py [--jobs 10000 1000000] [--loop asyncio] [--json]
"""

import argparse
import json
import os
import statistics
import time

import anyio
from support import child, machine, server

from headrace import Engine
from headrace.jobs.submission import DEFAULT


def rss_mb() -> float:
    """Return this process's resident memory in MB."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def make_engine(socket: str) -> Engine:
    engine = Engine(f"unix://{socket}", max_queue_length=0, result_ttl="10s")

    @engine.job
    async def noop(number: int, other: int, text: str) -> None:
        return None

    return engine


async def submit(socket: str, jobs: int) -> dict[str, float]:
    engine = make_engine(socket)
    plan = engine.registry.find("noop")
    async with engine:
        for first in range(0, jobs, 10_000):
            items = ((number, 2, "0123456789abcdef") for number in range(first, min(first + 10_000, jobs)))
            await engine.submit_plan_many(plan, items, DEFAULT)
    return {"submitted": jobs}


async def work(socket: str, jobs: int) -> dict[str, float]:
    engine, samples = make_engine(socket), []
    async with engine.running():
        sink = engine._worker._sink  # noqa: SLF001 - looked at often
        began_s = time.perf_counter()
        while (written := sink.statistics().written) < jobs:
            if written:
                samples.append(rss_mb())
            await anyio.sleep(0.05)
        took_s = time.perf_counter() - began_s
    tenth = max(1, len(samples) // 10)
    return {
        "rss_first_tenth_mb": statistics.median(samples[:tenth]) if samples else rss_mb(),
        "rss_last_tenth_mb": statistics.median(samples[-tenth:]) if samples else rss_mb(),
        "rss_max_mb": max(samples, default=rss_mb()),
        "jobs_per_s": jobs / took_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=("submit", "work"))
    parser.add_argument("--socket")
    arguments = parser.parse_args()
    if arguments.part:
        part = {"submit": submit, "work": work}[arguments.part]
        print(json.dumps(anyio.run(part, arguments.socket, arguments.jobs[0], backend=arguments.loop)))
        return
    rows = []
    for jobs in arguments.jobs:
        with server("no") as (socket, _):
            part = ["--socket", socket, "--jobs", str(jobs), "--loop", arguments.loop, "--part"]
            child("memory.py", *part, "submit")
            figures = child("memory.py", *part, "work")
            rows.append({"queued": jobs, **{name: round(value, 1) for name, value in figures.items()}})
    if arguments.json:
        print(json.dumps({"settings": machine(), "rows": rows}, indent=2))
        return
    print(" ".join(f"{name}={value}" for name, value in machine().items()))
    for row in rows:
        print("  ".join(f"{name}={value:,}" for name, value in row.items()))


if __name__ == "__main__":
    main()
