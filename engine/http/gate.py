"""The gate before the API: who may ask at all, decided by a request's head, before its route is found or its body read.

Without tokens it is this machine alone. A browser on it can be made to send requests here by any page that it shows, so
the Host must be loopback (a name that was pointed here after the page was loaded is not), an Origin must be loopback
where there is one, and bodies.py takes only types that a page of another origin cannot send unasked. With tokens the
token decides, which no page of another origin has, wherever its name points; an Origin must be the Host's own. Origins
that http.cors_origins names pass either way. No state.
"""

import ipaddress
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from headrace.config.settings import Settings

from .problems import body
from .records import PROBLEM
from .scopes import Need, needed, path_below
from .tokens import Tokens, allows, presented

_OUTSIDE_HOST: Final = (
    "the Host header names another machine than this one; call the API as 127.0.0.1, [::1] or localhost, or have it "
    "ask for tokens (http.tokens)"
)
_OUTSIDE_ORIGIN: Final = (
    "a page of another origin may not call this API; its Origin header names it. Where it should, add the origin to "
    "http.cors_origins"
)
_NONE_SENT: Final = "this API asks for a token: send it in the header Authorization, behind the word Bearer"
_UNKNOWN: Final = (
    "the token is unknown, or has expired; send one that is in http.tokens, or make one with `headrace token new`"
)
#: The key of a scope that says that its request may not read: of what is open it is told as little as it needs.
TOLD_LITTLE: Final = "headrace.told_little"
_REALM: Final = 'Bearer realm="headrace"'


class Refusal(msgspec.Struct, frozen=True):
    """Why a request may not pass.

    Attributes:
        status: Of the answer.
        detail: What happened, and what to do.
        challenge: What the answer asks for (WWW-Authenticate); empty for nothing.
    """

    status: int
    detail: str
    challenge: str = ""


class Gate:
    """Who may pass.

    Args:
        settings: Whose tokens and origins hold.
    """

    def __init__(self, settings: Settings) -> None:
        self._tokens = Tokens(settings.http.tokens) if settings.http.tokens else None
        self._origins = frozenset(origin.encode() for origin in settings.http.cors_origins)

    def refusal(self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], now_s: float) -> Refusal | None:
        """Return why a request may not pass; None when it may.

        Args:
            method: Its method.
            path: Its path, as the routes have it.
            headers: Their names in lower case.
            now_s: The wall clock, for tokens that expire.
        """
        hosts, origins = [], []
        for name, value in headers:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin" and value not in self._origins:
                origins.append(value)
        if self._tokens is None:
            if not hosts or not all(map(_is_loopback_host, hosts)):
                return Refusal(403, _OUTSIDE_HOST)
            return None if all(map(_is_loopback, origins)) else Refusal(403, _OUTSIDE_ORIGIN)
        if not all(_is_same(origin, hosts) for origin in origins):
            return Refusal(403, _OUTSIDE_ORIGIN)
        return self._without_right(needed(method, path), presented(headers), now_s)

    def may_read(self, headers: Sequence[tuple[bytes, bytes]], now_s: float) -> bool:
        """Return whether a request may know what this process and its server are: all may where there are no tokens."""
        return self._tokens is None or self._without_right("read", presented(headers), now_s) is None

    def _without_right(self, need: Need, carried: bytes | None, now_s: float) -> Refusal | None:
        if need == "open" or self._tokens is None:
            return None
        if carried is None:
            return Refusal(401, _NONE_SENT, _REALM)
        token = self._tokens.find(carried, now_s)
        if token is None:
            return Refusal(401, _UNKNOWN, f'{_REALM}, error="invalid_token"')
        if not allows(token, need):
            detail = f"the token {token.name!r} has not the scope {need}, which this needs; use one that has it"
            return Refusal(403, detail, f'{_REALM}, error="insufficient_scope", scope="{need}"')
        return None


def gated(app: ASGIApp, gate: Gate) -> ASGIApp:
    """Return the application behind the gate."""

    async def at_the_gate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            path, headers = path_below(scope.get("root_path", ""), scope["path"]), list(scope["headers"])
            refusal = gate.refusal(scope["method"], path, headers, time.time())
            if refusal is not None:
                await _refuse(send, refusal)
                return
            if needed(scope["method"], path) == "open" and not gate.may_read(headers, time.time()):
                scope[TOLD_LITTLE] = True  # type: ignore[typeddict-unknown-key]
        await app(scope, receive, send)

    return at_the_gate


def _is_same(origin: bytes, hosts: Sequence[bytes]) -> bool:
    """Return whether a page of this origin came from this host, whichever of http and https a proxy makes of it."""
    return [origin.partition(b"://")[2]] == hosts


@lru_cache(maxsize=256)
def _is_loopback_host(host: bytes) -> bool:
    """Return whether a Host header names this machine."""
    return _is_loopback(b"//" + host)


@lru_cache(maxsize=256)
def _is_loopback(url: bytes) -> bool:
    """Return whether the host of "//host:port" or "scheme://host:port" is this machine."""
    try:
        host = urlsplit(url.decode("ascii")).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _refuse(send: Send, refusal: Refusal) -> None:
    content = body(refusal.status, refusal.detail)
    headers = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(content)).encode())]
    if refusal.challenge:
        headers.append((b"www-authenticate", refusal.challenge.encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
