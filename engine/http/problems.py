"""Every error as an RFC 9457 problem: one table from headrace's errors to HTTP statuses, one place that writes bodies.

A fault inside is logged with its traceback and answered without it. No state.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from headrace.config import logger
from headrace.jobs.errors import (
    BrokerUnavailable,
    DuplicateJob,
    HeadraceError,
    InvalidArguments,
    JobNotFound,
    PayloadTooLarge,
    QueueFull,
    ResultUnavailable,
    UnknownHandler,
)

from .contract import MOUNTED_AT
from .gateway import Gateway
from .heads import allowed
from .records import PROBLEM, Problem
from .wording import in_http

log = logger("headrace.http")

#: headrace's error -> status; what is not here is a fault inside.
STATUSES: Final[Mapping[type[HeadraceError], int]] = {
    InvalidArguments: 422,
    PayloadTooLarge: 413,
    UnknownHandler: 404,
    JobNotFound: 404,
    DuplicateJob: 409,
    ResultUnavailable: 410,
    QueueFull: 429,
    BrokerUnavailable: 503,
}
#: The embedded server, or a failover, is back within seconds.
BROKER_RETRY_AFTER_S: Final = 2
#: What the clients raise where the API has no room for a request; a BrokerUnavailable that soon passes.
API_BUSY: Final = "ApiBusy"
_INSIDE: Final = "the server met a fault of its own; its log says which. Send the request again, or report it"


class Refused(HTTPException):
    """A request that is refused as it is, with the reason.

    Attributes:
        name: The name of the error that headrace's clients raise for it; None where the status says it all.
    """

    def __init__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, *, name: str | None = None
    ) -> None:
        super().__init__(detail=detail, status_code=status, headers=headers)
        self.name = name


def problem_of_http(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer an error of the HTTP layer: no such route, a method it does not take, a body too large."""
    assert isinstance(error, HTTPException)
    if error.status_code >= 500 and not isinstance(error, Refused):
        return problem_of_fault(request, error)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    detail = _DETAILS.get(error.status_code, "") if not isinstance(error, Refused) else error.detail
    root: str = request.scope.get(MOUNTED_AT, "")  # type: ignore[assignment]  # our own word beside ASGI's
    if error.status_code == 405:
        headers["allow"] = allowed(request.url.path)
        detail = f"{request.method} is not a method of {root}{request.url.path}; it takes {headers['allow']}"
    if error.status_code == 404 and not isinstance(error, Refused):
        detail = f"there is nothing at {root}{request.url.path}; {root}/openapi.json lists what there is"
    if isinstance(error, ValidationException):
        detail = _invalid(error, request)
    name = error.name if isinstance(error, Refused) else None
    return respond(error.status_code, detail or error.detail, headers=headers, name=name)


def problem_of_headrace(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer one of headrace's own errors."""
    gateway: Gateway = request.app.state.gateway
    status, headers, content = answer_to(error, gateway, request.method, request.url.path)
    return Response(content, status_code=status, headers=headers, media_type=PROBLEM)


def problem_of_fault(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Log a fault of the program's own and answer without its details."""
    return Response(_fault(error, request.method, request.url.path), status_code=500, media_type=PROBLEM)


def answer_to(error: Exception, gateway: Gateway, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """Return the status, further headers and the problem that answer an error; a fault inside is logged."""
    if isinstance(error, Refused):
        return error.status_code, dict(error.headers or {}), body(error.status_code, error.detail, error.name)
    status = status_of(error)
    if status is None:
        return 500, {}, _fault(error, method, path)
    headers = {}
    if isinstance(error, QueueFull):
        headers["Retry-After"] = str(gateway.retry_after_s(error))
        return status, headers, _full(status, error)
    if isinstance(error, BrokerUnavailable):
        headers["Retry-After"] = str(BROKER_RETRY_AFTER_S)
    return status, headers, body(status, in_http(str(error)), type(error).__name__)


def _full(status: int, error: QueueFull) -> bytes:
    """Return the problem of a full queue, with its figures."""
    drain_s = msgspec.UNSET if error.drain_s is None or math.isinf(error.drain_s) else error.drain_s  # paused: never
    return msgspec.json.encode(
        Problem(
            HTTPStatus(status).phrase, status, in_http(str(error)), error=type(error).__name__, queue=error.queue,
            depth=error.depth, bound=error.bound, reason=error.reason, drain_s=drain_s,
        )
    )  # fmt: skip


def _fault(error: Exception, method: str, path: str) -> bytes:
    log.error("request failed", method=method, path=path, exc_info=error)
    return body(500, _INSIDE)


def status_of(error: Exception) -> int | None:
    """Return the status that an error means; None for a fault inside."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), None)


def respond(
    status: int, detail: str, *, headers: Mapping[str, str] | None = None, name: str | None = None
) -> Response[bytes]:
    """Return a problem as a response."""
    return Response(body(status, detail, name), status_code=status, headers=headers, media_type=PROBLEM)


def body(status: int, detail: str, name: str | None = None) -> bytes:
    """Return a problem's JSON."""
    title = HTTPStatus(status).phrase
    return msgspec.json.encode(Problem(title, status, detail, error=name or msgspec.UNSET))


async def send_problem(
    send: Callable[[Any], Awaitable[None]], status: int, detail: str, name: str | None = None
) -> None:
    """Send a problem where no route answers."""
    content = body(status, detail, name)
    headers = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(content)).encode())]
    if status == 503:
        headers.append((b"retry-after", str(BROKER_RETRY_AFTER_S).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def _invalid(error: ValidationException, request: Request[Any, Any, Any]) -> str:
    """Say which parameters of the path or the query are wrong, and what is right where that is one of a few words."""
    extra = error.extra if isinstance(error.extra, list) else []
    taken = request.route_handler.parsed_fn_signature.parameters
    shown = []
    for item in filter(lambda each: isinstance(each, dict), extra):
        words = _words(taken[item["key"]].annotation) if item.get("key") in taken else []
        said = f"{item.get('key', '?')}: {item.get('message', '')}"
        shown.append(f"{said}; it is one of {', '.join(words)}" if words else said)
    return "; ".join(shown) or error.detail


def _words(kind: Any) -> list[str]:
    """Return the words of which a parameter is one; none where it may be others."""
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    return [word for part in get_args(kind) for word in _words(part)]


#: What is said of a body that is too large.
TOO_LARGE: Final = "the request's body is larger than http.body_max allows; send less at a time, or raise it"
#: What Litestar's own words leave unsaid.
_DETAILS: Final = {413: TOO_LARGE}
