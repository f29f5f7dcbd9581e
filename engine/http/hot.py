"""The hot route: POST /v1/jobs as bare ASGI in front of the application, since all else there costs more than it.

It answers as every route does: the same statuses, the same problems, the same record in the OpenAPI document, behind
the same gate; routes/jobs.py calls the same function for whatever comes to it by another spelling of the path. It
knows no framework, so it is as good under any server and on any loop. No state.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from headrace.jobs.errors import InvalidArguments

from .bodies import compressed, is_plain, no_room, shown, unread_type
from .gateway import Gateway
from .held import Held
from .problems import TOO_LARGE, Refused, answer_to
from .records import FORM, IDEMPOTENCY_KEY_MAX_CHARS, JSON, PROBLEM, JobRequest

PATH: Final = "/v1/jobs"
_decode = msgspec.json.Decoder(JobRequest).decode
_encode = msgspec.json.Encoder().encode
_JSON: Final = JSON.encode()
_FORM: Final = FORM.encode()
_JSON_TYPE: Final = (b"content-type", _JSON)
_PROBLEM_TYPE: Final = (b"content-type", PROBLEM.encode())

Headers = Iterable[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """What a submission is answered.

    Attributes:
        status: The HTTP status.
        headers: Headers but Content-Type and Content-Length.
        content: A JobStatus, or a problem, as JSON.
    """

    status: int
    headers: dict[str, str]
    content: bytes


def fronted(app: ASGIApp, gateway: Gateway) -> ASGIApp:
    """Return the application with the hot route in front of it."""

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == "POST" and _is_hot(scope):
            answer = await answer_submission(gateway, scope["headers"], receive)
            await _send(send, answer)
        else:
            await app(scope, receive, send)

    return front


async def answer_submission(gateway: Gateway, headers: Headers, receive: Receive) -> Answer:
    """Take one job in, and answer with its id and status once the queue has it, or with a problem.

    Args:
        gateway: Through which it goes.
        headers: The request's, names in lower case.
        receive: Where its body comes from.
    """
    try:
        key = _checked(headers, gateway.settings.http.body_max_bytes)
        content = await _whole(receive, gateway.settings.http.body_max_bytes, gateway.held)
        return Answer(202, {}, _encode(await gateway.submit(_job(content), key)))
    except Exception as error:  # noqa: BLE001 - each is answered: a fault inside is logged there, and is a 500
        return Answer(*answer_to(error, gateway, "POST", PATH))


def idempotency_key(value: bytes) -> str:
    """Return the key in an Idempotency-Key header, which may be empty; raises Refused where it is none."""
    text = value.decode("latin-1")
    if len(text) > IDEMPOTENCY_KEY_MAX_CHARS or not text.isprintable():
        raise Refused(400, f"Idempotency-Key: use at most {IDEMPOTENCY_KEY_MAX_CHARS} printable characters")
    return text


def _is_hot(scope: HTTPScope) -> bool:
    if scope.get("query_string"):  # it takes no parameters, and the application says so (parameters.py)
        return False
    path, root = scope["path"], scope.get("root_path", "")
    return path == PATH or (root != "" and path.removeprefix(root) == PATH)


def _checked(headers: Headers, max_bytes: int) -> str:
    """Return the idempotency key, empty for none, after a look at the headers.

    Raises:
        Refused: 415: the body is of another media type, or compressed; 413: it is announced as too large; 400: the key
            is none.
    """
    named, key, from_page = b"", "", False
    for name, value in headers:
        if name == b"content-type":
            named = value
        elif name == b"content-length":
            if value.isdigit() and int(value) > max_bytes:
                raise Refused(413, TOO_LARGE)
        elif name == b"idempotency-key":
            key = idempotency_key(value)
        elif name == b"origin":
            from_page = True
        elif name == b"content-encoding" and not is_plain(coding := value.decode("latin-1")):
            raise compressed(coding)
    if named != _JSON:
        named = named.partition(b";")[0].strip().lower()
        # A plain `curl -d` calls JSON a form; a browser, which sends an Origin with a form, must not be able to.
        if named != _JSON and (named != _FORM or from_page):
            raise Refused(415, unread_type(named.decode("latin-1"), JSON))
    return key


async def _whole(receive: Receive, max_bytes: int, held: Held) -> bytes:
    """Return the body.

    Raises:
        Refused: 413: it is too large, whatever Content-Length says; 400: the client went away before its end; 503:
            there is no room for it.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        content: bytes = message["body"]
        if len(content) > max_bytes:
            raise Refused(413, TOO_LARGE)
        return content
    parts: list[bytes] = []
    with held.body() as own:
        while True:
            if message["type"] != "http.request":
                raise Refused(400, "the connection ended before the body did")
            parts.append(message["body"])
            if own.size_bytes + len(parts[-1]) > max_bytes:
                raise Refused(413, TOO_LARGE)
            if not own.add(len(parts[-1])):
                raise no_room()
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()


def _job(content: bytes) -> JobRequest:
    """Read one job.

    Raises:
        InvalidArguments: a field is wrong, missing or unknown.
        Refused: 400: it is no JSON.
    """
    try:
        return _decode(content)
    except msgspec.ValidationError as error:
        raise InvalidArguments(f"the job: {error}") from None
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON object of a job: {shown(error)}") from None


async def _send(send: Send, answer: Answer) -> None:
    content = answer.content
    headers = [_JSON_TYPE if answer.status == 202 else _PROBLEM_TYPE, (b"content-length", b"%d" % len(content))]
    if answer.headers:
        headers += [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
