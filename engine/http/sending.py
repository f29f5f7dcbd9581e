"""The deadline of streamed answers: a client that takes nothing of one for a time is let go, and its answer ended.

Each piece has the time of an event stream's (whose own deadline counts what it drops). An answer in one piece is handed
to the server below at once and holds nobody up. Without this a request would last, and a stop wait, for as long as the
client likes. It holds no state beside the request.
"""

from typing import TYPE_CHECKING

import anyio
from litestar.enums import ScopeType

from headrace.config.logs import logger

from .records import EVENTS

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

log = logger("headrace.http")


class Stalled(Exception):
    """A client did not take a piece of its answer in time."""


def taken(app: "ASGIApp", timeout_s: float) -> "ASGIApp":
    """Return the application, with streamed answers that end when a piece is not taken within `timeout_s`."""

    async def sending(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        streams = has_own = stalled = False

        async def forward(message: "Message") -> None:
            nonlocal streams, has_own, stalled
            if message["type"] == "http.response.start":
                has_own = (b"content-type", EVENTS.encode()) in message["headers"]
            elif message["type"] == "http.response.body":
                streams = streams or message.get("more_body", False)
            if has_own or not streams:
                await send(message)
                return
            if not stalled:
                with anyio.move_on_after(timeout_s) as waiting:
                    await send(message)
                stalled = waiting.cancelled_caught
            if stalled:
                raise Stalled

        try:
            await app(scope, receive, forward)
        except Exception:  # in whatever wrapping the framework gave it
            if not stalled:
                raise
            log.warning("answer cut short", why="its client reads nothing", path=scope["path"], waited_s=timeout_s)

    return sending
