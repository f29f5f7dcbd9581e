"""Event streams of a serving process, over real connections: one that is never read, and the end of the process."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.engine.broker.open import open_broker
from headrace.jobs.events import pack_jobs
from servers import start_valkey

DEADLINE_S = 30
#: A server whose clients may leave what they are sent unread for half a second.
PROGRAM = """
import sys
from headrace.config import limits
limits.HTTP_STREAM_SEND_TIMEOUT_S = 0.5
from headrace.engine.http.serve import serve
serve(url=sys.argv[1], drain_timeout=60, http={"port": 0})
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", str, str]]:
    """A serving process, its address, and its broker's."""
    with start_valkey(tmp_path) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, server.url], cwd=tmp_path, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        try:
            yield process, process.stderr.readline().split()[-1], server.url
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def figure(client: httpx.Client, name: str) -> float:
    """Return the value of a metric without labels."""
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_a_stream_that_is_never_read_harms_nobody(served: tuple["subprocess.Popen[str]", str, str]) -> None:
    """It is dropped when its connection takes no more; another stream gets every event, and memory stays bounded."""
    process, url, broker_url = served
    broker = open_broker(broker_url)
    port = int(url.rpartition(":")[2])
    with socket.socket() as dead, httpx.Client(base_url=url, timeout=DEADLINE_S) as client:
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dead.connect(("127.0.0.1", port))
        dead.sendall(b"GET /v1/events?queue=mail&after=0 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        client.post("/v1/jobs", json={"name": "add", "queue": "mail"})
        before_bytes = figure(client, "headrace_http_resident_memory_bytes")
        count, batch = 160, 500
        with client.stream("GET", "/v1/events?queue=mail") as healthy:
            assert "text/event-stream" == healthy.headers["content-type"]
            lines = healthy.iter_lines()
            assert next(line for line in lines if line.startswith("id: "))
            for number in range(count):
                ids = [f"mail:{number + 1}-{each}" for each in range(batch)]
                broker.events.announce(["mail"], pack_jobs("job.cancelled", ids))
            seen = 0
            while seen < count * batch:
                seen += next(lines).startswith("data: ")
        ends_s = time.monotonic() + DEADLINE_S
        while figure(client, "headrace_http_dropped_streams_total") < 1:
            assert time.monotonic() < ends_s
            time.sleep(0.05)
        assert "ok" == client.get("/healthz").json()["status"]
        assert figure(client, "headrace_http_resident_memory_bytes") - before_bytes < 100 * 1024 * 1024
    broker.close()
    assert process.poll() is None


def test_the_end_of_the_process_ends_streams_at_once(served: tuple["subprocess.Popen[str]", str, str]) -> None:
    """After SIGTERM an open stream ends in order, long before drain_timeout, and the process exits 0."""
    process, url, _ = served
    with httpx.Client(base_url=url, timeout=DEADLINE_S) as client, client.stream("GET", "/v1/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("id: "))
        process.send_signal(signal.SIGTERM)
        assert [] == [line for line in lines if line.startswith("data: ")]
    assert 0 == process.wait(DEADLINE_S)
