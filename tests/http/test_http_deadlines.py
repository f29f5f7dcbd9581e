"""Bodies that drip, and answers that are known before the body ended."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from headrace.config import limits
from headrace.config.settings import HttpSettings, Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.http.app import make_app
from headrace.engine.http.deadlines import Pace, paced
from headrace.engine.http.gateway import Gateway

pytestmark = pytest.mark.anyio
DEADLINE_S = 30
Receive = Callable[[], Awaitable[dict[str, Any]]]


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def scope(path: str, *headers: tuple[bytes, bytes], method: str = "POST", version: str = "1.1") -> dict[str, Any]:
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers], "http_version": version, "scheme": "http", "root_path": "",
        "asgi": {"version": "3.0"}, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8787),
    }  # fmt: skip


class Dripping:
    """A client that sends these pieces and then nothing more, with its connection open."""

    def __init__(self, *pieces: dict[str, Any]) -> None:
        self.left = list(pieces)

    async def receive(self) -> dict[str, Any]:
        if not self.left:
            await anyio.sleep_forever()
        return self.left.pop(0)


async def ask(app: Any, request: dict[str, Any], receive: Receive) -> tuple[int, dict[str, str], bytes]:
    """Return an answer's status, headers and body."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    with anyio.fail_after(DEADLINE_S):
        await app(request, receive, send)
    headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("kind", [b"application/json", b"application/x-ndjson"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/batch", "/v1/dead/retry"])
async def test_a_body_that_never_ends_is_a_408(path: str, kind: bytes) -> None:
    """Whoever stops in the middle of a body is answered with a problem, and over HTTP/1 the connection ends."""
    app = make_app(Gateway(MemoryBroker(), Settings(http=HttpSettings(body_timeout_s=0.1))))
    for version, ends in (("1.1", "close"), ("2", None)):
        request = scope(path, (b"content-type", kind), version=version)
        begin = b'[{"na' if path == "/v1/jobs/batch" and kind == b"application/json" else b'{"na'
        status, headers, body = await ask(app, request, Dripping(piece(begin)).receive)
        if kind == b"application/x-ndjson" and path != "/v1/jobs/batch":
            assert 415 == status
            continue
        assert (408, "application/problem+json") == (status, headers["content-type"])
        assert "http.body_timeout" in json.loads(body)["detail"]
        assert ends == headers.get("connection")


async def test_what_came_before_is_reported() -> None:
    """A batch whose rest never comes says what became of the jobs before."""
    broker = MemoryBroker()
    app = make_app(Gateway(broker, Settings(http=HttpSettings(body_timeout_s=0.1))))
    request = scope("/v1/jobs/batch", (b"content-type", b"application/x-ndjson"))
    lines = piece(b'{"name":"add"}\n{"name":"add"}\n{"na')
    status, _, body = await ask(app, request, Dripping(lines).receive)
    assert (408, 2) == (status, json.loads(body)["batch"]["accepted"])


async def test_an_application_that_knows_nothing_of_it_is_answered_for() -> None:
    """Where nobody else makes an answer of it, it is made here; after an answer has begun, nothing is added."""

    async def reads(_scope: Any, receive: Receive, _send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    status, headers, body = await ask(paced(reads, 0.05), scope("/x"), Dripping().receive)  # type: ignore[arg-type]
    assert (408, "close", 408) == (status, headers["connection"], json.loads(body)["status"])


async def test_waiting_for_the_client_to_go_is_no_body() -> None:
    """After the end of a body, and where there is none, `receive` waits as long as it takes."""

    async def waits(_scope: Any, receive: Receive, send: Any) -> None:
        if _scope["method"] == "POST":
            await receive()
        with anyio.move_on_after(0.2) as waiting:
            await receive()
        await send({"type": "http.response.start", "status": 200 if waiting.cancelled_caught else 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = paced(waits, 0.05)  # type: ignore[arg-type]
    assert 200 == (await ask(app, scope("/x"), Dripping(piece(b"all", more=False)).receive))[0]
    assert 200 == (await ask(app, scope("/x", method="GET"), Dripping().receive))[0]


async def test_a_body_ends_with_its_last_announced_byte() -> None:
    """Nobody waits for the message by which the server tells of the end; who then receives hears of the client's."""
    heard: list[dict[str, Any]] = []

    async def reads(_scope: Any, receive: Receive, send: Any) -> None:
        while not heard or heard[-1].get("more_body"):
            heard.append(await receive())
        heard.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = paced(reads, 0.05, by_length=True)  # type: ignore[arg-type]
    client = Dripping(piece(b"al"), piece(b"l"), piece(b"", more=False), {"type": "http.disconnect"})
    assert 200 == (await ask(app, scope("/x", (b"content-length", b"3")), client.receive))[0]
    assert [True, False, None] == [message.get("more_body") for message in heard]
    assert "http.disconnect" == heard[-1]["type"]
    heard.clear()
    # Where the length is not the body's own to say, it ends where the server says.
    client = Dripping(piece(b"al"), piece(b"l"), piece(b"", more=False), {"type": "http.disconnect"})
    headers = ((b"content-length", b"3"), (b"transfer-encoding", b"chunked"))
    assert 200 == (await ask(app, scope("/x", *headers), client.receive))[0]
    assert [True, True, False, None] == [message.get("more_body") for message in heard]


async def test_a_cancelled_request_is_not_a_late_one() -> None:
    """Somebody else's cancellation goes on outwards, and is not answered 408."""
    ended: list[str] = []

    async def reads(_scope: Any, receive: Receive, _send: Any) -> None:
        try:
            await receive()
        finally:
            ended.append("reads")

    with anyio.move_on_after(0.1) as cancelled:
        await paced(reads, 30.0)(scope("/x"), Dripping().receive, None)  # type: ignore[arg-type]
    assert cancelled.cancelled_caught
    assert ["reads"] == ended
    with anyio.fail_after(DEADLINE_S):  # nothing of it is left in the coroutine that was cancelled
        await anyio.sleep(0.01)


@pytest.mark.parametrize("first", ["late", "cancelled"])
def test_a_late_request_that_is_cancelled_is_cancelled(first: str) -> None:
    """Where both come before it is done with either, the cancellation goes outwards and nothing is answered."""
    sent: list[Any] = []

    async def receive() -> Any:
        request = asyncio.current_task()
        assert request is not None
        if first == "cancelled":
            request.cancel()  # comes at the next await; the body's time ends in the one after it
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(DEADLINE_S)
        try:
            await asyncio.sleep(DEADLINE_S)
        except asyncio.CancelledError:
            if first == "late":
                request.cancel()
            raise

    async def reads(_scope: Any, receive: Receive, _send: Any) -> None:
        await receive()

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> bool:
        request = asyncio.ensure_future(paced(reads, 0.05)(scope("/x"), receive, send))  # type: ignore[arg-type]
        await asyncio.wait([request], timeout=DEADLINE_S)
        return request.cancelled()

    assert asyncio.run(main())
    assert [] == sent


def test_a_pace_is_kept_by_bytes_and_not_by_signs_of_life() -> None:
    """500 bytes a second go on for ever, a byte now and then does not; what was sent fast buys no long pause."""
    steady = Pace(20.0)
    for _ in range(10_000):
        steady.waited(1.0, limits.HTTP_BODY_MIN_BYTES_PER_S)
    assert 20.0 == steady.left_s
    dripping = Pace(20.0)
    for _ in range(21):
        dripping.waited(1.0, 1)
    assert 0.0 == dripping.left_s
    fast = Pace(20.0)
    fast.waited(0.1, 100_000_000)
    assert 20.0 == fast.left_s


async def test_a_refused_body_is_taken_off_the_line() -> None:
    """What is left of a small body is read before the answer, so that it arrives; of a large one only a part."""
    app = make_app(Gateway(MemoryBroker(), Settings()))
    small = Dripping(piece(b"x" * 1000), piece(b"y", more=False))
    assert 415 == (await ask(app, scope("/v1/jobs", (b"content-type", b"text/plain")), small.receive))[0]
    assert [] == small.left
    count = 2 * limits.HTTP_BODY_UNREAD_BYTES // 65_536
    large = Dripping(*(piece(b"x" * 65_536) for _ in range(count)))
    assert 403 == (await ask(app, scope("/v1/jobs") | {"headers": [(b"host", b"evil.example")]}, large.receive))[0]
    assert count // 2 == len(large.left)


async def test_a_client_that_asks_first_is_not_asked_for_its_body() -> None:
    """With Expect: 100-continue a refusal comes instead of the body."""
    app = make_app(Gateway(MemoryBroker(), Settings()))
    asks = Dripping(piece(b"x"))
    headers = ((b"content-type", b"text/plain"), (b"expect", b"100-continue"))
    assert 415 == (await ask(app, scope("/v1/jobs", *headers), asks.receive))[0]
    assert 1 == len(asks.left)


async def test_a_rest_that_does_not_come_holds_the_answer_up_for_a_moment_only() -> None:
    """A refused client that drips is answered all the same."""
    app = make_app(Gateway(MemoryBroker(), Settings(http=HttpSettings(body_timeout_s=0.1))))
    assert 415 == (await ask(app, scope("/v1/jobs", (b"content-type", b"text/plain")), Dripping().receive))[0]
