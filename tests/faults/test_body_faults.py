"""Bodies without end: a batch of any size passes through the API, whose memory stays as it was."""

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgpack
import pytest
import redis
from fleet import LONG

from served_api import served
from servers import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

#: Of a body, in all and in a piece; a line is a job of a usual size.
BODY_BYTES, PIECE_BYTES, LINE_BYTES = 1024**3 if LONG else 64 * 1024**2, 256 * 1024, 512
#: What the process may grow by meanwhile: a few parts of jobs, and what the allocator keeps.
GROWTH_MAX_BYTES = 48 * 1024**2
PATIENCE_S = 900 if LONG else 120
QUEUE = "headrace:{default}:jobs"


def rss_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


class Body:
    """A body that is made while it is sent; what the API has put into the queue is thrown away meanwhile.

    Attributes:
        jobs: How many were sent.
        peak_bytes: The most memory that the API had.
    """

    def __init__(self, server: Server, pid: int, kind: str) -> None:
        self._server = server
        self._pid = pid
        text = "x" * (LINE_BYTES - 30)
        job = {"name": "a", "args": [text]}
        line = msgpack.packb(job) if kind == "application/msgpack" else b'{"name":"a","args":["%s"]}' % text.encode()
        end = {"application/x-ndjson": b"\n", "application/json": b",", "application/msgpack": b""}[kind]
        self._first, self._last = (b"[" + line, b"]") if kind == "application/json" else (line + end, b"")
        self._begins_with_end = kind == "application/json"
        self._per_piece = PIECE_BYTES // LINE_BYTES
        self._piece = (end + line if self._begins_with_end else line + end) * self._per_piece
        self.jobs, self.peak_bytes = 0, 0

    def __call__(self, size_bytes: int) -> Iterator[bytes]:
        """Yield so many bytes."""
        with redis.Redis(unix_socket_path=self._server.unix_socket) as client:
            self.jobs = 1
            yield self._first
            for _ in range(size_bytes // len(self._piece)):
                yield self._piece
                self.jobs += self._per_piece
                client.delete(QUEUE)
                self.peak_bytes = max(self.peak_bytes, rss_bytes(self._pid))
            yield self._last


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/json", "application/msgpack"])
def test_a_body_of_any_size_takes_no_memory(server: Server, tmp_path: Path, kind: str) -> None:
    """64 MB of jobs in one request (1 GB in a long run) are accepted, and the API's memory stays flat."""
    with served(server.unix_url, tmp_path) as (url, pid), httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        body = Body(server, pid, kind)

        def post(size_bytes: int) -> httpx.Response:
            return client.post("/v1/jobs/batch", content=body(size_bytes), headers={"content-type": kind})

        assert post(8 * PIECE_BYTES).json()["accepted"]  # imports and threads are there now
        before_bytes, body.peak_bytes = rss_bytes(pid), 0
        response = post(BODY_BYTES)
        report = response.json()
        assert (202, body.jobs, []) == (response.status_code, report["accepted"], report["rejected"])
        assert body.jobs == len(set(report["ids"]))
        grown_bytes = max(body.peak_bytes, rss_bytes(pid)) - before_bytes
        assert grown_bytes < GROWTH_MAX_BYTES
