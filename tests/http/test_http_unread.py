"""Answers over HTTP/2 that their clients leave unread: in pieces, with a time for each, and bounded over all."""

import contextlib
import socket
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from test_http_connections import until_no_connection

from headrace.config import limits
from headrace.engine.http.sending import Stalled, pieces, taken
from headrace.engine.http.unread import Share, Unread
from http_server import DEADLINE_S, Serving, serving

FIRST, SECOND, THIRD = (("127.0.0.1", str(number)) for number in (1, 2, 3))
#: Pieces that granian and hyper take before the client does.
AHEAD = 5
SCOPE: Any = {"type": "http", "path": "/x", "http_version": "2", "client": ("127.0.0.1", 1)}
#: serve(), with a bound that a test can reach, and with less patience.
IMPATIENT = """
from headrace.config import limits
limits.HTTP2_UNREAD_BYTES = 2_000_000
limits.HTTP_STREAM_SEND_TIMEOUT_S = {patience_s}
"""


def share_of(unread: Unread, peer: tuple[str, str], size_bytes: int, now_s: float, cut: list[str]) -> Share:
    """Return the share of an answer that waits."""
    share = unread.share(peer, now_s, lambda: cut.append(peer[1]))
    share.holds(size_bytes, now_s)
    return share


def test_who_holds_most_is_given_up() -> None:
    """Past the bound the connection that holds most loses all its answers; they count no more, whatever follows."""
    unread, cut = Unread(100), list[str]()
    light = share_of(unread, FIRST, 30, 0.0, cut)
    heavy = [share_of(unread, SECOND, 25, 1.0, cut), share_of(unread, SECOND, 25, 1.0, cut)]
    last = share_of(unread, THIRD, 40, 2.0, cut)
    assert (["2", "2"], 70) == (sorted(cut), unread.size_bytes)
    for share in heavy:
        share.took(5, 3.0)
        share.end(20)
    assert 70 == unread.size_bytes
    for share in (light, last):
        share.end()
    assert (0, {SECOND}) == (unread.size_bytes, unread.closing([FIRST, SECOND, THIRD], 3.0))
    assert not unread.has_connections


def test_of_equals_the_one_that_took_nothing_for_longest_is_given_up() -> None:
    """Whoever takes some of it, however little, stays before one that holds as much and takes nothing."""
    unread, cut = Unread(100), list[str]()
    moving = share_of(unread, FIRST, 45, 0.0, cut)
    share_of(unread, SECOND, 40, 1.0, cut)
    moving.took(5, 2.0)
    share_of(unread, THIRD, 25, 3.0, cut)
    assert ["2"] == cut


def test_one_that_holds_more_than_all_may_is_given_up_itself() -> None:
    """The bound holds for a single answer, too; what it frees is enough for a while."""
    unread, cut = Unread(100), list[str]()
    share_of(unread, FIRST, 10, 0.0, cut)
    share_of(unread, SECOND, 101, 0.0, cut)
    assert (["2"], 10) == (cut, unread.size_bytes)


def test_what_a_cut_answer_leaves_below_counts_until_its_connection_ends() -> None:
    """An answer that was cut short is not gone: pieces of it stay in the server for as long as its connection."""
    unread, cut = Unread(100), list[str]()
    share_of(unread, FIRST, 60, 5.0, cut).end(30)
    assert 30 == unread.size_bytes
    assert (set(), 30) == (unread.closing([FIRST], 6.0), unread.size_bytes)
    assert (set(), 30) == (unread.closing([], 4.0), unread.size_bytes)  # a look that is older than the connection
    assert (set(), 0) == (unread.closing([], 6.0), unread.size_bytes)


