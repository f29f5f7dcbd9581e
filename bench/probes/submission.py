"""Submission alone, once, by one way; no worker runs. Counted when the server has answered for every job.

one-by-one: each handle is awaited before the next job is submitted. batched: submit_many. concurrent: many submit at
once, each one job after the other. blocking: `.sync` from a thread without a loop. http and http-batch: a client with
kept connections against `headrace serve` beside it; the client's own work counts, as any producer's does.
"""

import argparse
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import redis
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.profiling import profiled
from measuring.servers import cpu_s, server

from headrace import Engine

from .commands import calls, per_job
from .handlers import TEXT, items
from .requests import HttpClient, batch_body, job_body
from .serving import api

WAYS = ("one-by-one", "batched", "concurrent", "blocking", "http", "http-batch")
#: Lines of one request of http-batch, and what submit_many is handed at a time.
BATCH = 5_000


def make_engine(socket: str) -> tuple[Engine, Any]:
    """Return an engine that submits without a bound, and its handler."""
    engine = Engine(f"unix://{socket}", max_queue_length=0, max_queue_bytes=0)

    @engine.job
    async def noop(number: int, other: int, text: str) -> None:
        return None

    return engine, noop


async def share(jobs: int, submitters: int, submit: Callable[[int], Awaitable[object]]) -> None:
    """Have so many submit all jobs, each one after the other."""
    numbers = iter(range(jobs))

    async def some() -> None:
        for number in numbers:
            await submit(number)

    async with anyio.create_task_group() as group:
        for _ in range(submitters):
            group.start_soon(some)


async def from_loop(socket: str, arguments: argparse.Namespace) -> float:
    """Submit all jobs from the loop; returns how many seconds it took."""
    (engine, noop), jobs = make_engine(socket), arguments.jobs
    async with engine:
        await noop.submit(0, 2, TEXT)  # the first one opens connections and loads scripts
        began_s = time.perf_counter()
        if arguments.way == "batched":
            for first in range(0, jobs, BATCH):
                await noop.submit_many(items(min(BATCH, jobs - first), first=first))
        else:
            submitters = arguments.submitters if arguments.way == "concurrent" else 1
            await share(jobs, submitters, lambda number: noop.submit(number, 2, TEXT))
        return time.perf_counter() - began_s


def from_thread(socket: str, arguments: argparse.Namespace) -> float:
    """Submit all jobs by the blocking form."""
    _, noop = make_engine(socket)
    noop.sync.submit(0, 2, TEXT)
    began_s = time.perf_counter()
    for number in range(arguments.jobs):
        noop.sync.submit(number, 2, TEXT)
    return time.perf_counter() - began_s


async def over_http(port: int, arguments: argparse.Namespace) -> float:
    """Submit all jobs by HTTP, over as many connections as there are submitters."""
    jobs = arguments.jobs
    spare = [await HttpClient.connect(port) for _ in range(arguments.submitters)]
    await spare[0].post("/v1/jobs", job_body(0), "application/json")
    began_s = time.perf_counter()

    async def send(path: str, body: bytes, kind: str) -> None:
        client = spare.pop()
        await client.post(path, body, kind)
        spare.append(client)

    if arguments.way == "http":
        await share(jobs, len(spare), lambda number: send("/v1/jobs", job_body(number), "application/json"))
    else:
        for first in range(0, jobs, BATCH):
            await send("/v1/jobs/batch", batch_body(first, min(BATCH, jobs - first)), "application/x-ndjson")
    took_s = time.perf_counter() - began_s
    for client in spare:
        await client.close()
    return took_s


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--way", choices=WAYS, default="batched")
    made.add_argument("--submitters", type=int, default=100, help="coroutines or connections that submit at once")
    arguments = made.parse_args()
    end_by_signal()
    with server(arguments.fsync) as (socket, pid):
        before, own_cpu_s, server_cpu_s = calls(socket), time.process_time(), cpu_s(pid)
        if arguments.way == "blocking":
            with profiled():
                took_s = from_thread(socket, arguments)
        elif arguments.way.startswith("http"):
            with api(socket) as port:
                took_s = run_on(arguments.loop, over_http, port, arguments)
        else:
            took_s = run_on(arguments.loop, from_loop, socket, arguments)
        own_cpu_s, server_cpu_s = time.process_time() - own_cpu_s, cpu_s(pid) - server_cpu_s
        with redis.Redis(unix_socket_path=socket) as connection:
            added = connection.xlen("headrace:{default}:jobs") - 1  # the first was not counted
        commands = per_job(before, calls(socket), arguments.jobs)
    jobs = arguments.jobs
    report({
        "submit_per_s": jobs / took_s,
        "producer_cpu_us_per_job": own_cpu_s / jobs * 1e6,
        "server_cpu_us_per_job": server_cpu_s / jobs * 1e6,
        "lost": max(0, jobs - added),
        "duplicates": max(0, added - jobs),
        **commands,
    })  # fmt: skip


if __name__ == "__main__":
    main()
