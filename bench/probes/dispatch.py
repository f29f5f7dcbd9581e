"""The in-process Dispatcher, or the bare way that one would write without headrace, once; no server.

The bare way is `task_group.start_soon` for each job and an `anyio.Semaphore` of as many places as slots. With a sink,
the time ends when the sink has written every outcome.
"""

import argparse
import json
import time
from contextlib import ExitStack
from typing import Any

import anyio
import redis
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.servers import scratch, server

from headrace import Dispatcher, FileSink, RedisSink

WAYS = ("bare", "dispatcher")
SINKS = ("none", "file", "file-always", "redis")
TIMEOUT_S = 5


ran = [0]


async def noop() -> None:
    """Do nothing but count."""
    ran[0] += 1


async def bare(jobs: int, slots: int) -> None:
    """Run the jobs as one would without headrace."""
    semaphore = anyio.Semaphore(slots)

    async def run() -> None:
        async with semaphore:
            await noop()

    async with anyio.create_task_group() as group:
        for _ in range(jobs):
            group.start_soon(run)


async def dispatched(jobs: int, slots: int, sinks: list[Any]) -> None:
    """Run the jobs with the Dispatcher, a timeout on each."""
    async with Dispatcher(slots=slots, timeout=TIMEOUT_S, sinks=sinks) as dispatcher:
        for _ in range(jobs):
            await dispatcher.submit(noop)


def sinks_for(kind: str, path: str, url: str) -> list[Any]:
    """Return new sinks of a kind; the path names the file, or the stream."""
    if kind.startswith("file"):
        return [FileSink(path, fsync="always" if kind == "file-always" else "interval")]
    return [RedisSink(url, key=path, max_length=None)] if kind == "redis" else []


async def measure(arguments: argparse.Namespace, path: str, url: str) -> dict[str, float]:
    """Return the figures of one way, after a warm-up of a tenth."""

    async def run(jobs: int, number: int) -> list[Any]:
        if arguments.way == "bare":
            await bare(jobs, arguments.slots)
            return []
        sinks = sinks_for(arguments.sink, f"{path}/{number}.jsonl", url)
        await dispatched(jobs, arguments.slots, sinks)
        return sinks

    await run(max(1, arguments.jobs // 10), 0)
    ran[0] = 0
    began_s, cpu_s = time.perf_counter(), time.process_time()
    sinks = await run(arguments.jobs, 1)
    took_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    counted = {"lost": max(0, arguments.jobs - ran[0]), "duplicates": max(0, ran[0] - arguments.jobs)}
    for sink in sinks:
        counted = found(sink, arguments.jobs, url)
    return {"jobs_per_s": arguments.jobs / took_s, "cpu_us_per_job": used_s / arguments.jobs * 1e6, **counted}


def found(sink: Any, jobs: int, url: str) -> dict[str, float]:
    """Return what is missing where a sink wrote to, and what is there twice; what lies there counts, not its word."""
    if not isinstance(sink, FileSink):
        with redis.Redis.from_url(url) as client:
            written = client.xlen(sink.name.removeprefix("redis:"))
        return {"lost": max(0, jobs - written), "duplicates": max(0, written - jobs)}
    with open(sink.name.removeprefix("file:"), encoding="utf-8") as file:
        ids = [json.loads(line)["id"] for line in file]
    return {"lost": jobs - len(set(ids)), "duplicates": len(ids) - len(set(ids))}


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--way", choices=WAYS, default="dispatcher")
    made.add_argument("--sink", choices=SINKS, default="none")
    arguments = made.parse_args()
    end_by_signal()
    with ExitStack() as stack:
        folder = str(stack.enter_context(scratch()))
        url = f"unix://{stack.enter_context(server(arguments.fsync))[0]}" if arguments.sink == "redis" else ""
        report(run_on(arguments.loop, measure, arguments, folder, url))


if __name__ == "__main__":
    main()
