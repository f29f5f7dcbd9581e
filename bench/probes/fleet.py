"""Several worker processes on one server, once: `headrace run` as users start it.

The jobs are queued while the queue is paused, the workers start and register, and the clock runs from the end of the
pause until the server holds no job. How often handlers started is counted by the workers themselves, at their end.
"""

import argparse
import pathlib
import time

import redis
from measuring.probe import end_by_signal, parser, report
from measuring.servers import cpu_s, rss_mb, scratch, server

from headrace.engine import admin

from .commands import calls, per_job
from .handlers import items
from .serving import engine, noop, wait_1_ms, workers

QUEUE, JOBS_KEY = "default", "headrace:{default}:jobs"
LOOK_S = 0.005
STALLED_S = 30.0


def measure(socket: str, server_pid: int, counts: pathlib.Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Queue all jobs and have the workers work them off."""
    jobs = arguments.jobs
    handler = wait_1_ms if arguments.sleep else noop
    engine.configure(url=f"unix://{socket}")
    broker, before = engine.connection.open(), calls(socket)
    handler.sync.submit_many(items(jobs))
    admin.pause(broker, QUEUE)
    with (
        redis.Redis(unix_socket_path=socket) as client,
        workers(socket, arguments.processes, arguments.slots, arguments.loop, BENCH_STARTS=str(counts)) as running,
    ):
        pids = [worker.pid for worker in running]
        used_s, server_s = -sum(map(cpu_s, pids)), -cpu_s(server_pid)
        began_s = time.perf_counter()
        admin.resume(broker, QUEUE)
        left = wait_until_empty(client)
        took_s = time.perf_counter() - began_s
        used_s, server_s = used_s + sum(map(cpu_s, pids)), server_s + cpu_s(server_pid)
        memory_mb = max(map(rss_mb, pids))
    engine.connection.close()
    return {
        "jobs_per_s": (jobs - left) / took_s,
        "cpu_us_per_job": used_s / jobs * 1e6,
        "server_cpu_us_per_job": server_s / jobs * 1e6,
        "rss_mb": memory_mb,
        "lost": left,
        **per_job(before, calls(socket), jobs),
    }


def wait_until_empty(client: redis.Redis) -> int:
    """Return once no job is queued or running, or nothing has moved for long; returns how many are left."""
    last, moved_s = -1, time.monotonic()
    while left := client.xlen(JOBS_KEY):
        now_s = time.monotonic()
        if left != last:
            last, moved_s = left, now_s
        elif now_s - moved_s > STALLED_S:
            break
        time.sleep(LOOK_S)
    return int(left)


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--processes", type=int, default=1)
    made.add_argument("--sleep", action="store_true", help="handlers wait 1 ms")
    arguments = made.parse_args()
    end_by_signal()
    with server(arguments.fsync) as (socket, pid), scratch() as counts:
        figures = measure(socket, pid, counts, arguments)
        started = sum(int(path.read_text()) for path in counts.iterdir())
    report({**figures, "duplicates": max(0, started - arguments.jobs)})


if __name__ == "__main__":
    main()
