"""The deadline of answers: a client that takes nothing of one for a time is let go, and its answer ended.

Each piece of a streamed answer has the time of an event stream's (whose own deadline counts what it drops). Over HTTP/2
so have the pieces into which larger answers are cut here, for one in one piece would be held by the server below for as
long as the client likes, a hundred of them a connection; over HTTP/1 one in one piece is handed on at once, and its
connection swept (connections.py). Without this a request would last, and a stop wait. unread.py counts; no other state.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import anyio
from litestar.enums import ScopeType

from headrace.config import limits
from headrace.config.logs import logger

from .records import EVENTS
from .unread import Peer, Share, Unread

if TYPE_CHECKING:
    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

log = logger("headrace.http")

#: Pieces that the server below takes before the client does: granian's channel four, hyper one.
_AHEAD_COUNT: Final = 5
#: The last pieces are small: what is taken ahead of the client, and seen as taken, is almost nothing then.
_TAIL_BYTES: Final = 16


class Stalled(Exception):
    """A client did not take a piece of its answer in time, or let too many answers wait."""


def taken(app: "ASGIApp", timeout_s: float, unread: Unread) -> "ASGIApp":
    """Return the application, with answers that end when their clients do not take them.

    Args:
        app: What answers.
        timeout_s: How long a piece may wait.
        unread: Counts what waits over HTTP/2.
    """

    async def sending(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        answer = _Answer(send, timeout_s, _peer(scope), unread)
        try:
            await app(scope, receive, answer.forward)
        except Exception:  # in whatever wrapping the framework gave it
            if not answer.stalled:
                raise
            log.warning("answer cut short", why=answer.stalled, path=scope["path"])
        finally:
            answer.end()

    return sending


def _peer(scope: "HTTPScope") -> Peer | None:
    """Return whose connection it is, as connections.py has it; None where that need not be known."""
    if not scope["http_version"].startswith("2"):
        return None
    client = scope.get("client")
    return ("", str(id(scope))) if client is None else (client[0], str(client[1]))


def pieces(content: bytes) -> Iterator[bytes]:
    """Yield what an answer is cut into; all but the last few are as large as they may be."""
    body_bytes = max(0, len(content) - _AHEAD_COUNT * _TAIL_BYTES)
    for start in range(0, body_bytes, limits.HTTP2_PIECE_BYTES):
        yield content[start : min(start + limits.HTTP2_PIECE_BYTES, body_bytes)]
    for start in range(body_bytes, len(content), _TAIL_BYTES):
        yield content[start : start + _TAIL_BYTES]


class _Answer:
    """One answer on its way out.

    Attributes:
        stalled: Why it was cut short; empty as long as it was not.
    """

    __slots__ = ("_ahead_bytes", "_has_own", "_send", "_share", "_streams", "_timeout_s", "_waiting", "stalled")

    def __init__(self, send: "Send", timeout_s: float, peer: Peer | None, unread: Unread) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._share = None if peer is None else unread.share(peer, time.monotonic(), self._cut)
        self._has_own = self._streams = False
        #: Sizes of the pieces that the server below may still have.
        self._ahead_bytes: list[int] = []
        self._waiting: anyio.CancelScope | None = None
        self.stalled = ""

    async def forward(self, message: "Message") -> None:
        """Send a message on; raises Stalled."""
        content = b""
        if message["type"] == "http.response.start":
            self._has_own = (b"content-type", EVENTS.encode()) in message["headers"]
        elif message["type"] == "http.response.body":
            self._streams = self._streams or message.get("more_body", False)
            content = message.get("body", b"")
        if self._share is not None and len(content) > limits.HTTP2_AT_ONCE_BYTES and not self._has_own:
            await self._in_pieces(content, bool(message.get("more_body", False)), self._share)
        elif self._streams and not self._has_own:
            await self._within(message)
        else:
            await self._send(message)

    def end(self) -> None:
        """Count it no more."""
        if self._share is not None:
            self._share.end(sum(self._ahead_bytes) if self.stalled else 0)

    async def _in_pieces(self, content: bytes, more: bool, share: Share) -> None:
        left_bytes = len(content)
        share.holds(left_bytes, time.monotonic())
        for piece in pieces(content):
            left_bytes -= len(piece)
            await self._within({"type": "http.response.body", "body": piece, "more_body": more or left_bytes > 0})
            self._ahead_bytes.append(len(piece))
            if len(self._ahead_bytes) > _AHEAD_COUNT:
                share.took(self._ahead_bytes.pop(0), time.monotonic())
        share.took(sum(self._ahead_bytes), time.monotonic())
        self._ahead_bytes.clear()

    async def _within(self, message: "Message") -> None:
        if not self.stalled:
            with anyio.move_on_after(self._timeout_s) as self._waiting:
                await self._send(message)
            if self._waiting.cancelled_caught:
                self.stalled = self.stalled or f"its client took nothing for {self._timeout_s:g} s"
        if self.stalled:
            raise Stalled

    def _cut(self) -> None:
        self.stalled = "its connection left most unread, and all together too much"
        if self._waiting is not None:
            self._waiting.cancel()
