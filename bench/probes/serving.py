"""An engine with handlers for worker processes: what `headrace run probes.serving:engine` runs, and a child of a probe.

Settings come by HEADRACE_ variables. With BENCH_STARTS set, each process counts how often handlers started, and leaves
the number in that folder when it ends; with BENCH_WORKER_PROFILE it profiles itself.
"""

import atexit
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import redis
from measuring.children import end
from measuring.profiling import begin
from measuring.servers import HERE

from headrace import Engine

engine = Engine(max_queue_length=0, max_queue_bytes=0)
started = [0]
#: A worker is there within half a second on a quiet machine.
READY_WITHIN_S = 60.0


@engine.job
async def noop(number: int, other: int, text: str) -> None:
    started[0] += 1


@engine.job
async def wait_1_ms(number: int, other: int, text: str) -> None:
    started[0] += 1
    await anyio.sleep(0.001)


@engine.job
async def echo(number: int) -> int:
    started[0] += 1
    return number


def _leave_count() -> None:
    pathlib.Path(os.environ["BENCH_STARTS"], str(os.getpid())).write_text(str(started[0]))


if os.environ.get("BENCH_STARTS"):
    atexit.register(_leave_count)
if os.environ.get("BENCH_WORKER_PROFILE"):
    atexit.register(begin(os.environ["BENCH_WORKER_PROFILE"]))


@contextmanager
def workers(
    socket: str, processes: int, slots: int, loop: str = "asyncio", **environ: str
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run worker processes until the block ends; yields once all of them have registered.

    Where this process is profiled, so is the first of them.
    """
    command = [sys.executable, "-m", "headrace", "run", "probes.serving:engine", "--slots", str(slots), "--loop", loop]
    environment = {**os.environ, "HEADRACE_URL": f"unix://{socket}", "HEADRACE_LOG_LEVEL": "warning", **environ}
    path = os.environ.get("BENCH_PROFILE")
    found: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(processes):
            profile = {"BENCH_WORKER_PROFILE": f"{path}-worker"} if path and not number else {}
            found.append(subprocess.Popen(command, cwd=HERE, env={**environment, **profile}))
        with _client(socket) as client:
            ends_s = time.monotonic() + READY_WITHIN_S
            while client.zcard("headrace:{default}:workers") < processes:
                if time.monotonic() > ends_s or any(worker.poll() is not None for worker in found):
                    raise SystemExit(f"{processes} workers did not come up: {' '.join(command)}")
                time.sleep(0.02)
        yield found
    finally:
        for worker in found:
            worker.terminate()
        for worker in found:
            end(worker)


@contextmanager
def api(socket: str) -> Iterator[int]:
    """Serve the API until the block ends; yields its port once it answers."""
    with served(socket) as (port, _):
        yield port


@contextmanager
def served(socket: str, *, alone: bool = False) -> Iterator[tuple[int, int]]:
    """Serve the API until the block ends; yields its port once it answers, and its process's id.

    Args:
        socket: The broker's.
        alone: Give it one core, and all others to what this process starts from now on, where there are several.

    Where this process is profiled, so is the API's.
    """
    command = [sys.executable, "-m", "headrace", "serve", "probes.serving:engine", "--http", "127.0.0.1:0"]
    environment = {**os.environ, "HEADRACE_URL": f"unix://{socket}", "HEADRACE_LOG_LEVEL": "warning"}
    if path := os.environ.get("BENCH_PROFILE"):
        environment["BENCH_WORKER_PROFILE"] = f"{path}-api"
    with _one_core(wanted=alone):
        process = subprocess.Popen(command, cwd=HERE, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:  # it says where it is once it answers there
            said += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield int(found.group(1)), process.pid
                return
        raise SystemExit(f"the API did not come up: {said[-2000:]}")
    finally:
        end(process)


@contextmanager
def _one_core(*, wanted: bool) -> Iterator[None]:
    """Have what is started in the block stay on one core, and what is started after it on the others."""
    if not wanted or not hasattr(os, "sched_setaffinity") or len(cores := os.sched_getaffinity(0)) < 2:
        yield
        return
    one = max(cores)
    os.sched_setaffinity(0, {one})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores - {one})


def _client(socket: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=socket)
