"""HEAD, as load balancers and uptime checks send it: answered as GET is, status and headers, but without its body.

It stands outermost, so that the gate asks of it what it asks of GET, and no route knows of it. A stream of events has
no end to wait for, so HEAD is no method of it. So it is here that what a path allows is known whole. No state.
"""

from typing import TYPE_CHECKING, Any, Final, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from .scopes import methods_of, path_below

if TYPE_CHECKING:
    from litestar.types import HTTPScope

#: The methods whose answers are not those of the application as they are.
_TOUCHED: Final = frozenset({"HEAD", "OPTIONS"})
#: The parts of its path, for the router takes doubled and closing slashes, too.
_STREAM: Final = ["v1", "events"]


def with_heads(app: ASGIApp) -> ASGIApp:
    """Return the application, answering HEAD wherever it answers GET with a document."""

    async def heads(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] not in _TOUCHED:
            await app(scope, receive, send)
            return
        path = path_below(scope.get("root_path", ""), scope["path"])
        if scope["method"] == "OPTIONS":
            await app(scope, receive, _with_allowed(send, path))
            return
        if _is_stream(path):
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


def allowed(path: str) -> str:
    """Return what Allow says of a path: the methods of its routes, HEAD where it is answered, and OPTIONS.

    Args:
        path: A request's path, without what the application is mounted below.
    """
    methods = methods_of(path)
    heads = ["HEAD"] if "GET" in methods and not _is_stream(path) else []
    return ", ".join([*methods, *heads, "OPTIONS"])


def _with_allowed(send: Send, path: str) -> Send:
    """Return what sends an answer to OPTIONS: the router's own names the methods of one route of the path alone."""

    async def complete(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, allowed(path).encode() if name == b"allow" else value) for name, value in message["headers"]
            ]
        await send(message)

    return complete


def _is_stream(path: str) -> bool:
    return [part for part in path.split("/") if part] == _STREAM
