"""A small HTTP/1.1 client with a kept connection, so that the client takes little of the machine beside the API.

It knows what the API answers to a submission, a status line and a Content-Length, and nothing more.
"""

import json
from typing import Self

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from .handlers import TEXT

HEADER_MAX_BYTES = 64 * 1024


def job_body(number: int) -> bytes:
    """Return the body of one job's submission."""
    return json.dumps({"name": "noop", "args": [number, 2, TEXT]}).encode()


def batch_body(first: int, count: int) -> bytes:
    """Return a batch, a job a line."""
    return b"\n".join(job_body(number) for number in range(first, first + count)) + b"\n"


class HttpClient:
    """One connection to the API on this machine; made by `connect`."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._answers = BufferedByteReceiveStream(stream)

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Return a client that is connected."""
        return cls(await anyio.connect_tcp("127.0.0.1", port))

    async def post(self, path: str, body: bytes, kind: str) -> bytes:
        """Send a request and return the answer's body.

        Raises:
            SystemExit: the API refused it; with what it said.
        """
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        await self._stream.send(head.encode() + body)
        answer = await self._answers.receive_until(b"\r\n\r\n", HEADER_MAX_BYTES)
        status, *fields = answer.decode("latin-1").split("\r\n")
        length = next((int(field[15:]) for field in fields if field.lower().startswith("content-length:")), 0)
        said = await self._answers.receive_exactly(length) if length else b""
        if not 200 <= int(status.split()[1]) < 300:
            raise SystemExit(f"the API answered {status} to {path}: {said[:500]!r}")
        return said

    async def close(self) -> None:
        """Let go of the connection."""
        await self._stream.aclose()