def test_a_connection_is_closed_once() -> None:
    """Its port may be another's afterwards; one that was given up and is gone is forgotten."""
    unread, cut = Unread(100), list[str]()
    share_of(unread, FIRST, 101, 5.0, cut)
    assert (set(), {FIRST}, set()) == (
        unread.closing([], 4.0), unread.closing([FIRST], 6.0), unread.closing([FIRST], 7.0),
    )  # fmt: skip
    share_of(unread, FIRST, 101, 8.0, cut)
    assert (set(), set()) == (unread.closing([], 9.0), unread.closing([FIRST], 10.0))


@pytest.mark.parametrize("size_bytes", [1, 16, 79, 80, 81, limits.HTTP2_PIECE_BYTES, 100_000])
def test_pieces_are_the_whole_and_end_small(size_bytes: int) -> None:
    """Together they are what was cut; so many as are taken ahead of a client hold almost nothing."""
    content = bytes(number % 251 for number in range(size_bytes))
    cut = list(pieces(content))
    assert content == b"".join(cut)
    assert max(map(len, cut)) <= limits.HTTP2_PIECE_BYTES
    assert sum(map(len, cut[-AHEAD:])) <= 80


async def asked(size_bytes: int, unread: Unread, taken_count: int, *, version: str = "2") -> list[int]:
    """Return the sizes of what was sent of an answer, to a client that takes so many pieces of it."""
    sizes: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * size_bytes, "more_body": False})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            if len(sizes) == taken_count:
                await anyio.sleep_forever()
            sizes.append(len(message["body"]))
            assert (sum(sizes) < size_bytes) == message["more_body"]

    with anyio.fail_after(DEADLINE_S):
        await taken(app, 0.05, unread)({**SCOPE, "http_version": version}, anyio.sleep_forever, send)
    return sizes


@pytest.mark.anyio
async def test_a_large_answer_goes_out_in_pieces() -> None:
    """Over HTTP/2, and only there; a small one goes at once, and what was taken counts no more."""
    unread, at_once = Unread(1_000_000), limits.HTTP2_AT_ONCE_BYTES
    piece = limits.HTTP2_PIECE_BYTES
    assert [piece, piece, 20] + [16] * AHEAD == await asked(2 * piece + 100, unread, 100)
    assert [at_once] == await asked(at_once, unread, 100)
    assert [100_000] == await asked(100_000, unread, 100, version="1.1")
    assert (0, False) == (unread.size_bytes, unread.has_connections)


@pytest.mark.anyio
async def test_a_large_answer_that_is_not_taken_ends() -> None:
    """After the time for a piece it ends; only what the server below has taken of it is still counted."""
    unread, piece = Unread(10_000_000), limits.HTTP2_PIECE_BYTES
    assert [piece] * AHEAD == await asked(1_000_000, unread, AHEAD)
    assert AHEAD * piece == unread.size_bytes
    assert [piece] * 20 == await asked(1_000_000, unread, 20)
    assert 2 * AHEAD * piece == unread.size_bytes


@pytest.mark.anyio
async def test_an_answer_that_is_too_much_ends_at_once() -> None:
    """Whoever's connection is given up hears of it while it waits, not at its next piece."""
    unread = Unread(1_000_000)
    first: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(Stalled):
            await send({"type": "http.response.body", "body": b"x" * 900_000, "more_body": False})
        first.append(1)
        raise Stalled

    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            waiting = anyio.Event()

            async def stuck(message: Any) -> None:
                waiting.set()
                await anyio.sleep_forever()

            scope = {**SCOPE, "client": ("127.0.0.1", 2)}
            group.start_soon(taken(app, 3_600.0, unread), scope, anyio.sleep_forever, stuck)
            await waiting.wait()
            assert [] != await asked(200_000, unread, 100)
    assert ([1], 0) == (first, unread.size_bytes)


