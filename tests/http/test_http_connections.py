"""Connections that do nothing, headers that are too large or never end, and what that costs others."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.config import limits
from headrace.engine.http.connections import Found, Idle
from http_server import CERTS, DEADLINE_S, Serving, serving
from servers import start_valkey

ANY = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def peer(port: int) -> tuple[str, str]:
    return "127.0.0.1", str(port)


def found(*ports: int) -> dict[int, Found]:
    return {port: Found(port, port, peer(port)) for port in ports}


def over(idle: Idle, ports: list[int], now_s: float) -> list[int]:
    """Return the ports of the connections that are to be closed."""
    return [int(each.peer[1]) for each in idle.overdue(found(*ports), now_s)]


def test_a_connection_without_a_request_is_closed_after_its_time() -> None:
    """It idles from its first sight, or from its last answer; a request under way keeps it however long."""
    idle = Idle(10.0, 100)
    assert [] == over(idle, [1, 2, 3], 0.0)
    idle.began(peer(2))
    idle.began(peer(3))
    idle.began(peer(3))
    idle.ended(peer(3), 5.0)
    idle.ended(peer(3), 6.0)
    assert [] == over(idle, [1, 2, 3], 9.9)
    assert [1] == over(idle, [1, 2, 3], 10.0)
    assert [3] == over(idle, [2, 3], 16.0)
    assert [] == over(idle, [2], 1_000.0)
    idle.ended(peer(2), 1_000.0)
    assert ([], [2]) == (over(idle, [2], 1_009.0), over(idle, [2], 1_010.0))


def test_a_client_that_still_reads_is_not_idle() -> None:
    """While an unread rest shrinks, and for a time after, a connection stays; left unread, it is closed."""
    idle = Idle(10.0, 100)
    stay_s = limits.HTTP_STREAM_SEND_TIMEOUT_S

    def look(unsent_bytes: int, now_s: float) -> int:
        return len(idle.overdue({1: Found(1, 1, peer(1), unsent_bytes)}, now_s))

    assert [0] * 40 == [look(100_000 - second, 5.0 * second) for second in range(40)]
    assert [0, 0] == [look(0, 200.0), look(0, 209.9)]
    assert 1 == look(0, 210.0)
    assert [0, 0, 1] == [look(500, 300.0), look(500, 300.0 + stay_s - 1), look(500, 300.0 + stay_s)]


def test_a_request_under_way_keeps_a_connection_that_takes_nothing_for_a_time_only() -> None:
    """Over HTTP/2 the next request may always be under way: after twice the time nothing of it matters any more."""
    idle = Idle(10.0, 100)
    stay_s = limits.HTTP_STREAM_SEND_TIMEOUT_S

    def look(unsent_bytes: int, now_s: float) -> tuple[int, bool]:
        return len(idle.overdue({1: Found(1, 1, peer(1), unsent_bytes)}, now_s)), idle.is_stuck(1)

    idle.began(peer(1))
    assert [(0, False)] * 3 == [look(500, 0.0), look(500, stay_s), look(500, 2 * stay_s - 1)]
    assert ((1, True), False) == (look(500, 2 * stay_s), idle.is_idle(peer(1), 2 * stay_s))
    assert [(0, False)] * 2 == [look(400, 2 * stay_s + 1), look(0, 1_000.0)]


@pytest.mark.redis_core
def test_an_answer_that_is_read_slowly_comes_whole(tmp_path: Path) -> None:
    """However long a client takes over an answer, beyond http.idle_timeout too, it gets all of it."""
    toml = 'idle_timeout = "1s"\nheader_timeout = "1s"'
    with (
        start_valkey(tmp_path) as server,
        serving(tmp_path, toml, url=server.url) as api,
        socket.socket() as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", api.port))
        body = b'{"name":"add","queue":"' + b"q" * 480 + b' "}\n'
        body *= 20_000
        client.sendall(
            b"POST /v1/jobs/batch HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        got, began_s = b"", time.monotonic()
        while not got.endswith(b"0\r\n\r\n"):
            piece = client.recv(65_536)
            assert piece, f"cut off after {len(got)} bytes"
            got += piece
            if time.monotonic() - began_s < 4:  # slowly, for several times idle_timeout
                time.sleep(0.01)
    assert b'"unlisted":10000}' in got


def test_a_port_that_comes_again_is_another_connection() -> None:
    """Of a connection that is gone nothing is remembered."""
    idle = Idle(10.0, 100)
    over(idle, [1], 0.0)
    over(idle, [], 5.0)
    assert ([], 1) == (over(idle, [1], 11.0), idle.count)


def test_who_asks_while_it_is_judged_stays() -> None:
    """What was found overdue is closed only if no request of its peer came or ended since the look began."""
    idle = Idle(10.0, 100)
    over(idle, [1], 0.0)
    assert [1] == over(idle, [1], 11.0)
    assert idle.is_idle(peer(1), 11.0)
    idle.began(peer(1))
    assert not idle.is_idle(peer(1), 11.0)
    idle.ended(peer(1), 11.1)
    assert not idle.is_idle(peer(1), 11.0)
    assert idle.is_idle(peer(1), 12.0)


def test_the_longest_idle_make_room_while_nearly_all_are_in_use() -> None:
    """With less than a twentieth free, as many idle ones go as leave a tenth free, but none that just came."""
    idle = Idle(1_000.0, 100)
    over(idle, list(range(50)), 0.0)
    assert [] == over(idle, list(range(94)), 3.0)
    idle.began(peer(0))
    assert [1, 2, 3, 4, 5] == over(idle, list(range(95)), 4.0)
    assert list(range(1, 11)) == over(idle, list(range(100)), 4.5)
    young = Idle(1_000.0, 10)
    over(young, list(range(10)), 0.0)
    assert [] == over(young, list(range(10)), limits.HTTP_IDLE_PRESSED_S - 0.1)
    assert [0] == over(young, list(range(10)), limits.HTTP_IDLE_PRESSED_S)


def connect(api: Serving, *sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", api.port), timeout=DEADLINE_S)
    for part in sent:
        connection.sendall(part)
    return connection


def rest(connection: socket.socket) -> bytes:
    """Return what still comes until the connection ends."""
    received = b""
    while True:
        try:
            part = connection.recv(65_536)
        except ConnectionResetError:
            return received
        if not part:
            return received
        received += part


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A serving process that has little patience with the silent, with TLS and without."""
    toml = 'header_timeout = "300ms"\nidle_timeout = "300ms"\n'
    if request.param:
        toml += f'tls_cert = "{CERTS}/localhost.crt"\ntls_key = "{CERTS}/localhost.key"\n'
    with serving(tmp_path_factory.mktemp("impatient"), toml) as api:
        yield api


