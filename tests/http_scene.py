"""What the tests of the HTTP API stand on: the application over a memory broker, asked in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from headrace.config.settings import Settings
from headrace.engine.broker.control import OpenBroker
from headrace.engine.http.app import make_app
from headrace.engine.http.gateway import Gateway
from headrace.engine.observe.fleet import FleetRecord, HandlerCard
from headrace.engine.observe.report import WorkerReport
from headrace.jobs.registry import Registry

URL = "http://127.0.0.1:8787"
#: As a worker that has `add(a: int, b: int = 1)` publishes it.
ADD = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 1}},
    "required": ["a"],
}


def card(queue: str = "sums") -> HandlerCard:
    """Return the card of `add`."""
    return HandlerCard(queue=queue, runner="async", aliases=("plus",), schema=msgspec.Raw(msgspec.msgpack.encode(ADD)))


def publish(broker: OpenBroker, worker: str = "w", **fields: Any) -> None:
    """Have a worker say that it is there and knows `add`."""
    known: dict[str, Any] = {"queues": ("sums",), "handlers": {"add": card()}, "report": WorkerReport(), **fields}
    record = FleetRecord(worker=worker, host="h", pid=1, started_at_ms=0, version="0", **known)
    broker.fleet_put(worker, record.to_bytes(), 60.0)


@asynccontextmanager
async def asking(
    broker: OpenBroker, settings: Settings | None = None, registry: Registry | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the API over a broker."""
    async with asking_gateway(broker, settings, registry) as (client, _):
        yield client


@asynccontextmanager
async def asking_app(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an application."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        yield client


@asynccontextmanager
async def asking_gateway(
    broker: OpenBroker, settings: Settings | None = None, registry: Registry | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, Gateway]]:
    """Yield a client of the API over a broker, and the gateway in between."""
    gateway = Gateway(broker, settings or Settings(), registry)
    app: Any = make_app(gateway)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        yield client, gateway


def problem(response: httpx.Response) -> tuple[int, str]:
    """Return a problem's status and detail, after a look at its form."""
    assert "application/problem+json" == response.headers["content-type"]
    body = response.json()
    assert {"type", "title", "status", "detail"} <= body.keys()
    assert response.status_code == body["status"]
    assert "Traceback" not in response.text
    return response.status_code, body["detail"]


class Pieces(httpx.AsyncByteStream):
    """A body of unannounced length that arrives in pieces; no generator, so that it may be left unread."""

    def __init__(self, content: bytes, size: int) -> None:
        self._rest = content
        self._size = size

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        piece, self._rest = self._rest[: self._size], self._rest[self._size :]
        return piece


async def post_pieces(client: httpx.AsyncClient, path: str, body: Pieces, kind: str) -> httpx.Response:
    """Post a body piece by piece."""
    headers = {"content-type": kind, "transfer-encoding": "chunked", "host": "127.0.0.1"}
    return await client.send(httpx.Request("POST", f"{URL}{path}", headers=headers, stream=body))
