"""The gate before the API: who may ask at all, while there are no tokens to ask for.

A browser on this machine can be made to send requests here by any page that it shows. So the Host must be loopback (a
name that was pointed here after the page was loaded is not), an Origin must be loopback where there is one, and
bodies.py takes only types that a page of another origin cannot send unasked. No state.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from .problems import body
from .records import PROBLEM

_OUTSIDE_HOST: Final = (
    "the Host header names another machine than this one; call the API as 127.0.0.1, [::1] or localhost"
)
_OUTSIDE_ORIGIN: Final = "a page of another machine may not call this API; its Origin header names it"


def gated(app: ASGIApp) -> ASGIApp:
    """Return the application behind the gate."""

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            detail = refusal(scope["headers"])
            if detail is not None:
                await _refuse(send, detail)
                return
        await app(scope, receive, send)

    return gate


def refusal(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return why a request may not pass, by its headers; None when it may."""
    has_host = False
    for name, value in headers:
        if name == b"host":
            has_host = True
            if not _is_loopback(b"//" + value):
                return _OUTSIDE_HOST
        elif name == b"origin" and not _is_loopback(value):
            return _OUTSIDE_ORIGIN
    return None if has_host else _OUTSIDE_HOST


@lru_cache(maxsize=256)
def _is_loopback(url: bytes) -> bool:
    """Return whether the host of "//host:port" or "scheme://host:port" is this machine."""
    try:
        host = urlsplit(url.decode("ascii")).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _refuse(send: Send, detail: str) -> None:
    content = body(403, detail)
    await send(
        {
            "type": "http.response.start",
            "status": 403,
            "headers": [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(content)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": content, "more_body": False})
