"""One worker, once: submits the jobs, then works them off; counted when the last one is settled on the server.

Submission is over before the worker starts, so neither slows the other. CPU is that of the worker's process and of the
server while the jobs are worked off; commands are the server's count from the first submission to the last settling.
"""

import argparse
import time
from typing import Any

import anyio
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.servers import cpu_s, server

from headrace import Engine
from headrace.jobs.unique import Unique

from .commands import calls, held, per_job
from .handlers import TEXT, Starts, items

#: Handles of so many submissions are held at a time, as a producer of many would.
SUBMIT_COUNT = 10_000
#: Without an outcome for so long, what is left counts as lost.
STALLED_S = 30.0
LARGEST = 2 * 1024 * 1024


def make_engine(socket: str, arguments: argparse.Namespace) -> Engine:
    """Return an engine with the settings that are measured."""
    settings: dict[str, Any] = {"slots": arguments.slots, "result_ttl": 0 if arguments.no_results else "5m"}
    if arguments.payload:
        settings |= {"max_payload": LARGEST, "max_queue_bytes": 0}
    return Engine(f"unix://{socket}", **settings)


def declare(engine: Engine, starts: Starts, arguments: argparse.Namespace) -> Any:
    """Declare the handler with the features that are measured; returns what submits its jobs."""
    options: dict[str, Any] = {"name": "noop"}
    if arguments.handler == "process":
        options["runner"] = "process"
    limits: dict[str, Any] = {}
    if arguments.timeout is not None:
        limits["timeout"] = arguments.timeout
    if arguments.tries:
        limits["retry"] = arguments.tries
    if arguments.unique:
        options["unique"] = Unique()
    function = starts.handler(arguments.handler, arguments.sleep_ms)
    if arguments.per_job:
        return engine.job(**options, timeout=0, retry=1)(function).options(**limits)
    return engine.job(**options, **limits)(function)


async def measure(socket: str, server_pid: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Submit the jobs, then work them off."""
    jobs = arguments.jobs
    engine, starts = make_engine(socket, arguments), Starts(jobs)
    handler = declare(engine, starts, arguments)
    text = "x" * arguments.payload if arguments.payload else TEXT
    before = calls(socket)
    async with engine:
        submit_from_s = time.perf_counter()
        for first in range(0, jobs, SUBMIT_COUNT):
            await handler.submit_many(items(min(SUBMIT_COUNT, jobs - first), text, first))
        submit_per_s = jobs / (time.perf_counter() - submit_from_s)
        if arguments.pause_s:
            await anyio.sleep(arguments.pause_s)
        own_cpu_s, server_cpu_s = time.process_time(), cpu_s(server_pid)
        async with engine.running():
            asked_s = time.perf_counter() if arguments.payload else 0.0
            sink = sink_of(engine)  # looking at statistics() often would be what is measured
            began_s, left_out = await wait_written(sink, jobs, by_first=arguments.handler == "process")
            ended_s = time.perf_counter()
            own_cpu_s, server_cpu_s = time.process_time() - own_cpu_s, cpu_s(server_pid) - server_cpu_s
            written, figures = sink.statistics().written, engine.statistics()
        # Jobs begin with the first start; large ones with the first fetch, for a single one may bring most of them.
        jobs_per_s = (written - left_out) / (ended_s - (asked_s or began_s or starts.began_s))
    found = {
        "jobs_per_s": jobs_per_s,
        "submit_per_s": submit_per_s,
        "cpu_us_per_job": own_cpu_s / jobs * 1e6,
        "server_cpu_us_per_job": server_cpu_s / jobs * 1e6,
        "run_p50_ms": figures.latency_ms.run.p50 or 0.0,
        "run_p99_ms": figures.latency_ms.run.p99 or 0.0,
        "failed": figures.errors.failed,
        "flushes": figures.backpressure.sinks["broker"].flushes,
        "lost": max(jobs - written, held(socket)),  # by the sink's count, and by what the server has left
        **per_job(before, calls(socket), jobs),
    }
    if arguments.handler != "process":
        found["duplicates"] = starts.duplicates()
    if arguments.payload:
        found["mb_per_s"] = jobs_per_s * arguments.payload / 1e6
    return found


def sink_of(engine: Engine) -> Any:
    """Return the sink that settles the jobs of a running engine."""
    assert engine._worker is not None  # noqa: SLF001
    return engine._worker._sink  # noqa: SLF001


async def wait_written(sink: Any, jobs: int, *, by_first: bool) -> tuple[float, int]:
    """Return once all outcomes are on the server, or none has come for long.

    Returns:
        When the first outcomes were there and how many those were, where the handlers themselves cannot say when the
        first of them started; else nothing.
    """
    began_s, left_out, last, moved_s = 0.0, 0, 0, time.perf_counter()
    while (written := sink.statistics().written) < jobs:
        now_s = time.perf_counter()
        if written != last:
            last, moved_s = written, now_s
            if by_first and not began_s:
                began_s, left_out = now_s, written
        elif now_s - moved_s > STALLED_S:
            break
        await anyio.sleep(0.01)  # a hundredth of a second late is 1 % of the shortest run; looking costs, too
    return began_s, left_out


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--sleep-ms", type=float, default=0)
    made.add_argument("--handler", choices=("async", "thread", "process"), default="async")
    made.add_argument("--payload", type=int, default=0, help="bytes of text that each job carries")
    made.add_argument("--pause-s", type=float, default=0, help="between submission and work")
    made.add_argument("--no-results", action="store_true")
    made.add_argument("--timeout", help="of the handler; 0 for none; left out for the default")
    made.add_argument("--tries", type=int, default=0, help="by retry=; 0 leaves the default")
    made.add_argument("--per-job", action="store_true", help="timeout and tries are options of each submission")
    made.add_argument("--unique", action="store_true", help="each job has a unique key of its arguments")
    arguments = made.parse_args()
    end_by_signal()
    with server(arguments.fsync) as (socket, pid):
        report(run_on(arguments.loop, measure, socket, pid, arguments))


if __name__ == "__main__":
    main()
