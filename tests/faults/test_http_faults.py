"""Clients that hold the API up: silent ones by the thousand, slow headers, dripping bodies, header bombs.

A healthy client beside them asks for the document, which needs no broker, over a connection of its own.
"""

import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fleet import LONG

from http_server import DEADLINE_S, Serving, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are read from /proc")

DRIPPER = Path(__file__).with_name("dripper.py")
#: Silent connections; both ends need a descriptor, the client's in this process.
IDLE_COUNT = 10_000 if LONG else 500
#: Slow and dripping ones, each sending a byte every 250 ms. At 50 ms they are a flood: 10,000 pieces a second.
SLOW_COUNT = 500 if LONG else 50
#: Requests that the healthy client sends before and beside them; its p99 is the tenth worst of 1,000.
ASKED_COUNT = 1_000 if LONG else 100
#: A p99 below this is a pause of the machine's and not of the server's making.
P99_FLOOR_S = 0.01
SETTINGS = 'header_timeout = "2s"\nbody_timeout = "2s"\nidle_timeout = "5s"\n'
POST = b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Serving]:
    """A server with short deadlines, and room for all descriptors in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with serving(tmp_path, SETTINGS) as api:
            yield api
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_count() -> int:
    """Return how many connections this process may open, up to IDLE_COUNT."""
    return min(IDLE_COUNT, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)


@contextmanager
def connected(api: Serving, count: int) -> Iterator[list[socket.socket]]:
    connections: list[socket.socket] = []
    try:
        while len(connections) < count:
            connections.append(socket.create_connection(("127.0.0.1", api.port), timeout=DEADLINE_S))
        yield connections
    finally:
        for connection in connections:
            connection.close()


def p99_s(api: Serving) -> float:
    """Return the p99 of a healthy client's requests, each of which is answered."""
    took_s = []
    with httpx.Client(base_url=api.url, timeout=DEADLINE_S) as client:
        client.get("/openapi.json")
        for _ in range(ASKED_COUNT):
            began_s = time.perf_counter()
            assert 200 == client.get("/openapi.json").status_code
            took_s.append(time.perf_counter() - began_s)
    return sorted(took_s)[-max(1, ASKED_COUNT // 100)]


def assert_unhurt(api: Serving, usual_s: float, beside_s: float, before: int) -> None:
    """Compare a healthy client's p99 with its usual one, and wait until the descriptors are back where they were."""
    print(f"p99 {usual_s * 1e3:.2f} ms alone, {beside_s * 1e3:.2f} ms beside them")
    if LONG:
        assert beside_s < 2 * max(usual_s, P99_FLOOR_S)
    until_back(api, before)
    assert 404 == httpx.get(f"{api.url}/nowhere", timeout=DEADLINE_S).status_code
    assert api.process.poll() is None


def until_back(api: Serving, before: int) -> None:
    ends_s = time.monotonic() + 2 * DEADLINE_S
    while (now := api.descriptors_count()) > before + 2:  # a healthy client's last connection may still be there
        assert time.monotonic() < ends_s, f"{now} descriptors, {before} before"
        time.sleep(0.1)


def test_thousands_of_silent_connections_cost_others_nothing(api: Serving) -> None:
    """They are held, the healthy are answered as fast as ever, and after the idle timeout all are gone."""
    usual_s, before = p99_s(api), api.descriptors_count()
    count = open_count()
    with connected(api, count) as silent:
        ends_s = time.monotonic() + DEADLINE_S
        most = 0
        while time.monotonic() < ends_s and most < before + count * 9 // 10:
            most = max(most, api.descriptors_count())
        print(f"{count} silent connections, at most {most - before} held at once")
        beside_s = p99_s(api)
        until_back(api, before)
        assert b"" == silent[0].recv(1)
    assert_unhurt(api, usual_s, beside_s, before)


@pytest.mark.parametrize(
    ("begun", "byte", "is_told"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nx: ", b"a", False, id="slowloris"),
        pytest.param(POST + b"content-length: 1000000\r\n\r\n", b" ", True, id="body-drip"),
        pytest.param(POST + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n", True, id="chunk-drip"),
    ],
)
def test_dripping_clients_are_let_go(api: Serving, begun: bytes, byte: bytes, is_told: bool) -> None:
    """A header or a body that comes byte by byte ends at its deadline, however lively, and hinders nobody."""
    usual_s, before = p99_s(api), api.descriptors_count()
    command = [sys.executable, str(DRIPPER), str(api.port), str(SLOW_COUNT), begun.hex(), byte.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dripping:
        try:
            assert dripping.stdout is not None
            assert "begun\n" == dripping.stdout.readline()
            beside_s = p99_s(api)
            told, otherwise = dripping.stdout.readline().split()
        finally:
            dripping.kill()
    print(f"{told} of {SLOW_COUNT} were told, {otherwise} were told something else")
    # Some answers are lost to the reset that bytes after the end of a connection cause.
    assert (0, True) == (int(otherwise), int(told) >= SLOW_COUNT // 2 if is_told else int(told) == 0)
    assert_unhurt(api, usual_s, beside_s, before)


def test_header_bombs_are_refused(api: Serving) -> None:
    """Endless headers, over HTTP/1 and as continuations of HTTP/2, are cut off without filling the memory."""
    usual_s, before = p99_s(api), api.descriptors_count()
    memory = memory_bytes(api)
    with stopping(lambda: bomb(api)):
        beside_s = p99_s(api)
    grown = memory_bytes(api) - memory
    print(f"memory grew by {grown / 2**20:.1f} MiB")
    assert grown < 64 * 2**20
    assert_unhurt(api, usual_s, beside_s, before)


def bomb(api: Serving) -> None:
    """Send one bomb of each kind."""
    import h2.connection
    from hyperframe.frame import ContinuationFrame, HeadersFrame

    line = b"x: " + b"a" * 1_000 + b"\r\n"
    send_until_refused(api, b"GET / HTTP/1.1\r\nhost: localhost\r\n" + line * 200)
    begun = h2.connection.H2Connection()
    begun.initiate_connection()
    # A literal header without indexing, its value cut into continuations that never end the block.
    first = HeadersFrame(1, b"\x00\x01x\x7f\xff\xff\xff\x03" + b"a" * 100)
    parts = b"".join(ContinuationFrame(1, b"a" * 16_000).serialize() for _ in range(50))
    send_until_refused(api, begun.data_to_send() + first.serialize() + parts)


def send_until_refused(api: Serving, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=DEADLINE_S) as connection:
        try:
            connection.sendall(sent)
        except OSError:  # it was cut off in the midst of it
            return
        rest(connection)


def rest(connection: socket.socket) -> bytes:
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionError:
        return received
    return received


def memory_bytes(api: Serving) -> int:
    """Return the resident memory of the server."""
    pages = int(Path(f"/proc/{api.process.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


@contextmanager
def stopping(once: Callable[[], None]) -> Iterator[None]:
    """Call something in a thread again and again, until the block ends; what it raises is raised at the end."""
    ended = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            while not ended.is_set():
                once()
        except BaseException as error:  # noqa: BLE001  # it is handed on
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if raised:
        raise raised[0]
