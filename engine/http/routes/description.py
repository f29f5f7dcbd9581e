"""/openapi.json and /docs: what this API is, for programs and for people.

A route reads its request and writes its answer; what is between is in description.py. Neither is in the document. No
state.
"""

from typing import Any

from litestar import Request, Response, get

from ..contract import MOUNTED_AT, description_of
from ..description import Described, page_policy
from ..records import JSON

_HTML = "text/html"


@get("/openapi.json", include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the OpenAPI document."""
    return Response((await _now(request)).document, media_type=JSON)


@get("/docs", include_in_schema=False)
async def docs(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the page."""
    headers = {
        "content-security-policy": page_policy(),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return Response((await _now(request)).page, media_type=_HTML, headers=headers)


async def _now(request: Request[Any, Any, Any]) -> Described:
    mounted_at: str = request.scope.get(MOUNTED_AT, "")  # type: ignore[assignment]  # our own word beside ASGI's
    return await description_of(request).now(mounted_at)
