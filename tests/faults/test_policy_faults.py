"""A server that deletes jobs at its maxmemory gets no worker; one that deletes only results gets a loud one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from fleet import LOOPS

from command_stage import APPLICATION, DEADLINE_S, Process
from headrace import Engine
from servers import Server, start_valkey


@contextmanager
def running(policy: str, folder: Path, *args: str) -> Iterator[tuple[Server, Process]]:
    """Run `headrace run` on a server with a maxmemory-policy, and with a job in it."""
    (folder / "app.py").write_text(APPLICATION)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    with start_valkey(folder, "--maxmemory", "100mb", "--maxmemory-policy", policy) as server:
        process = Process("run", "app:engine", "--url", server.url, *args, folder=folder, environ=environ)
        try:
            yield server, process
        finally:
            if process.popen.poll() is None:
                process.popen.kill()
            process.popen.wait()


@pytest.mark.parametrize(
    "args", [("--loop", "asyncio"), ("--loop", "trio"), ("--processes", "2")], ids=[*LOOPS, "supervised"]
)
def test_a_cache_gets_no_worker(tmp_path: Path, args: tuple[str, ...]) -> None:
    """With an allkeys policy `headrace run` ends with code 2 and says what to set; the jobs there stay untouched."""
    with running("allkeys-lru", tmp_path, *args) as (server, process):
        job = Engine(server.url).sync.submit("add", (1, 2))
        assert 2 == process.popen.wait(DEADLINE_S), process.log
        told = [line for line in process.log.splitlines() if "has maxmemory-policy allkeys-lru" in line]
        assert told, process.log
        assert all(server.url in line and "CONFIG SET maxmemory-policy noeviction" in line for line in told)
        assert "Traceback" not in process.log
        assert "queued" == job.status()
        with redis.Redis(unix_socket_path=server.unix_socket) as client:
            assert not client.exists("headrace:{default}:workers")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_that_deletes_results_gets_a_loud_worker(tmp_path: Path, loop: str) -> None:
    """With a volatile policy `headrace run` warns once, says what to set, and works as on any other server."""
    with running("volatile-lru", tmp_path, "--loop", loop) as (server, process):
        assert 3 == Engine(server.url).sync.submit("add", (1, 2)).result(timeout=DEADLINE_S)
        process.until(" working ")
        assert 0 == process.end()
        (warning,) = [line for line in process.log.splitlines() if "volatile-lru" in line]
        assert "may delete results early" in warning
        assert "set maxmemory-policy noeviction" in warning
