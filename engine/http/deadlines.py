"""The deadline of requests' bodies: a client that drips its body is answered 408 and let go.

A body may keep the server waiting for a time (http.body_timeout); each byte that arrives buys some of it back, never
more than all, so a slow client that sends 500 bytes a second may go on for hours and a dripping one may not. Counted is
the time in which somebody receives: also while a batch waits for room in a queue, since it reads ahead then to hear of
its client's end, until it holds enough. Time in which nobody receives is the server's own. Where an answer is known
before a body ended, a little of its rest is read, so that the answer arrives. Each request owns its Pace.
"""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import anyio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from headrace.config import limits

from .problems import Refused, body
from .records import PROBLEM

if TYPE_CHECKING:
    from litestar.types import HTTPReceiveMessage, HTTPScope

_TOO_SLOW: Final = (
    "the body came too slowly (http.body_timeout, beside what 500 bytes a second take); the client or its network is "
    "slow: send less at a time, or again"
)
#: Others have no body here, and wait on the same line only for their client's end.
_WITH_BODY: Final = frozenset(("POST", "PATCH", "PUT"))


class TooSlow(Refused):
    """A body that came too slowly; raised where it is read."""

    def __init__(self, http_version: str) -> None:
        # The rest of the body may still be on its way. HTTP/2 ends the stream instead, and has no such header.
        super().__init__(408, _TOO_SLOW, {"connection": "close"} if http_version.startswith("1") else {})


class Pace:
    """How long a body may still keep the server waiting.

    Args:
        timeout_s: How long at most.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.left_s = timeout_s

    def waited(self, waited_s: float, got_bytes: int) -> None:
        """Take note of a wait, and of what came at its end."""
        left_s = self.left_s - waited_s + got_bytes / limits.HTTP_BODY_MIN_BYTES_PER_S
        self.left_s = max(0.0, min(self._timeout_s, left_s))


def paced(app: ASGIApp, timeout_s: float, *, by_length: bool = False) -> ASGIApp:
    """Return the application, with bodies that keep it waiting for at most `timeout_s` beside their bytes.

    Args:
        app: What reads them.
        timeout_s: How long at most.
        by_length: End a body with its last announced byte. A server tells of the end by one message more, and to wait
            for that takes a fifth of a submission; but not every one, nor what stands in for one, may be left untold.
    """

    async def held(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] not in _WITH_BODY:
            await app(scope, receive, send)
            return
        content = _Body(scope, receive, timeout_s, by_length)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if content.has_more:
                    await content.leave()
            await send(message)

        try:
            await app(scope, content.receive, answer)
        except TooSlow as error:  # where no route of the application's has made an answer of it
            if started:
                raise
            await _answer_too_slow(send, error)

    return held


class _Body:
    """One request's body, as it is received.

    Attributes:
        has_more: Whether its end has not come.
    """

    __slots__ = (
        "_by_length", "_ends_unsaid", "_left_bytes", "_pace", "_receive", "_scope", "_touched", "has_more",
    )  # fmt: skip

    def __init__(self, scope: "HTTPScope", receive: Receive, timeout_s: float, by_length: bool) -> None:
        self._by_length = by_length
        self._scope = scope
        self._receive = receive
        self._pace = Pace(timeout_s)
        self.has_more = True
        self._touched = False
        self._ends_unsaid = False
        #: How much is still to come, where it is known; over HTTP/2 the end is the client's to say.
        self._left_bytes = _announced_bytes(scope) if scope["http_version"].startswith("1") else -1

    async def receive(self) -> "HTTPReceiveMessage":
        """Return the next piece; raises TooSlow."""
        if not self.has_more:  # who still receives waits for the client's end
            after: HTTPReceiveMessage = await self._receive()  # type: ignore[assignment]  # of a request over HTTP
            if self._ends_unsaid and after["type"] == "http.request":
                after = await self._receive()  # type: ignore[assignment]
            self._ends_unsaid = False
            return after
        if self._left_bytes == 0:  # nobody has to wait for what tells of the end
            last: HTTPReceiveMessage = await self._receive()  # type: ignore[assignment]
            self.has_more = bool(last.get("more_body", False))
            return last
        self._touched = True
        began_s = time.monotonic()
        message = await _within(self._receive, self._pace.left_s)
        if message is None:
            self._pace.waited(self._pace.left_s, 0)
            raise TooSlow(self._scope["http_version"])
        if message["type"] == "http.request":
            got_bytes = len(message.get("body", b""))
            self._pace.waited(time.monotonic() - began_s, got_bytes)
            if message.get("more_body", False):
                self._left_bytes -= got_bytes
                if self._left_bytes != 0 or not self._by_length:
                    return message
                message["more_body"] = False
                self._ends_unsaid = True
        self.has_more = False
        return message

    async def leave(self) -> None:
        """Take what is left of it off the line, when there is not much left, so that the answer is not lost.

        A client that waits to be asked for its body (Expect) is not asked any more.
        """
        if not self.has_more or (not self._touched and any(name == b"expect" for name, _ in self._scope["headers"])):
            return
        left_bytes = limits.HTTP_BODY_UNREAD_BYTES
        with anyio.move_on_after(limits.HTTP_BODY_UNREAD_S), contextlib.suppress(TooSlow):
            while self.has_more and left_bytes > 0:
                message = await self.receive()
                left_bytes -= len(message["body"]) if message["type"] == "http.request" else 0


def _announced_bytes(scope: "HTTPScope") -> int:
    """Return what Content-Length says; -1 where it says nothing that can be counted, or something else counts."""
    announced = -1
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            announced = int(value)
        elif name == b"transfer-encoding":
            return -1
    return announced


async def _within(receive: Receive, left_s: float) -> "HTTPReceiveMessage | None":
    """Return what is received, None after the time.

    On asyncio by a bare timer: 2 us where asyncio.timeout takes 7 and a scope of anyio 12, of some 100 that a
    submission takes in all.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:  # on trio, be it asyncio's guest
        with anyio.move_on_after(left_s):
            return await receive()  # type: ignore[return-value]  # of a request over HTTP
        return None
    late = _Late(task)
    timer = asyncio.get_running_loop().call_later(left_s, late.come)
    try:
        return await receive()  # type: ignore[return-value]
    except asyncio.CancelledError:
        if not late.is_all():
            raise  # somebody else wants the request to end, whether or not it is late, too
        return None
    finally:
        timer.cancel()


class _Late:
    """A timer's own cancellation of the coroutine that made it, told from those of others."""

    __slots__ = ("_before", "_came", "_task")

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self._task = task
        self._before = task.cancelling()
        self._came = False

    def come(self) -> None:
        self._came = True
        self._task.cancel()

    def is_all(self) -> bool:
        """Whether nobody else has cancelled; takes the own cancellation back."""
        return self._came and self._task.uncancel() <= self._before


async def _answer_too_slow(send: Send, error: TooSlow) -> None:
    content = body(408, error.detail)
    headers = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(content)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in (error.headers or {}).items()]
    await send({"type": "http.response.start", "status": 408, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
