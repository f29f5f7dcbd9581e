"""What becomes of a streamed answer whose client does not read it: it ends in time, and nothing of it stays."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from headrace.engine.http.sending import taken
from headrace.engine.http.unread import Unread
from servers import start_valkey
from stream_scene import DEADLINE_S

#: A server whose clients may leave what they are sent unread for half a second.
PROGRAM = """
import sys
from headrace.config import limits
limits.HTTP_STREAM_SEND_TIMEOUT_S = 0.5
from headrace.engine.http.serve import serve
serve(url=sys.argv[1], drain_timeout=60, http={"port": 0})
"""
SCOPE: Any = {"type": "http", "path": "/x", "http_version": "1.1", "client": ("127.0.0.1", 1)}
START: Any = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}


def piece(*, more: bool) -> Any:
    return {"type": "http.response.body", "body": b"x", "more_body": more}


async def nothing() -> Any:
    await anyio.sleep_forever()


@pytest.mark.anyio
async def test_a_streamed_answer_that_is_not_taken_ends() -> None:
    """When a piece is not taken in time the application is told by an exception, and the request is over."""
    sent: list[Any] = []
    over: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(START)
            while True:
                await send(piece(more=True))
        finally:
            over.append("closed")

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if len(sent) == 3:
            await anyio.sleep_forever()

    with anyio.fail_after(DEADLINE_S):
        await taken(app, 0.02, Unread(1000))(SCOPE, nothing, send)
    assert (3, ["closed"]) == (len(sent), over)


@pytest.mark.anyio
async def test_a_faulty_application_is_still_told() -> None:
    """An exception that is the application's own passes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(more=True))
        raise ValueError("a fault")

    async def send(message: Any) -> None:
        return

    with pytest.raises(ValueError, match="a fault"):
        await taken(app, 0.02, Unread(1000))(SCOPE, nothing, send)


@pytest.mark.redis_core
def test_a_report_that_is_not_read_holds_no_request(tmp_path: Path) -> None:
    """It ends after the time for a piece, its temporary file is closed, and the process stops at once."""
    with start_valkey(tmp_path) as server, (tmp_path / "log").open("w+b") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, server.url], cwd=tmp_path, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
        try:
            port = int(said(tmp_path, "the API is at").split("the API is at")[1].split()[0].rpartition(":")[2])
            line = b'{"name":"add","queue":"' + b"q" * 480 + b' "}\n'
            body = (
                line * 20_000
                + b'{"name":"add"}\n'
                + b'{"name":"add","queue":"a"}\n{"name":"add","queue":"b"}\n' * 40_000
            )
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", port))
                client.sendall(
                    b"POST /v1/jobs/batch HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n"
                    b"content-length: %d\r\n\r\n" % len(body) + body
                )
                client.recv(10)
                said(tmp_path, "answer cut short")
                files = [os.readlink(f"/proc/{process.pid}/fd/{each}") for each in descriptors(process.pid)]
                assert [] == [name for name in files if "(deleted)" in name and "/tmp" in name]
                process.send_signal(signal.SIGTERM)
                assert 0 == process.wait(DEADLINE_S)
            assert "Traceback" not in (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()


def descriptors(pid: int) -> list[str]:
    return [each for each in os.listdir(f"/proc/{pid}/fd") if os.path.lexists(f"/proc/{pid}/fd/{each}")]


def said(folder: Path, words: str) -> str:
    """Return the log once it has these words."""
    ends_s = time.monotonic() + DEADLINE_S
    while words not in (text := (folder / "log").read_text(encoding="utf-8")):
        assert time.monotonic() < ends_s, text
        time.sleep(0.02)
    return text
