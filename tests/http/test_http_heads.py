"""HEAD is answered as GET is, without a body: by the application, and over real connections."""

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from headrace.config.settings import HttpSettings, Settings
from headrace.config.tokens import Token
from headrace.engine.broker.memory import Fault, MemoryBroker
from headrace.engine.http.tokens import hash_of
from http_scene import asking, problem, publish
from http_server import DEADLINE_S, serving

pytestmark = pytest.mark.anyio
SECRET = "headrace_the-secret-of-this-test"
#: Answers that are the same each time.
STEADY = (
    "/readyz",
    "/v1/queues",
    "/v1/workers",
    "/openapi.json",
    "/docs",
    "/nothing",
    "/v1/jobs/default:9",
    "/v1/dead",
)


@pytest.mark.parametrize("path", STEADY)
async def test_head_has_the_status_and_headers_of_get(path: str) -> None:
    """Status, type, length and tag are those of GET; there is no body."""
    broker = MemoryBroker()
    publish(broker)
    async with asking(broker) as client:
        got, head = await client.get(path), await client.head(path)
        assert (got.status_code, dict(got.headers)) == (head.status_code, dict(head.headers))
        assert (b"", True) == (head.content, bool(got.content))


async def test_head_tells_of_readiness() -> None:
    """It is 503 while the broker is away, and 200 once it is back."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        broker.faults.append(Fault("queue_names", "before"))
        assert [503, 200] == [(await client.head("/readyz")).status_code for _ in range(2)]


async def test_head_needs_what_get_needs() -> None:
    """With tokens /healthz is open to it, and the rest asks for the scope of GET."""
    known = (Token(name="r", sha256=hash_of(SECRET), scopes=("read",)),)
    async with asking(MemoryBroker(), Settings(http=HttpSettings(tokens=known))) as client:
        assert 200 == (await client.head("/healthz")).status_code
        refused = await client.head("/v1/stats")
        assert (401, b"") == (refused.status_code, refused.content)
        bearer = {"authorization": f"Bearer {SECRET}"}
        assert 200 == (await client.head("/v1/stats", headers=bearer)).status_code


async def test_head_is_no_method_of_events_nor_of_what_has_no_get() -> None:
    """A stream has no end, so HEAD of it is a 405, however its path is spelt; so is HEAD where GET is."""
    async with asking(MemoryBroker()) as client:
        for path in ("/v1/events", "/v1//events/", "/v1/jobs/batch/x/retry", "/v1/queues/q/pause"):
            assert (await client.head(path)).status_code in (404, 405)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/jobs", "POST, GET, HEAD, OPTIONS"),
        ("/v1//jobs/", "POST, GET, HEAD, OPTIONS"),
        ("/v1/jobs/batch", "POST, OPTIONS"),
        ("/v1/dead/retry", "POST, OPTIONS"),
        ("/v1/dead/q:1-0", "GET, PATCH, DELETE, HEAD, OPTIONS"),
        ("/v1/events", "GET, OPTIONS"),
        ("/v1/jobs/q:1-0/cancel", "POST, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ],
)
async def test_allow_names_each_method_that_a_path_takes(path: str, methods: str) -> None:
    """Of every route at a path, also where two share it, to OPTIONS and to a method that none takes."""
    async with asking(MemoryBroker()) as client:
        asked = await client.options(path)
        assert (204, methods) == (asked.status_code, asked.headers["allow"])
        refused = await client.put(path)
        assert (405, methods) == (problem(refused)[0], refused.headers["allow"])
        assert f"it takes {methods}" in problem(refused)[1]


def test_head_over_a_connection_that_is_used_again(tmp_path: Path) -> None:
    """The length is that of GET's body, no byte of it is sent, and the connection goes on."""
    with serving(tmp_path, "") as api:
        line = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=DEADLINE_S)
        lengths = []
        for method in ("GET", "HEAD", "HEAD", "GET"):
            line.request(method, "/openapi.json")
            answer = line.getresponse()
            lengths.append((answer.status, answer.getheader("content-length"), bool(answer.read())))
        line.close()
        assert lengths[0] == lengths[3]
        assert [(200, lengths[0][1], False)] * 2 == lengths[1:3]
        assert lengths[0][2]
