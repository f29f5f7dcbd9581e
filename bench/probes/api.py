"""Submission over HTTP, once: single ones by many connections, or a batch as one stream; no worker runs.

The API has a core of its own where there are several; the load, in a process of its own, and the server share the rest.
A job counts when the API has answered for it, which it does when the server has it. CPU and memory are of the API's
process. `floor` is the batch without HTTP, by submit_many, on the same cores.
"""

import argparse
import time
from collections.abc import Iterator

import httpx
import redis
from measuring.children import probe
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.servers import cpu_s, rss_mb, server

from .commands import calls, per_job
from .requests import batch_body
from .serving import served
from .submission import from_loop

WAYS = ("single", "batch", "floor")
#: Lines of a piece of the stream.
PIECE = 5_000
#: Opens connections, loads scripts and compiles decoders; not counted.
WARM_UP = 1_000
PATIENCE_S = 600


def single(port: int, jobs: int, connections: int) -> dict[str, float]:
    """Submit jobs one by one over many connections, from another process."""
    return probe("load", ["--port", str(port), "--jobs", str(jobs), "--connections", str(connections)])


def batch(port: int, jobs: int, *, keyed: bool) -> dict[str, float]:
    """Submit jobs as one stream; what is sent was made before the clock runs."""
    pieces = [batch_body(first, min(PIECE, jobs - first)) for first in range(0, jobs, PIECE)]

    def stream() -> Iterator[bytes]:
        yield from pieces

    headers = {"content-type": "application/x-ndjson", **({"idempotency-key": "bench"} if keyed else {})}
    began_s = time.perf_counter()
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/jobs/batch", content=stream(), timeout=PATIENCE_S, headers=headers)
    took_s = time.perf_counter() - began_s
    if answer.status_code != 202 or answer.json()["accepted"] != jobs:
        raise SystemExit(f"the API answered {answer.status_code}: {answer.text[-500:]}")
    return {"submit_per_s": jobs / took_s}


def over_http(socket: str, pid: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Have an API serve, and measure it."""
    jobs = arguments.jobs
    with served(socket, alone=True) as (port, api_pid):
        single(port, WARM_UP, arguments.connections)
        memory_mb, before, api_cpu_s, server_cpu_s = rss_mb(api_pid), calls(socket), cpu_s(api_pid), cpu_s(pid)
        if arguments.way == "single":
            figures = single(port, jobs, arguments.connections)
        else:
            figures = batch(port, jobs, keyed=arguments.keyed)
        return {
            **figures,
            "rss_mb": rss_mb(api_pid),
            "rss_growth_mb": rss_mb(api_pid) - memory_mb,
            "api_cpu_us_per_job": (cpu_s(api_pid) - api_cpu_s) / jobs * 1e6,
            "server_cpu_us_per_job": (cpu_s(pid) - server_cpu_s) / jobs * 1e6,
            **per_job(before, calls(socket), jobs),
        }


def without_http(socket: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Submit the same with submit_many in this process."""
    took_s = run_on(arguments.loop, from_loop, socket, arguments)
    return {"submit_per_s": arguments.jobs / took_s}


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--way", choices=WAYS, default="single")
    made.add_argument("--connections", type=int, default=64)
    made.add_argument("--keyed", action="store_true", help="send the batch with an Idempotency-Key")
    arguments = made.parse_args()
    end_by_signal()
    with server(arguments.fsync) as (socket, pid):
        if arguments.way == "floor":
            arguments.way = "batched"  # as the probe of submission calls it
            figures, extra = without_http(socket, arguments), 1
        else:
            figures, extra = over_http(socket, pid, arguments), WARM_UP
        with redis.Redis(unix_socket_path=socket) as connection:
            added = connection.xlen("headrace:{default}:jobs") - extra
    report({**figures, "lost": max(0, arguments.jobs - added), "duplicates": max(0, added - arguments.jobs)})


if __name__ == "__main__":
    main()
