"""HEAD, as load balancers and uptime checks send it: answered as GET is, status and headers, but without its body.

It stands outermost, so that the gate asks of it what it asks of GET, and no route knows of it. A stream of events has
no end to wait for, so HEAD is no method of it. No state.
"""

from typing import TYPE_CHECKING, Any, Final, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from .scopes import path_below

if TYPE_CHECKING:
    from litestar.types import HTTPScope

#: The parts of its path, for the router takes doubled and closing slashes, too.
_STREAM: Final = ["v1", "events"]


def with_heads(app: ASGIApp) -> ASGIApp:
    """Return the application, answering HEAD wherever it answers GET with a document."""

    async def heads(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD" or _is_stream(scope):
            await app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
            elif not message.get("more_body", False):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        asked: dict[str, Any] = {**scope, "method": "GET"}
        await app(cast("HTTPScope", asked), receive, without_body)

    return heads


def _is_stream(scope: "HTTPScope") -> bool:
    path = path_below(scope.get("root_path", ""), scope["path"])
    return [part for part in path.split("/") if part] == _STREAM
