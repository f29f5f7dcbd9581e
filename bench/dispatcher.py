"""How many no-op jobs a second does the in-process Dispatcher run, against a bare task group and a semaphore?

The bare way is what one would write without headrace: `task_group.start_soon` for each job and an `anyio.Semaphore` of
as many places as slots. The Dispatcher does more for it: timeouts, tickets, statistics. Rounds alternate, each in a
process of its own; figures are medians. CPU is this process's own, of one core.

    python bench/dispatcher.py [--jobs N] [--rounds N] [--slots N] [--loop asyncio|uvloop|trio ...] [--json]
"""

import argparse
import json
import platform
import sys
import time

import anyio
from support import child, machine, median, spread

from headrace import Dispatcher

LOOPS = ("asyncio", "uvloop", "trio")
WAYS = ("bare", "dispatcher")
TIMEOUT_S = 5


async def noop() -> None:
    """Do nothing."""


async def bare(jobs: int, slots: int) -> None:
    """Run the jobs as one would without headrace."""
    semaphore = anyio.Semaphore(slots)

    async def run() -> None:
        async with semaphore:
            await noop()

    async with anyio.create_task_group() as group:
        for _ in range(jobs):
            group.start_soon(run)


async def dispatched(jobs: int, slots: int) -> None:
    """Run the jobs with the Dispatcher, a timeout on each."""
    async with Dispatcher(slots=slots, timeout=TIMEOUT_S) as dispatcher:
        for _ in range(jobs):
            await dispatcher.submit(noop)


async def measure(way: str, jobs: int, slots: int) -> dict[str, float]:
    """Return the figures of one way, after a warm-up of a tenth."""
    run = bare if way == "bare" else dispatched
    await run(jobs // 10, slots)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await run(jobs, slots)
    took_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return {"jobs_per_s": jobs / took_s, "cpu_us_per_job": used_s / jobs * 1e6}


def compare(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Return one row for each loop."""
    rows = []
    for loop in arguments.loop or LOOPS:
        figures: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way in WAYS:
                jobs = arguments.jobs if way == "dispatcher" else max(1, arguments.jobs // 10)
                options = ["--one", way, "--loop", loop, "--jobs", str(jobs), "--slots", str(arguments.slots)]
                figures[way].append(child("dispatcher.py", *options))
        row: dict[str, object] = {"loop": loop, "slots": arguments.slots, "rounds": arguments.rounds}
        for way in WAYS:
            row[f"{way}_per_s"] = round(median(figures[way], "jobs_per_s"))
            row[f"{way}_spread"] = spread(figures[way], "jobs_per_s")
            row[f"{way}_cpu_us"] = round(median(figures[way], "cpu_us_per_job"), 2)
        row["ratio"] = round(median(figures["dispatcher"], "jobs_per_s") / median(figures["bare"], "jobs_per_s"), 1)
        rows.append(row)
    return rows


def main() -> None:
    """Compare, or measure one way when told to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200_000, help="jobs of a round; the bare way runs a tenth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--loop", choices=LOOPS, action="append")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        loop = arguments.loop[0]
        backend, options = ("trio", {}) if loop == "trio" else ("asyncio", {"use_uvloop": loop == "uvloop"})
        jobs, slots = arguments.jobs, arguments.slots
        print(json.dumps(anyio.run(measure, arguments.one, jobs, slots, backend=backend, backend_options=options)))
        return
    rows = compare(arguments)
    where = {"python": platform.python_version(), "machine": machine()["machine"], "commit": machine()["commit"]}
    if arguments.json:
        json.dump({"where": where, "rows": rows}, sys.stdout)
        print()
        return
    print(f"no-op jobs/s, Python {where['python']}, {where['machine']}, commit {where['commit']}")
    for row in rows:
        print(
            f"{row['loop']:8} dispatcher {row['dispatcher_per_s']:>9,} ({row['dispatcher_spread']})"
            f"  bare {row['bare_per_s']:>8,} ({row['bare_spread']})  ratio {row['ratio']}"
        )


if __name__ == "__main__":
    main()
