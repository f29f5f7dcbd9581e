"""Requests' bodies: of what type they are, read whole or in pieces, and never beyond what the route takes.

The bound holds for the bytes that arrive, whatever Content-Length says. A client that goes away in the middle is no
fault of this program. An Arriving belongs to one request, and owns what came of its body before it was asked for.
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import anyio
import anyio.abc
import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException

from headrace.jobs.errors import InvalidArguments

from .problems import API_BUSY, Refused
from .records import FORM, JSON

if TYPE_CHECKING:
    from litestar.types import HTTPReceiveMessage

T = TypeVar("T")
#: What is held of a body at most that came while nobody asked for it; a few pieces, as servers hand them over.
AHEAD_MAX_BYTES: Final = 256 * 1024
#: Bodies that are large end within seconds over any network that they are worth being sent by.
ROOM_RETRY_AFTER_S: Final = 2


def media_type(request: Request[Any, Any, Any], accepted: tuple[str, ...]) -> str:
    """Return the media type of a body, without its parameters.

    What a plain `curl -d` calls a form counts as FORM, whatever is in it; a browser sends an Origin with a form that it
    posts across origins, so a form with an Origin is refused.

    Raises:
        Refused: 415: it is another, or the body is compressed.
    """
    headers = request.headers
    if (coding := headers.get("content-encoding", "")) and not is_plain(coding):
        raise compressed(coding)
    named = headers.get("content-type", "").partition(";")[0].strip().lower()
    if named in accepted or (named == FORM and "origin" not in headers):
        return named
    raise Refused(415, unread_type(named, *accepted))


def unread_type(named: str, *accepted: str) -> str:
    """Say why a body is not read: its media type is another or, of a form, its Origin header makes the difference.

    Args:
        named: Its media type, without parameters; empty for none.
        accepted: Those that are read.
    """
    wanted = " or ".join(accepted)
    if named == FORM:  # without an Origin it would have been read
        return (
            f"the body's Content-Type is {FORM!r}, and there is an Origin header, so a page in a browser may have sent "
            f"it: with an Origin no form is read; send it as {wanted}, or without the Origin"
        )
    return f"the body's Content-Type is {repr(named) if named else 'none'}; send it as {wanted}"


def is_plain(coding: str) -> bool:
    """Return whether a Content-Encoding leaves a body as it is."""
    return coding.strip().lower() in {"", "identity"}


def compressed(coding: str) -> Refused:
    """Return the refusal of a body that is compressed: its jobs would all be taken for malformed."""
    return Refused(
        415,
        f"the body's Content-Encoding is {coding!r}, and bodies are read as they come; send it uncompressed",
        {"Accept-Encoding": "identity"},
    )


def shown(error: Exception) -> str:
    """Return what is wrong with a document, in one line."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


async def whole(request: Request[Any, Any, Any]) -> bytes:
    """Return the body; raises what `pieces` does, and Refused where there is no room for it."""
    found: list[bytes] = []
    with request.app.state.gateway.held.body() as held:
        async with aclosing(pieces(request)) as arriving:  # a generator that is left lying is trio's to complain of
            async for piece in arriving:
                if not held.add(len(piece)):
                    raise no_room()
                found.append(piece)
        return b"".join(found)


async def record_in(request: Request[Any, Any, Any], shape: type[T]) -> T:
    """Return the record that a body is, as JSON.

    Raises:
        InvalidArguments: a field is wrong or unknown.
        Refused: 400: it is no JSON; 415: it is of another media type; and what `whole` raises.
    """
    media_type(request, (JSON,))
    body = await whole(request)
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise InvalidArguments(f"the body: {error}") from None
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON object: {shown(error)}") from None


def no_room() -> Refused:
    """Return the refusal of a body for which the bodies of other requests leave no room."""
    return Refused(
        503,
        "the bodies of other requests take all the memory that the API has for them; send this one again in a moment",
        {"Retry-After": str(ROOM_RETRY_AFTER_S)},
        name=API_BUSY,
    )


async def pieces(request: Request[Any, Any, Any]) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives.

    Raises:
        RequestEntityTooLarge: it is announced, or has become, larger than the route takes.
        Refused: the client went away before its end.
    """
    try:
        async with aclosing(request.stream()) as arriving:
            async for piece in arriving:
                yield piece
    except InternalServerException:
        raise Refused(400, "the connection ended before the body did") from None


class Arriving:
    """A body as it arrives, of a route with a bound of its own; no generator, so that it may be left unread.

    Args:
        request: The request.
        name: The setting that is the bound.
        max_bytes: The bound; 0 for none.
        group: Where the looking for the client's end runs; whoever opened it cancels it at the request's end.

    Raises:
        Refused: it is announced as larger. While it is read: it has become larger, or the client went away.
    """

    def __init__(self, request: Request[Any, Any, Any], name: str, max_bytes: int, group: anyio.abc.TaskGroup) -> None:
        self._receive = request.receive
        self._max_bytes = max_bytes
        self._name = name
        self._size_bytes = 0
        self._has_more = True
        self._group = group
        self._gone = anyio.Event()
        self._news = anyio.Event()
        self._ahead: deque[HTTPReceiveMessage | Refused] = deque()
        self._ahead_bytes = 0
        self._looking = False
        self._refused = False
        announced = request.headers.get("content-length", "")
        if max_bytes and announced.isdigit() and int(announced) > max_bytes:
            raise self._too_large()

    def watch(self) -> anyio.Event:
        """Look for the client's end while nobody reads, and return the event that is set by it.

        Only what is received tells of it, so what comes before is kept for whoever reads on. That is bounded: a client
        that goes away behind more than that is noticed once its body is read.
        """
        over = self._refused or self._gone.is_set()
        if not (over or self._looking) and self._ahead_bytes < AHEAD_MAX_BYTES:
            self._looking = True
            self._group.start_soon(self._look)
        return self._gone

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._has_more:
            raise StopAsyncIteration
        message = await self._next()
        if message["type"] != "http.request":
            self._gone.set()
            raise Refused(400, "the connection ended before the body did")
        self._has_more = message.get("more_body", False)
        piece = message["body"]
        self._size_bytes += len(piece)
        if self._max_bytes and self._size_bytes > self._max_bytes:
            raise self._too_large()
        return piece

    async def _look(self) -> None:
        """Receive until the client is gone or enough is held; never cancelled halfway, since a piece would be lost."""
        try:
            while self._ahead_bytes < AHEAD_MAX_BYTES and not self._gone.is_set():
                message: HTTPReceiveMessage = await self._receive()  # type: ignore[assignment]  # of a request over HTTP
                self._ahead.append(message)
                if message["type"] == "http.request":
                    self._ahead_bytes += len(message["body"])
                else:
                    self._gone.set()
                self._news.set()
        except Refused as error:  # it came too slowly, which whoever reads on is told
            self._refused = True
            self._ahead.append(error)
        finally:
            self._looking = False
            self._news.set()

    async def _next(self) -> "HTTPReceiveMessage":
        while self._looking and not self._ahead:
            self._news = anyio.Event()
            await self._news.wait()
        if not self._ahead:
            message: HTTPReceiveMessage = await self._receive()  # type: ignore[assignment]  # of a request over HTTP
            return message
        first = self._ahead.popleft()
        if isinstance(first, Refused):
            raise first
        if first["type"] == "http.request":
            self._ahead_bytes -= len(first["body"])
        return first

    def _too_large(self) -> Refused:
        return Refused(413, f"the request's body is larger than {self._name} allows; send less at a time, or raise it")
