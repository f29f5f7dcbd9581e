"""The hot route: bare ASGI in front of the application, and no client can tell."""

from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import redis

from headrace.config.settings import HttpSettings, Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.open import open_broker
from headrace.engine.http import gateway
from headrace.engine.http.app import make_app
from headrace.engine.http.gateway import Gateway
from headrace.jobs.errors import BrokerUnavailable
from http_scene import URL, asking, problem, publish
from servers import start_valkey

pytestmark = pytest.mark.anyio
JOB = {"name": "add", "args": [1, 2]}
AT_ONCE = 64


@pytest.mark.parametrize("keyed", [False, True])
async def test_requests_at_the_same_time_gather_into_one_script_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyed: bool
) -> None:
    """Of 64 requests at once the first is on its way alone, and the 63 that come meanwhile share one script call.

    With an Idempotency-Key too, as headrace's own clients send it.
    """
    monkeypatch.setattr(gateway, "FLEET_TTL_S", 3600.0)  # read once, below, before the server is paused
    ids: list[str] = []
    keys = count()
    with start_valkey(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        broker = open_broker(server.url)
        async with asking(broker) as asker:

            async def one() -> None:
                headers = {"idempotency-key": str(next(keys))} if keyed else {}
                ids.append((await asker.post("/v1/jobs", json=JOB, headers=headers)).json()["id"])

            await one()
            before = _script_calls(client)
            # Until it is unpaused, the server answers no script that may write; so all of them are under way together.
            client.client_pause(4_000, all=False)
            async with anyio.create_task_group() as group:
                for _ in range(AT_ONCE):
                    group.start_soon(one)
                await anyio.wait_all_tasks_blocked()
                client.client_unpause()
            assert 2 == _script_calls(client) - before
        broker.close()
    assert 1 + AT_ONCE == len(set(ids))


async def test_nobody_waits_for_a_look_at_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of the workers is used while it is read again, and soon is what they say now."""
    with start_valkey(tmp_path) as server:
        broker = open_broker(server.url)
        own = Gateway(broker, Settings())
        first = await own.fleet()
        assert {} == first.cards
        publish(broker)
        monkeypatch.setattr(gateway, "FLEET_TTL_S", 0.0)
        monkeypatch.setattr(gateway, "FLEET_STALE_S", 3600.0)
        assert first is await own.fleet()
        with anyio.fail_after(30):
            while "add" not in (await own.fleet()).cards:
                await anyio.sleep(0.01)
        server.stop()
        monkeypatch.setattr(gateway, "FLEET_STALE_S", 0.0)
        with pytest.raises(BrokerUnavailable):
            await own.fleet()
        broker.close()


def _script_calls(client: "redis.Redis") -> int:
    calls: int = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    return calls


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b'{"name":"add","args":[1]}', {"content-type": "application/json; charset=utf-8"}),
        (b'{"name":"add"}', {"content-type": "text/plain"}),
        (b'{"name":"add"}', {}),
        (b"{", {"content-type": "application/json"}),
        (b"[" * 50_000, {"content-type": "application/json"}),
        (b'{"nam":"add"}', {"content-type": "application/json"}),
        (b'{"name":"add"}', {"content-type": "application/json", "idempotency-key": "x" * 300}),
        (b'{"name":"add","queue":"full"}', {"content-type": "application/json"}),
        (b'{"name":"add","args":["' + b"x" * 3000 + b'"]}', {"content-type": "application/json"}),
        (b" " * 5000, {"content-type": "application/json"}),
    ],
)
async def test_it_answers_as_the_application_does(content: bytes, headers: dict[str, str]) -> None:
    """Every spelling of the path gets the same status, headers and words, whether the hot route or the other has it."""
    settings = Settings(max_queue_length=2, max_payload_bytes=2000, http=HttpSettings(body_max_bytes=4000))
    async with asking(MemoryBroker(), settings) as client:
        for _ in range(2):
            assert 202 == (await client.post("/v1/jobs", json={"name": "a", "queue": "full"})).status_code
        hot = await client.post("/v1/jobs", content=content, headers=headers)
        other = await client.post("/v1/jobs/", content=content, headers={**headers})
        assert hot.status_code == other.status_code
        assert hot.headers == other.headers or 202 == hot.status_code
        if hot.status_code == 202:
            assert hot.json().keys() == other.json().keys()
        else:
            assert hot.json() == other.json()
            assert problem(hot) == problem(other)


async def test_other_methods_go_past_it() -> None:
    """A method that the path does not take is a 405 that says which it takes."""
    async with asking(MemoryBroker()) as client:
        response = await client.put("/v1/jobs", json=JOB)
        assert 405 == problem(response)[0]
        assert "POST" in response.headers["allow"]


async def test_it_is_behind_the_gate() -> None:
    """A request that names another host is refused before the hot route sees it."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        assert 403 == problem(await client.post("/v1/jobs", json=JOB, headers={"host": "example.org"}))[0]
    assert [] == broker.queue_names()


async def test_it_is_found_where_the_application_is_mounted() -> None:
    """Under a root path, as where another application mounts it, the same path is the hot route."""
    transport = httpx.ASGITransport(_app(), root_path="/jobs-api")
    async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
        assert 202 == (await client.post("/jobs-api/v1/jobs", json=JOB)).status_code


async def test_a_client_that_goes_away_submits_nothing() -> None:
    """A body that ends before its end is no job."""
    broker, sent = MemoryBroker(), []
    messages = [
        {"type": "http.request", "body": b'{"name":"add"}', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/jobs", "headers": headers}
    await _app(broker)(scope, receive, send)
    assert 400 == sent[0]["status"]
    assert b"ended before the body did" in sent[1]["body"]
    assert [] == broker.queue_names()


def _app(broker: MemoryBroker | None = None) -> Any:
    return make_app(Gateway(broker or MemoryBroker(), Settings()))
