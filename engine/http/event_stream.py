"""An event stream as a response: what a follower gives, written as server-sent events, until client or server end it.

Each message must be taken by the client within a deadline, else the stream is dropped; nothing of it waits anywhere but
in the follower's bounded buffer. While nothing happens a comment is sent now and then. At the server's end the stream
ends at once. It owns its follower.
"""

import asyncio
from typing import Any, Final

import anyio
import msgspec
from litestar import Response
from litestar.types import Receive, Scope, Send

from headrace.config import limits
from headrace.config.logs import logger
from headrace.workers.groups import plain_group

from .feed import Feed, Follower
from .records import EVENTS

log = logger("headrace.http")

#: How long the end of a stream may take to be told.
END_WITHIN_S: Final = 1.0
_HEADERS: Final = (
    (b"content-type", EVENTS.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back until its buffer is full
)
_COMMENT: Final = b":\n\n"


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a stream.

    Attributes:
        heartbeat_s: After so long without an event a comment is sent.
        send_timeout_s: After so long a client that reads nothing is dropped.
    """

    heartbeat_s: float = limits.HTTP_STREAM_HEARTBEAT_S
    send_timeout_s: float = limits.HTTP_STREAM_SEND_TIMEOUT_S


class EventStream(Response[bytes]):
    """The response of a stream.

    Args:
        feed: What its follower belongs to.
        follower: Whose events are sent; it leaves when the stream ends.
        pace: The stream's times.
    """

    def __init__(self, feed: Feed, follower: Follower, pace: Pace | None = None) -> None:
        super().__init__(content=b"", media_type=EVENTS)
        self._feed = feed
        self._follower = follower
        self._pace = pace or Pace()

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Return what sends it."""
        return self._run

    async def _run(self, _: Scope, receive: Receive, send: Send) -> None:
        feed, follower, was_ended = self._feed, self._follower, False
        try:
            with follower.scope:
                async with plain_group() as group:
                    group.start_soon(until_gone, receive, group.cancel_scope)
                    group.start_soon(feed.pump)
                    await self._talk(send)
                    group.cancel_scope.cancel()
        except asyncio.CancelledError:  # trio's is another
            if anyio.current_effective_deadline() == float("-inf"):
                raise  # somebody's scope around this waits for it
            # A host such as uvicorn cancels the task itself when it stops, and takes what comes out for a fault.
            was_ended = True
        finally:
            feed.leave(follower)
        if was_ended or follower.scope.cancel_called:
            with anyio.move_on_after(END_WITHIN_S):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _talk(self, send: Send) -> None:
        """Send events until the client takes them no more."""
        follower, pace = self._follower, self._pace
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})  # middlewares add to it
        # An id without data is no event, but whoever is cut off before the first one knows where to go on.
        text = f"retry: {limits.HTTP_STREAM_RETRY_MS}\nid: {follower.place}\n\n".encode()
        while True:
            with anyio.move_on_after(pace.send_timeout_s) as sending:
                await send({"type": "http.response.body", "body": text, "more_body": True})
            if sending.cancelled_caught:
                self._feed.dropped_count += 1
                log.warning("event stream dropped", why="its client reads nothing", waited_s=pace.send_timeout_s)
                return
            self._feed.sent_bytes += len(text)
            text = _COMMENT
            with anyio.move_on_after(pace.heartbeat_s):
                text = await follower.next()


async def until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel a scope once a request's client has gone; its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