@pytest.mark.parametrize("sent", [b"", b"PRI * HT", PREFACE, ANY, ANY + b"\r\n", b"\x16\x03\x01"])
def test_no_peer_stays_that_says_nothing(impatient: Serving, sent: bytes) -> None:
    """A silent peer, one in the midst of a header, one that idles, over HTTP/2 too: each connection ends."""
    until_no_connection(impatient)  # as that by which it was seen to have started
    with connect(impatient, sent) as connection:
        rest(connection)
    until_no_connection(impatient)
    assert impatient.process.poll() is None


def until_no_connection(api: Serving) -> None:
    """Return once the process has none; waits for that at most until the deadline."""
    ends_s = time.monotonic() + DEADLINE_S
    while api.connections_count():
        assert time.monotonic() < ends_s
        time.sleep(0.05)


def test_others_are_answered_while_silent_peers_hold_every_connection(tmp_path: Path) -> None:
    """With as many silent peers as there may be connections, and more in line, a client that comes then is answered."""
    with serving(tmp_path, 'connections_max = 20\nidle_timeout = "1h"') as api:
        silent = [connect(api) for _ in range(20 + 4)]  # of those in line two are let in each second
        with httpx.Client(base_url=api.url, timeout=DEADLINE_S) as client:
            assert [404] * 3 == [client.get("/nowhere").status_code for _ in range(3)]
        for connection in silent:
            connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        ANY + b"x: " + b"a" * 50_000 + b"\r\n\r\n",
        ANY + b"".join(b"x%d: a\r\n" % number for number in range(500)) + b"\r\n",
        b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /?" + b"a" * 50_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ],
)
def test_headers_have_a_bound(api: Serving, sent: bytes) -> None:
    """A line or a header beyond http.header_max, or more than a hundred headers, is a 431 and the connection's end."""
    with connect(api, sent) as connection:
        assert rest(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("sent", [b"\x00\x01\x02 nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n" * 3])
def test_what_is_no_http_is_refused(api: Serving, sent: bytes) -> None:
    """Rubbish is a 400 and the connection's end, or its end alone."""
    with connect(api, sent) as connection:
        assert rest(connection)[:13] in (b"", b"HTTP/1.1 400 ")
    assert 404 == httpx.get(f"{api.url}/nowhere", timeout=DEADLINE_S).status_code


def test_headers_have_a_bound_over_http_2(api: Serving) -> None:
    """Over HTTP/2 a header beyond the bound is refused, and others on the server are answered."""
    with (
        httpx.Client(base_url=api.url, http1=False, http2=True, timeout=DEADLINE_S) as client,
        contextlib.suppress(httpx.RemoteProtocolError),  # the server may end the connection instead
    ):
        assert 431 == client.get("/openapi.json", headers={"x": "a" * 50_000}).status_code
    assert 404 == httpx.get(f"{api.url}/nowhere", timeout=DEADLINE_S).status_code


@pytest.mark.parametrize(
    "path",
    [
        "/{up}/{up}/etc/passwd", "/v1/{up}/{up}/etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/docs/{up}/{up}/etc/passwd",
        "/v1/jobs/{up}%2f{up}%2fetc%2fpasswd", "/v1/dead/{up}{up}//{up}{up}//etc/passwd", "/%00", "/v1/jobs/%00",
        "/\\{up}\\{up}\\etc\\hosts", "/v1/jobs/%ff%fe", "//etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_out(api: Serving, path: str) -> None:
    """A path that climbs, however it is written, is a problem as any other that is not there, or as a wrong id."""
    path = path.replace("{up}", "..")
    request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    with connect(api, request) as connection:
        answer = rest(connection)
    assert answer[:13] in (b"HTTP/1.1 404 ", b"HTTP/1.1 422 ", b"HTTP/1.1 503 ", b"HTTP/1.1 400 ")
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"name":"add","args":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        b'{"name":"add","kwargs":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        b'{"name":"add","args":[' + b"1" * 100_000 + b"]}",
        b'{"name":"' + b"a" * 2_000_000 + b'"}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/batch", "/v1/dead/retry"])
def test_depth_and_size_of_json_are_bounded(api: Serving, path: str, body: bytes) -> None:
    """JSON that is nested without end, a number without end, a name without end: each is the caller's mistake."""
    response = httpx.post(f"{api.url}{path}", content=body, headers={"content-type": "application/json"}, timeout=30)
    assert response.status_code in (400, 413, 422, 503)
    assert "application/problem+json" == response.headers["content-type"]
    assert len(response.content) < 10_000


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A serving process with the bounds as they come."""
    with serving(tmp_path_factory.mktemp("api"), "") as api:
        yield api
