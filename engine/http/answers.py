"""What becomes of an answer on its way out: a tag by which it need not be sent again, and compression where large.

Only whole documents are tagged. What is sent in pieces is large, and compressed piece by piece where it is JSON; events
pass as they come. A tag is weak, for the same document goes out compressed or not. Each answer owns its compressor.
"""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

import anyio.to_thread
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from .coding import CODINGS, Packer, coding_for, compress

#: Below it the headers and the packet are most of what travels.
COMPRESS_FROM_BYTES: Final = 1024
#: Some 4 ms of gzip: more is done in a thread, beside the requests of others.
COMPRESS_ASIDE_FROM_BYTES: Final = 256 * 1024
_KINDS: Final = (b"application/json", b"application/problem+json", b"text/html")
#: They are other ones each time that they are asked for.
EVER_NEW: Final = frozenset({"/v1/stats", "/v1/workers", "/healthz", "/readyz", "/metrics", "/v1/events"})

Headers = list[tuple[bytes, bytes]]


def answered(app: ASGIApp) -> ASGIApp:
    """Return the application with its answers tagged and compressed."""

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        started: list[Any] = []
        packer: Packer | None = None

        async def forward(message: Message) -> None:
            nonlocal packer
            if message["type"] == "http.response.start":
                started.append(message)
                return
            if message["type"] == "http.response.body":
                if started:
                    start = started.pop()
                    if not message.get("more_body"):
                        message["body"] = await _finish(scope, start, message.get("body", b""))
                    else:
                        packer = _packer_of(scope, start)
                    await send(start)
                if packer is not None:
                    content = packer.compress(message.get("body", b""))
                    message["body"] = content if message.get("more_body") else content + packer.flush()
            await send(message)

        await app(scope, receive, forward)

    return answering


def _packer_of(scope: HTTPScope, start: Any) -> Packer | None:
    """Return what compresses an answer in pieces, and complete its headers; None where it goes as it is."""
    headers: Headers = [(name.lower(), value) for name, value in start["headers"]]
    if _kind(headers) not in _KINDS or _first(headers, b"content-encoding"):
        return None
    headers.append((b"vary", b"accept-encoding"))
    coding = _coding_for(scope)
    if coding is not None:
        headers = [item for item in headers if item[0] != b"content-length"]
        headers.append((b"content-encoding", coding))
    start["headers"] = headers
    return None if coding is None else CODINGS[coding]()


async def _finish(scope: HTTPScope, start: Any, content: bytes) -> bytes:
    """Complete the headers of a whole answer, and return what is to be sent of it."""
    headers: Headers = [(name.lower(), value) for name, value in start["headers"]]
    if _kind(headers) not in _KINDS or _first(headers, b"content-encoding"):
        return content
    if start["status"] == 200 and scope["method"] == "GET" and scope["path"] not in EVER_NEW:
        tag = b'W/"' + blake2b(content, digest_size=12).hexdigest().encode() + b'"'
        headers += [(b"etag", tag), (b"cache-control", b"private, no-cache"), (b"vary", b"accept-encoding")]
        if is_known(tag, [value for name, value in scope["headers"] if name == b"if-none-match"]):
            start["status"] = 304
            start["headers"] = [item for item in headers if item[0] not in (b"content-length", b"content-type")]
            return b""
    if len(content) >= COMPRESS_FROM_BYTES:
        if not _first(headers, b"vary"):
            headers.append((b"vary", b"accept-encoding"))
        coding = _coding_for(scope)
        if coding is not None:
            if len(content) >= COMPRESS_ASIDE_FROM_BYTES:
                content = await anyio.to_thread.run_sync(compress, content, coding)
            else:
                content = compress(content, coding)
            headers = [item for item in headers if item[0] != b"content-length"]
            headers += [(b"content-encoding", coding), (b"content-length", str(len(content)).encode())]
    start["headers"] = headers
    return content


def _coding_for(scope: HTTPScope) -> bytes | None:
    return coding_for([value for name, value in scope["headers"] if name == b"accept-encoding"])


def is_known(tag: bytes, known: Iterable[bytes]) -> bool:
    """Return whether If-None-Match headers name a tag, or are "*"; weakly compared, as RFC 9110 has it for reading."""
    bare = tag.removeprefix(b"W/")
    return any(item.strip().removeprefix(b"W/") in (bare, b"*") for value in known for item in value.split(b","))


def _kind(headers: Headers) -> bytes:
    return _first(headers, b"content-type").partition(b";")[0].strip()


def _first(headers: Headers, name: bytes) -> bytes:
    return next((value for found, value in headers if found == name), b"")