class Peer:
    """A client of HTTP/2 that gives credit only where it is told to.

    Args:
        api: What it asks.
        window_bytes: What each answer may send before that.
    """

    def __init__(self, api: Serving, window_bytes: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", api.port), timeout=DEADLINE_S)
        self._ends_s = time.monotonic() + DEADLINE_S
        self.wire = H2Connection(H2Configuration(client_side=True))
        self.wire.local_settings = Settings(
            client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window_bytes, SettingCodes.ENABLE_PUSH: 0}
        )
        self.wire.initiate_connection()

    def ask(self, path: str) -> None:
        """Send a request."""
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
        self.wire.send_headers(self.wire.get_next_available_stream_id(), head, end_stream=True)
        self.flush()

    def close(self) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.wire.data_to_send())

    def events(self) -> list[Any]:
        """Return what comes next; nothing once the connection has ended, which pings may not put off for ever."""
        assert time.monotonic() < self._ends_s
        data = b""
        with contextlib.suppress(ConnectionResetError):
            data = self.socket.recv(65_536)
        if not data:
            return []
        found = self.wire.receive_data(data)
        with contextlib.suppress(OSError):
            self.flush()
        return found


def test_connections_that_read_nothing_are_closed_and_others_answered(tmp_path: Path) -> None:
    """Without credit a hundred answers a connection wait: past the bound it is closed; whoever reads is answered."""
    with serving(tmp_path, "", program=IMPATIENT.format(patience_s=3_600)) as api:
        peers = [Peer(api, 0) for _ in range(3)]
        for peer in peers:
            for _ in range(limits.HTTP2_STREAMS_MAX - 1):
                peer.ask("/openapi.json")
        closed = 0
        with httpx.Client(base_url=api.url, timeout=DEADLINE_S) as client:
            for peer in peers[:2]:  # the last one's may stay, being within the bound
                while peer.events():
                    assert 200 == client.get("/openapi.json").status_code
                closed += 1
        assert (2, None) == (closed, api.process.poll())
        assert "its connection left most unread" in api.said()
        for peer in peers:
            peer.close()
        until_no_connection(api)


def test_one_answer_that_is_not_read_ends_in_time(tmp_path: Path) -> None:
    """It is let go after the time for a piece, and never looks whole; others of its connection are answered."""
    with (
        serving(tmp_path, "", program=IMPATIENT.format(patience_s=0.3)) as api,
        contextlib.closing(Peer(api, 0)) as peer,
    ):
        peer.ask("/openapi.json")
        ends_s = time.monotonic() + DEADLINE_S
        while "its client took nothing for 0.3 s" not in api.said():
            assert time.monotonic() < ends_s
            time.sleep(0.02)
        peer.ask("/nowhere")
        answered: list[int] = []
        while 3 not in answered:
            answered += [each.stream_id for each in peer.events() if isinstance(each, ResponseReceived)]
        peer.wire.increment_flow_control_window(10_000_000, 1)
        peer.wire.increment_flow_control_window(10_000_000)
        peer.flush()
        over = False
        while not over:
            found = [each for each in peer.events() if getattr(each, "stream_id", 0) == 1]
            assert not any(isinstance(each, StreamEnded) for each in found)
            over = any(isinstance(each, StreamReset) for each in found)


def test_a_slow_reader_gets_all(tmp_path: Path) -> None:
    """A client that gives credit for little at a time gets an answer byte by byte as it is."""
    with serving(tmp_path, "") as api, contextlib.ExitStack() as stack:
        plain = {"accept-encoding": "identity"}
        whole = httpx.get(f"{api.url}/openapi.json", headers=plain, timeout=DEADLINE_S).content
        got, status, ended = b"", b"", False
        peer = stack.enter_context(contextlib.closing(Peer(api, 999)))
        peer.ask("/openapi.json")
        while not ended:
            for event in peer.events():
                if isinstance(event, ResponseReceived):
                    status = dict(event.headers)[b":status"]
                if isinstance(event, DataReceived):
                    got += event.data
                    if event.flow_controlled_length:
                        peer.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                        peer.flush()
                ended = ended or isinstance(event, StreamEnded)
        assert (b"200", whole) == (status, got)
