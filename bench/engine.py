"""How much of the possible does the engine reach?

No-op jobs with results, statistics and a registration on, beside the floor (bench/floor.py) in alternating rounds;
counted when the last job is settled on the server.

    python bench/engine.py [--rounds 5] [--jobs N] [--loop asyncio uvloop trio] [--fsync everysec always] [--json]
    python bench/engine.py --one ... measures the engine once in this process and prints one JSON line.
"""

import argparse
import json
import os
import resource
import time

import anyio
from support import FSYNC, child, cpu_s, machine, median, ratio, server, spread

from headrace import Engine

LOOPS = ("asyncio", "uvloop", "trio")


async def measure(socket: str, server_pid: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Submit the jobs, then work them off."""
    engine = Engine(f"unix://{socket}", slots=arguments.slots, result_ttl=0 if arguments.no_results else "5m")
    began_s = 0.0

    if arguments.sleep_ms:

        @engine.job(name="noop")
        async def sleeping(number: int, other: int, text: str) -> None:
            nonlocal began_s
            began_s = began_s or time.perf_counter()
            await anyio.sleep(arguments.sleep_ms / 1000)

        noop = sleeping
    else:

        @engine.job(name="noop")
        async def nothing(number: int, other: int, text: str) -> None:
            nonlocal began_s
            began_s = began_s or time.perf_counter()

        noop = nothing

    async with engine:
        submit_from_s = time.perf_counter()
        await noop.submit_many((number, 2, "0123456789abcdef") for number in range(arguments.jobs))
        submit_per_s = arguments.jobs / (time.perf_counter() - submit_from_s)
        if arguments.pause_s:
            await anyio.sleep(arguments.pause_s)
        own_cpu_s, server_cpu_s = time.process_time(), cpu_s(server_pid)
        async with engine.running():
            sink = engine._worker._sink  # noqa: SLF001 - looking at statistics() often would be what is measured
            while sink.statistics().written < arguments.jobs:
                await anyio.sleep(0.01)  # a hundredth of a second late is 1 % of the shortest run; looking costs, too
            took_s = time.perf_counter() - began_s
            own_cpu_s, server_cpu_s = time.process_time() - own_cpu_s, cpu_s(server_pid) - server_cpu_s
            figures = engine.statistics()
    jobs = arguments.jobs
    return {
        "jobs_per_s": jobs / took_s,
        "submit_per_s": submit_per_s,
        "cpu_us_per_job": own_cpu_s / jobs * 1e6,
        "server_cpu_us_per_job": server_cpu_s / jobs * 1e6,
        "run_p99_ms": figures.latency_ms.run.p99 or 0.0,
        "failed": figures.errors.failed,
        "flushes": figures.backpressure.sinks["broker"].flushes,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def one(arguments: argparse.Namespace) -> None:
    loop = arguments.loop[0]
    with server(arguments.fsync[0]) as (socket, pid):
        backend = "trio" if loop == "trio" else "asyncio"
        options = {"use_uvloop": True} if loop == "uvloop" else {}
        if os.environ.get("BENCH_PROFILE"):
            import cProfile

            profile = cProfile.Profile()
            profile.enable()
            anyio.run(measure, socket, pid, arguments, backend=backend, backend_options=options)
            profile.disable()
            profile.dump_stats(os.environ["BENCH_PROFILE"])
            return
        print(json.dumps(anyio.run(measure, socket, pid, arguments, backend=backend, backend_options=options)))


def compare(arguments: argparse.Namespace) -> None:
    shown: dict[str, object] = {"settings": {**machine(), "jobs": arguments.jobs, "slots": arguments.slots,
        "rounds": arguments.rounds, "sleep_ms": arguments.sleep_ms, "results": not arguments.no_results}}  # fmt: skip
    base = ["--jobs", str(arguments.jobs), "--slots", str(arguments.slots), "--sleep-ms", str(arguments.sleep_ms)]
    base += ["--no-results"] if arguments.no_results else []
    rows = []
    for fsync in arguments.fsync:
        rounds: dict[tuple[str, str], list[dict[str, float]]] = {}
        for _ in range(arguments.rounds):
            for loop in arguments.loop:
                where = ["--fsync", fsync, "--loop", loop]
                rounds.setdefault(("floor", loop), []).append(child("floor.py", *base, *where))
                rounds.setdefault(("engine", loop), []).append(child("engine.py", "--one", *base, *where))
        for loop in arguments.loop:
            floor, engine = rounds["floor", loop], rounds["engine", loop]
            rows.append({
                "loop": loop, "fsync": fsync,
                "engine_per_s": round(median(engine, "jobs_per_s")), "engine_spread": spread(engine, "jobs_per_s"),
                "floor_per_s": round(median(floor, "jobs_per_s")), "floor_spread": spread(floor, "jobs_per_s"),
                "ratio": round(ratio(engine, floor, "jobs_per_s"), 2),
                "submit_per_s": round(median(engine, "submit_per_s")),
                "submit_ratio": round(ratio(engine, floor, "submit_per_s"), 2),
                "cpu_us": round(median(engine, "cpu_us_per_job"), 1),
                "cpu_ratio": round(ratio(engine, floor, "cpu_us_per_job"), 2),
                "server_cpu_us": round(median(engine, "server_cpu_us_per_job"), 1),
                "server_cpu_ratio": round(ratio(engine, floor, "server_cpu_us_per_job"), 2),
                "rss_mb": round(median(engine, "rss_mb")),
            })  # fmt: skip
    shown["rows"] = rows
    if arguments.json:
        print(json.dumps(shown, indent=2))
        return
    print(" ".join(f"{name}={value}" for name, value in shown["settings"].items()))  # type: ignore[attr-defined]
    columns = list(rows[0])
    table = [columns, *[[str(row[column]) for column in columns] for row in rows]]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--loop", choices=LOOPS, nargs="+", default=["asyncio", "trio"])
    parser.add_argument("--fsync", choices=FSYNC, nargs="+", default=["everysec"])
    parser.add_argument("--sleep-ms", type=float, default=0)
    parser.add_argument("--pause-s", type=float, default=0)
    parser.add_argument("--no-results", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
