"""What the tests of event streams stand on: an ASGI application's stream, read piece by piece in this process."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio

DEADLINE_S = 20.0


class Stream:
    """A client of one stream. While `reads` is unset it takes nothing that the application sends."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.began = anyio.Event()
        self.ended = anyio.Event()
        self.gone = anyio.Event()
        self.reads = anyio.Event()
        self.reads.set()
        self._send, self._receive = anyio.create_memory_object_stream[bytes](0)
        self._rest = ""
        self._asked = False
        self.comments = 0
        self.retry_ms: int | None = None
        self.last_id: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._send.close()
        self._receive.close()

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            self.began.set()
            return
        if message.get("body"):
            await self._send.send(message["body"])
        if not message.get("more_body"):
            self.ended.set()

    async def next(self) -> dict[str, Any]:
        """Return the next event: {event, id, data}; fields that stand without data are noted on the way."""
        with anyio.fail_after(DEADLINE_S):
            while True:
                block, found, self._rest = self._rest.partition("\n\n")
                if not found:
                    self._rest = block + (await self._receive.receive()).decode()
                    continue
                fields: dict[str, Any] = {}
                for line in block.split("\n"):
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                if "" in fields:
                    self.comments += 1
                if "retry" in fields:
                    self.retry_ms = int(fields["retry"])
                self.last_id = fields.get("id", self.last_id)
                if "data" in fields:
                    return {**fields, "data": json.loads(fields["data"])}
                return {"event": "", "id": fields.get("id"), "data": None}

    async def events(self, count: int) -> list[dict[str, Any]]:
        """Return the next events with data."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            event = await self.next()
            if event["data"] is not None:
                found.append(event)
        return found

    async def body(self) -> bytes:
        """Return a short answer's body."""
        with anyio.fail_after(DEADLINE_S):
            return await self._receive.receive()


@asynccontextmanager
async def watching(app: Any, target: str, **headers: str) -> AsyncIterator[Stream]:
    """Yield a client of a stream; leaving the block closes it."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1")]
        + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8787), "state": {},
    }  # fmt: skip
    stream = Stream()
    async with stream, anyio.create_task_group() as group:
        group.start_soon(app, scope, stream.receive, stream.send)
        with anyio.fail_after(DEADLINE_S):
            await stream.began.wait()
        yield stream
        stream.gone.set()
        group.cancel_scope.cancel()
