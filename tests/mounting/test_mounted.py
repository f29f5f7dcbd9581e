"""What `engine.asgi()` promises: whom it answers, when it opens, and when it closes."""

import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from headrace import BrokerUnavailable, ConfigError, Engine
from headrace.engine.http.tokens import hash_of
from http_scene import problem
from stream_scene import watching

pytestmark = pytest.mark.anyio
DEADLINE_S = 20
HERE = ("127.0.0.1", 50_000)


def made(**settings: Any) -> Engine:
    """Return an engine that can add."""
    engine = Engine("memory://", **settings)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    return engine


@asynccontextmanager
async def calling(
    app: Any, client: Any = HERE, host: str = "127.0.0.1", root: str = ""
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client whose address is `client`, of an application below `root`."""
    transport = httpx.ASGITransport(app, client=client, root_path=root)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}{root}") as found:
        yield found


async def test_what_is_not_there_is_named_where_it_is_mounted() -> None:
    """The path of a 404 and of a 405, and the way to the document, have the prefix."""
    app = made().asgi()
    async with calling(app, root="/jobs") as client:
        assert (404, "there is nothing at /jobs/v2; /jobs/openapi.json lists what there is") == problem(
            await client.get("/v2")
        )
        assert "of /jobs/v1/stats;" in problem(await client.delete("/v1/stats"))[1]
    await app.aclose()


@pytest.mark.parametrize("path", ["/v1/events", "/healthz", "/v1/jobs", "/nothing"])
async def test_a_middleware_may_add_headers(path: str) -> None:
    """Each answer's headers are its own list, as middlewares of FastAPI and Starlette take them, also a stream's."""
    app = made().asgi()

    async def marked(scope: Any, receive: Any, send: Any) -> None:
        async def mark(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-marked", b"yes"))
            await send(message)

        await app(scope, receive, mark)

    for _ in range(2):
        async with watching(marked, path) as stream:
            assert "yes" == stream.headers["x-marked"]
    async with watching(app, path) as stream:
        assert "x-marked" not in stream.headers
    await app.aclose()


async def test_it_shares_the_engines_workers_and_ends_with_them() -> None:
    """Inside `engine.running()` its jobs run; when the block ends, so do its waits, and the connection is closed."""
    engine = made()
    app = engine.asgi()
    answers: list[int] = []
    with anyio.fail_after(DEADLINE_S):
        async with calling(app) as client, anyio.create_task_group() as group, engine.running():
            first = (await client.post("/v1/jobs", json={"name": "add", "args": [1, 2]})).json()["id"]
            assert 3 == (await client.get(f"/v1/jobs/{first}/result?wait_s=20")).json()["value"]
            late = await client.post("/v1/jobs", json={"name": "add", "args": [1, 2], "delay_s": 60})

            async def wait() -> None:
                path = f"/v1/jobs/{late.json()['id']}/result?wait_s=60"
                answers.append((await client.get(path)).status_code)

            group.start_soon(wait)
            while engine.connection._broker is None or not _waits(app):
                await anyio.sleep(0.01)
    assert [202] == answers
    assert engine.connection._broker is None


def _waits(app: Any) -> int:
    return len(app._standing.get()._gateway._waits)


async def test_it_opens_by_itself_and_closes_when_told() -> None:
    """Without a block it opens at the first request, once for many, and again after `aclose` closed it."""
    engine = made()
    app = engine.asgi()
    async with calling(app) as client:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(client.get, "/v1/queues")
        assert 1 == engine.connection._users
        await app.aclose()
        await app.aclose()
        assert (0, None) == (engine.connection._users, engine.connection._broker)
        assert 200 == (await client.get("/v1/queues")).status_code
    await app.aclose()


async def test_the_hosts_life_opens_and_closes_it() -> None:
    """Where the host forwards its lifespan, the connection is open between its start and its end."""
    engine = made()
    app = engine.asgi()
    heard: list[Any] = []
    users: list[int] = []
    words = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        if heard:
            users.append(engine.connection._users)
        return {"type": next(words)}

    async def send(message: Any) -> None:
        heard.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == heard
    assert ([1], 0) == (users, engine.connection._users)


async def test_a_wrong_configuration_fails_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """With settings that cannot hold the host's start fails with the reason; a request is a 500, its reason logged."""
    engine = Engine("nonsense://")
    app = engine.asgi()
    heard: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        heard.append(message)

    await app({"type": "lifespan"}, receive, send)
    assert [("lifespan.startup.failed", True)] == [(each["type"], "nonsense" in each["message"]) for each in heard]
    async with calling(app) as client:
        status, detail = problem(await client.get("/v1/queues"))
    assert (500, False) == (status, "nonsense" in detail)
    assert "nonsense" in caplog.text


async def test_a_server_that_does_not_come_up_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the connection cannot be opened now, the request is a 503 with Retry-After, and a later one opens it."""
    engine = made()
    app = engine.asgi()
    open_really = engine.connection.open
    errors = [BrokerUnavailable("it does not start")]

    def open_once_in_two() -> Any:
        if errors:
            raise errors.pop()
        return open_really()

    monkeypatch.setattr(engine.connection, "open", open_once_in_two)
    async with calling(app) as client:
        response = await client.get("/v1/queues")
        assert 503 == problem(response)[0]
        assert "2" == response.headers["retry-after"]
        assert 200 == (await client.get("/v1/queues")).status_code
    await app.aclose()


@pytest.mark.parametrize(
    ("client", "host", "headers"),
    [
        (("192.0.2.7", 1), "127.0.0.1", {}),
        (("::ffff:192.0.2.7", 1), "127.0.0.1", {}),
        (("", 0), "127.0.0.1", {}),
        (None, "127.0.0.1", {}),
        (HERE, "jobs.example.org", {}),
        (HERE, "127.0.0.1", {"origin": "https://example.org"}),
        (HERE, "127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        (HERE, "127.0.0.1", {"forwarded": "for=127.0.0.1"}),
    ],
)
async def test_without_tokens_it_answers_this_machine_alone(client: Any, host: str, headers: dict[str, str]) -> None:
    """Another machine, a proxy, and a page of another origin are refused, and nothing is opened for them.

    `guarded=False` answers them all.
    """
    engine = made()
    app = engine.asgi()
    async with calling(app, client, host) as caller:
        assert 403 == problem(await caller.get("/v1/queues", headers=headers))[0]
    await app.aclose()
    public = engine.asgi(guarded=False)
    async with calling(public, client, host) as caller:
        assert 200 == (await caller.get("/v1/queues", headers=headers)).status_code
    await public.aclose()


@pytest.mark.parametrize("guarded", [False, True])
async def test_with_tokens_it_asks_everybody_for_one(guarded: bool) -> None:
    """From this machine or another, guarded or not: without a token 401, without the scope 403, with it an answer."""
    known = {"name": "reader", "sha256": hash_of("secret"), "scopes": ["read"]}
    app = made(http={"tokens": [known]}).asgi(guarded=guarded)
    for client, host in ((HERE, "127.0.0.1"), (("192.0.2.7", 1), "jobs.example.org")):
        async with calling(app, client, host) as caller:
            assert 401 == problem(await caller.get("/v1/queues"))[0]
            sent = {"authorization": "Bearer secret"}
            assert 403 == problem(await caller.post("/v1/queues/default/pause", headers=sent))[0]
            assert 200 == (await caller.get("/v1/queues", headers=sent)).status_code
    await app.aclose()


@pytest.mark.parametrize("client", [("127.0.0.8", 1), ("::1", 1), ("::ffff:127.0.0.1", 1)])
async def test_this_machine_has_many_addresses(client: Any) -> None:
    """Whatever loopback address the caller has, it is this machine."""
    engine = made()
    app = engine.asgi()
    async with calling(app, client, "localhost") as caller:
        assert 200 == (await caller.get("/v1/queues")).status_code
    await app.aclose()


@pytest.mark.parametrize(
    ("path", "root", "raw", "expected"),
    [
        ("/headrace/v1/queues", "/headrace", b"/headrace/v1/queues", "/headrace"),
        ("/v1/queues", "/headrace", b"/headrace/v1/queues", "/headrace"),
        ("/v1/queues/", "", b"/headrace/v1/queues", "/headrace"),
        ("/v1/v1/queues", "/v1", b"/v1/v1/queues", "/v1"),
        ("/a b/v1/queues", "/a b", b"/a%20b/v1/queues", "/a b"),
        ("/v1/queues", "", b"/v1/queues", "/"),
        ("/v1/queues", "", None, "/"),
    ],
)
async def test_hosts_say_in_many_ways_where_it_is(path: str, root: str, raw: bytes | None, expected: str) -> None:
    """Where it is mounted is found, whether the host cuts that off, leaves it on, or only changes the path."""
    engine = made()
    app = engine.asgi()

    async def call(at: str) -> bytes:
        sent: list[Any] = []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path.replace("/v1/queues", at), "root_path": root, "query_string": b"",
            "raw_path": None if raw is None else raw.replace(b"/v1/queues", at.encode()),
            "headers": [(b"host", b"localhost")], "client": HERE, "server": HERE, "state": {"of": "the host"},
        }  # fmt: skip
        if raw is None:
            del scope["raw_path"]

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        assert 200 == sent[0]["status"]
        return b"".join(message.get("body", b"") for message in sent)

    import msgspec

    assert [] == msgspec.json.decode(await call("/v1/queues"))
    assert [{"url": expected}] == msgspec.json.decode(await call("/openapi.json"))["servers"]
    await app.aclose()


async def test_a_websocket_is_closed() -> None:
    """There are none; the host's server is told so rather than left waiting."""
    heard: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        heard.append(message["type"])

    await made().asgi()({"type": "websocket", "path": "/"}, receive, send)
    assert ["websocket.close"] == heard


def test_one_loop_after_another(anyio_backend: tuple[str, dict[str, Any]]) -> None:
    """The same application serves loops one after the other, as hosts' test clients run them."""
    app = made().asgi()
    ids: set[str] = set()

    async def once() -> None:
        async with calling(app) as client:
            ids.add((await client.post("/v1/jobs", json={"name": "add", "args": [1, 2]})).json()["id"])

    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(once, backend=backend)
    assert 3 == len(ids)


def test_it_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any of its modules the error names the extra, at once and not in the first request."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"headrace\[server\]"):
        made().asgi()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="compression.zstd is in the standard library")
def test_it_needs_each_part_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is missing with the package that it would be in is named; granian is not needed here."""
    found = importlib.util.find_spec

    def find(name: str, *rest: str) -> Any:
        if name == "backports.zstd":
            raise ModuleNotFoundError("No module named 'backports'", name="backports")
        return None if name == "granian" else found(name, *rest)

    monkeypatch.setattr("importlib.util.find_spec", find)
    with pytest.raises(ConfigError) as caught:
        made().asgi()
    assert "engine.asgi() needs backports.zstd: pip install 'headrace[server]'" == str(caught.value)
