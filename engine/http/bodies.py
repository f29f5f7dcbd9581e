"""Requests' bodies: of what type they are, read whole or in pieces, and never beyond http.body_max.

The bound holds for the bytes that arrive, whatever Content-Length says. A client that goes away in the middle is no
fault of this program. No state.
"""

from collections.abc import AsyncIterator
from typing import Any

from litestar import Request
from litestar.exceptions import InternalServerException

from .problems import Refused
from .records import FORM


def media_type(request: Request[Any, Any, Any], accepted: tuple[str, ...]) -> str:
    """Return the media type of a body, without its parameters.

    What a plain `curl -d` calls a form counts as FORM, whatever is in it; a browser sends an Origin with a form that it
    posts across origins, so a form with an Origin is refused.

    Raises:
        Refused: 415: it is another.
    """
    headers = request.headers
    named = headers.get("content-type", "").partition(";")[0].strip().lower()
    if named in accepted or (named == FORM and "origin" not in headers):
        return named
    shown = repr(named) if named else "none"
    raise Refused(415, f"the body's Content-Type is {shown}; send it as {' or '.join(accepted)}")


async def whole(request: Request[Any, Any, Any]) -> bytes:
    """Return the body; raises what `pieces` does."""
    return b"".join([piece async for piece in pieces(request)])


async def pieces(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """Yield the body as it arrives.

    Raises:
        RequestEntityTooLarge: it is announced, or has become, larger than http.body_max.
        Refused: the client went away before its end.
    """
    try:
        async for piece in request.stream():
            yield piece
    except InternalServerException:
        raise Refused(400, "the connection ended before the body did") from None
