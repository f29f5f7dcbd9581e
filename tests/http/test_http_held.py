"""Bodies that have not ended take memory, over all requests only so much, and give it back however they end."""

import json
from typing import Any

import anyio
import pytest

from headrace.config import limits
from headrace.config.settings import HttpSettings, Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.http.app import make_app
from headrace.engine.http.gateway import Gateway

pytestmark = pytest.mark.anyio
DEADLINE_S = 30
JOB = b'{"name": "add", "args": ["' + b"x" * 60 + b'"]}'
RETRY = b'{"all": true, "queue": "' + b"x" * 60 + b'"}'


class Sender:
    """A client that sends a body in the pieces that it is told to.

    Args:
        app: Whom it asks.
        path: What it asks.
    """

    def __init__(self, app: Any, path: str) -> None:
        self._app = app
        self._path = path
        self._send, self._receive = anyio.create_memory_object_stream[dict[str, Any]](10)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.content = b""

    async def ask(self) -> None:
        scope = {
            "type": "http", "method": "POST", "path": self._path, "raw_path": self._path.encode(), "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "http_version": "1.1",
            "scheme": "http", "root_path": "", "asgi": {"version": "3.0"}, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8787),
        }  # fmt: skip
        with self._send, self._receive:
            await self._app(scope, self._receive.receive, self._answered)

    async def piece(self, content: bytes, *, more: bool = True) -> None:
        await self._send.send({"type": "http.request", "body": content, "more_body": more})
        await anyio.wait_all_tasks_blocked()

    async def go_away(self) -> None:
        await self._send.send({"type": "http.disconnect"})

    async def _answered(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self.content += message.get("body", b"")


@pytest.mark.parametrize(("path", "body"), [("/v1/jobs", JOB), ("/v1/dead/retry", RETRY)], ids=["job", "retry"])
async def test_who_finds_no_room_is_told_to_come_again(path: str, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one body lies there unfinished, another finds no room: 503 and Retry-After; afterwards there is room."""
    monkeypatch.setattr(limits, "HTTP_BODIES_HELD_BYTES", 100)
    gateway = Gateway(MemoryBroker(), Settings(http=HttpSettings(body_max_bytes=100)))
    app = make_app(gateway)
    first, second, third = (Sender(app, path) for _ in range(3))
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(first.ask)
            await first.piece(body[:50])
            group.start_soon(second.ask)
            await second.piece(body[:60])
            await second.piece(body[60:], more=False)
            assert (503, "2", 0) == (second.status, second.headers["retry-after"], first.status)
            refusal = json.loads(second.content)
            assert ("ApiBusy", True) == (refusal["error"], "other requests" in refusal["detail"])
            await first.piece(body[50:], more=False)
        assert first.status in {200, 202}, first.content
        async with anyio.create_task_group() as group:
            group.start_soon(third.ask)
            await third.piece(body[:60])
            await third.piece(body[60:], more=False)
    assert third.status in {200, 202}, third.content
    assert 0 == gateway.held.size_bytes


async def test_a_client_that_goes_away_gives_its_room_back() -> None:
    """What a body took is free again when its client vanishes in the middle, or it becomes too large."""
    gateway = Gateway(MemoryBroker(), Settings(http=HttpSettings(body_max_bytes=100)))
    app = make_app(gateway)
    gone, large = Sender(app, "/v1/jobs"), Sender(app, "/v1/jobs")
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(gone.ask)
            await gone.piece(b"x" * 50)
            group.start_soon(large.ask)
            await large.piece(b"x" * 60)
            assert 110 == gateway.held.size_bytes
            await large.piece(b"x" * 60)
            await large.piece(b"", more=False)
            await gone.go_away()
    assert ([400, 413], 0) == ([gone.status, large.status], gateway.held.size_bytes)
