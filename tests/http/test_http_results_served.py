"""POST /v1/results on the server that serves it: connections that go on, clients that go, and a token that reads."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from headrace.engine.http.tokens import hash_of
from served_api import PROGRAM, served
from servers import Server, start_valkey

DEADLINE_S = 30
#: Says on stderr when a request begins to wait, and when it ends.
TELLING = """
import sys
from headrace.engine.http import ends
run = ends.Asking.run
async def telling(asking, wait_s):
    sys.stderr.write("waits\\n"); sys.stderr.flush()
    try:
        await run(asking, wait_s)
    finally:
        sys.stderr.write("ends\\n"); sys.stderr.flush()
ends.Asking.run = telling
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("results")) as server:
        yield server


@contextmanager
def telling(server: Server, folder: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Yield the address of an API that says which requests wait, and its process."""
    flags = json.dumps({"url": server.url, "http": {"port": 0}, "log_level": "error"})
    command = [sys.executable, "-c", TELLING + PROGRAM, flags]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split()[-1], process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_client_that_hangs_up_is_not_waited_for(server: Server, tmp_path: Path) -> None:
    """The server tells of its end, and the request ends at once, long before its time."""
    with telling(server, tmp_path) as (url, process), httpx.Client(base_url=url, timeout=DEADLINE_S) as client:
        job_id = client.post("/v1/jobs", json={"name": "add"}).json()["id"]
        host, _, port = url.removeprefix("http://").rpartition(":")
        content = json.dumps({"ids": [job_id]}).encode()
        head = f"POST /v1/results?wait_s=60 HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        with socket.create_connection((host, int(port)), DEADLINE_S) as connection:
            connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
            assert process.stderr is not None
            assert "waits\n" == process.stderr.readline()
        assert "ends\n" == process.stderr.readline()
        assert 200 == client.get("/healthz").status_code


def test_a_connection_serves_on(server: Server, tmp_path: Path) -> None:
    """One connection carries many such requests, with and without a wait, and others between them."""
    with served(server.url, tmp_path) as (url, _), httpx.Client(base_url=url, timeout=DEADLINE_S) as client:
        job_id = client.post("/v1/jobs", json={"name": "add"}).json()["id"]
        ports = set()
        for wait_s in (0, 0.01, 0.02) * 5:
            asked = client.post("/v1/results", params={"wait_s": wait_s}, json={"ids": [job_id, "nonsense"]})
            assert ([job_id], 1) == (asked.json()["waiting"], len(asked.json()["unavailable"]))
            ports.add(asked.extensions["network_stream"].get_extra_info("client_addr"))
            assert 200 == client.get(f"/v1/jobs/{job_id}").status_code
        assert 1 == len(ports)
        client.post(f"/v1/jobs/{job_id}/cancel")
        ended = client.post("/v1/results", params={"wait_s": 60}, json={"ids": [job_id]}).json()
        assert [("cancelled", job_id)] == [(each["status"], each["id"]) for each in ended["results"]]


def test_who_may_read_may_ask(server: Server, tmp_path: Path) -> None:
    """A token that may read is enough, one that may only submit is not."""
    tokens = [{"name": scope, "sha256": hash_of(scope), "scopes": [scope]} for scope in ("read", "submit")]
    with served(server.url, tmp_path, http={"tokens": tokens}) as (url, _):
        for scope, status in (("read", 200), ("submit", 403)):
            headers = {"authorization": f"Bearer {scope}"}
            assert status == httpx.post(f"{url}/v1/results", json={"ids": ["a"]}, headers=headers).status_code
