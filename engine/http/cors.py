"""CORS: lets the pages of named origins call the API from browsers; where none is named, nothing here is in the way.

It answers preflights itself, for they carry no token, and lets a named origin read every answer, refusals too. There
are no cookies, so no credentials are allowed: a page that calls has to have a token of its own. No state.
"""

from collections.abc import Sequence
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_METHODS: Final = b"GET, POST, PATCH, DELETE"
_HEADERS: Final = b"authorization, content-type, idempotency-key, last-event-id, if-none-match"
#: What a page may read of an answer, beside what any may.
_EXPOSED: Final = b"etag, retry-after, www-authenticate"
#: For how long a browser may remember the answer to a preflight; Chromium's own bound is two hours.
_MAX_AGE_S: Final = b"7200"


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return the application, callable from pages of these origins; the application itself where there are none."""
    if not origins:
        return app
    named = frozenset(origin.encode() for origin in origins)

    async def cross(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        if origin in named and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _answer_preflight(send, origin)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Also where there is no Origin: what a cache keeps of it must not be given to a page.
                more = [(b"vary", b"origin")]
                if origin in named:
                    more += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED)]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        await app(scope, receive, marked)

    return cross


async def _answer_preflight(send: Send, origin: bytes) -> None:
    headers = [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _HEADERS),
        (b"access-control-max-age", _MAX_AGE_S),
        (b"vary", b"origin"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
