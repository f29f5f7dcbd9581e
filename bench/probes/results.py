"""Jobs that are submitted while a worker works, once: with their results waited for, or not.

The worker is a child; this process submits all and then waits: for each job's result, many at a time, or for all of
them in one coroutine, or until the server holds no job. Counted from the first submission to the last result, or to the
last settling.
"""

import argparse
import time
from collections.abc import Iterator

import anyio
import redis
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.servers import cpu_s, scratch, server

from headrace import Engine, JobHandle

from .commands import calls, per_job
from .serving import workers

SUBMIT_COUNT = 5_000
LOOK_S = 0.005
PATIENCE_S = 60


async def measure(socket: str, arguments: argparse.Namespace) -> float:
    """Submit, then wait; returns how many seconds it took."""
    jobs = arguments.jobs
    engine = Engine(f"unix://{socket}", max_queue_length=0, max_queue_bytes=0)

    @engine.job
    async def echo(number: int) -> int:
        return number

    async with engine:
        began_s = time.perf_counter()
        handles = []
        for first in range(0, jobs, SUBMIT_COUNT):
            numbers = range(first, min(first + SUBMIT_COUNT, jobs))
            handles += await echo.submit_many((number,) for number in numbers)
        if arguments.wait and arguments.way == "each":
            await wait_for_all(handles, arguments.waiters)
        elif arguments.wait:
            async for _, result in engine.results(handles, timeout=PATIENCE_S):
                assert result.error is None
        else:
            await wait_until_empty(socket)
        return time.perf_counter() - began_s


async def wait_for_all(handles: list[JobHandle[int]], waiters: int) -> None:
    """Have so many wait for the results, each for one after the other."""
    ahead: Iterator[tuple[int, JobHandle[int]]] = enumerate(handles)

    async def some() -> None:
        for number, handle in ahead:
            assert number == await handle.result(timeout=PATIENCE_S)

    async with anyio.create_task_group() as group:
        for _ in range(waiters):
            group.start_soon(some)


async def wait_until_empty(socket: str) -> None:
    """Return once no job is queued or running."""
    with redis.Redis(unix_socket_path=socket) as client:
        while client.xlen("headrace:{default}:jobs"):
            await anyio.sleep(LOOK_S)


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--wait", action="store_true", help="wait for each job's result")
    made.add_argument("--way", choices=("each", "bulk"), default="each", help="coroutines for each, or one for all")
    made.add_argument("--waiters", type=int, default=500, help="coroutines that wait at once")
    arguments = made.parse_args()
    end_by_signal()
    jobs = arguments.jobs
    with server(arguments.fsync) as (socket, pid), scratch() as counts:
        with workers(socket, 1, arguments.slots, BENCH_STARTS=str(counts)) as (worker,):
            before = calls(socket)
            worker_s, server_s, own_s = cpu_s(worker.pid), cpu_s(pid), time.process_time()
            took_s = run_on(arguments.loop, measure, socket, arguments)
            worker_s, server_s = cpu_s(worker.pid) - worker_s, cpu_s(pid) - server_s
            own_s = time.process_time() - own_s
            commands = per_job(before, calls(socket), jobs)
        started = sum(int(path.read_text()) for path in counts.iterdir())
    report({
        "jobs_per_s": jobs / took_s,
        "cpu_us_per_job": worker_s / jobs * 1e6,
        "server_cpu_us_per_job": server_s / jobs * 1e6,
        "producer_cpu_us_per_job": own_s / jobs * 1e6,
        "lost": max(0, jobs - started),
        "duplicates": max(0, started - jobs),
        **commands,
    })  # fmt: skip


if __name__ == "__main__":
    main()
