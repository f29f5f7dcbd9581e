"""What routes share: the gateway, how a record is written, and what OpenAPI is told beyond their own types.

Routes read their bodies as bytes, to tell malformed JSON from wrong fields and to stream; so the document is told here
what those bytes are. No state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Litestar, Request, Response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)

from ..admin import Purged, SwitchedQueue
from ..broker.views import QueueView
from ..observe.fleet import WorkerView
from ..observe.statistics import Statistics
from ..version import VERSION
from .answers import EVER_NEW
from .ends import JobAnswers, JobsAsked
from .gateway import Gateway
from .handler_schemas import JOB
from .letters import DeadEdit, DeadItem, DeadPage, DeadRetried, DeadRetry
from .listing import JobPage
from .records import (
    EVENTS,
    JSON,
    MSGPACK,
    NDJSON,
    OPENMETRICS,
    PROBLEM,
    BatchReport,
    Cancelled,
    Health,
    JobAnswer,
    JobRecord,
    JobRequest,
    JobStatus,
    Problem,
    Readiness,
    Retried,
    StreamedEvent,
    StreamedGap,
)
from .scopes import needed

if TYPE_CHECKING:
    from .description import Description

#: The key of a scope that holds the path at which the API is mounted.
MOUNTED_AT: Final = "headrace.mounted_at"

_MEANINGS: Final[Mapping[int, str]] = {
    400: "The request is malformed: its JSON, or a parameter, or there is no such parameter.",
    401: "There is no token, or one that is unknown or has expired.",
    403: "The token has not the scope that this needs, or the Host or Origin header names another machine.",
    404: "There is no such job or handler.",
    408: "The body came too slowly.",
    409: "There is such a job already.",
    410: "The job has ended, and its record or value is gone.",
    413: "The body is larger than http.body_max or, of a batch, http.batch_max; or the job than max_payload.",
    415: "The body is of another media type, or compressed.",
    422: "A field or an argument is wrong; the detail names it.",
    429: "The queue is full; Retry-After says when to come again.",
    500: "A fault of the server's own.",
    503: "The broker is away, or the API has no memory left for the body; Retry-After says when to come again.",
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the problem answers of a route: those given, and those that every route has."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=_MEANINGS[status], media_type=PROBLEM)
        for status in sorted({*statuses, 400, 401, 403, 500, 503, *({408} if 413 in statuses else ())})
    }


def answer(record: type, description: str) -> ResponseSpec:
    """Return a further answer of a route that is no problem."""
    return ResponseSpec(record, generate_examples=False, description=description)


def gateway_of(request: Request[Any, Any, Any]) -> Gateway:
    """Return what the application stands on."""
    gateway: Gateway = request.app.state.gateway
    return gateway


def description_of(request: Request[Any, Any, Any]) -> "Description":
    """Return what describes the application."""
    description: Description = request.app.state.description
    return description


def written(record: Any, status: int = 200) -> Response[Any]:
    """Return a record as a response, written by msgspec."""
    return Response(_encode(record), status_code=status, media_type=JSON)


@dataclass
class TakesJob(Operation):
    """An operation whose body is one job."""

    def __post_init__(self) -> None:
        """Say so."""
        self.request_body = RequestBody({JSON: OpenAPIMediaType(schema=_JOB)}, required=True)


@dataclass
class TakesJobs(Operation):
    """An operation whose body is many jobs."""

    def __post_init__(self) -> None:
        """Say so."""
        lines = Schema(type=OpenAPIType.STRING, description="One job a line, each as the items of the JSON array are.")
        array = Schema(type=OpenAPIType.ARRAY, items=_JOB)
        packed = Schema(type=OpenAPIType.STRING, description="msgpack maps, one after the other or in an array.")
        content = {
            NDJSON: OpenAPIMediaType(schema=lines),
            JSON: OpenAPIMediaType(schema=array),
            MSGPACK: OpenAPIMediaType(schema=packed),
        }
        self.request_body = RequestBody(content, required=True)


@dataclass
class TakesDeadEdit(Operation):
    """An operation whose body is other arguments for a dead job."""

    def __post_init__(self) -> None:
        """Say so."""
        schema = Reference(ref="#/components/schemas/DeadEdit")
        self.request_body = RequestBody({JSON: OpenAPIMediaType(schema=schema)}, required=True)


@dataclass
class TakesDeadRetry(Operation):
    """An operation whose body says which dead jobs."""

    def __post_init__(self) -> None:
        """Say so."""
        schema = Reference(ref="#/components/schemas/DeadRetry")
        self.request_body = RequestBody({JSON: OpenAPIMediaType(schema=schema)}, required=True)


@dataclass
class TakesIds(Operation):
    """An operation whose body says which jobs."""

    def __post_init__(self) -> None:
        """Say so."""
        schema = Reference(ref="#/components/schemas/JobsAsked")
        self.request_body = RequestBody({JSON: OpenAPIMediaType(schema=schema)}, required=True)


@dataclass
class GivesStatistics(Operation):
    """An operation that answers with the statistics, which are written before they reach the route."""

    def __post_init__(self) -> None:
        """Say so."""
        found = Reference(ref="#/components/schemas/Statistics")
        self.responses = {
            **(self.responses or {}),
            "200": OpenAPIResponse(description="The figures.", content={JSON: OpenAPIMediaType(schema=found)}),
        }


@dataclass
class GivesEvents(Operation):
    """An operation that answers with a stream of server-sent events."""

    def __post_init__(self) -> None:
        """Say so."""
        text = "Each event's `data` is a StreamedEvent, or a StreamedGap where its name is `gap`; its id is the cursor."
        stream = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, description=text))
        self.responses = {
            **(self.responses or {}),
            "200": OpenAPIResponse(description="The events.", content={EVENTS: stream}),
        }


@dataclass
class GivesMetrics(Operation):
    """An operation that answers with metrics as text."""

    def __post_init__(self) -> None:
        """Say so."""
        text = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
        self.responses = {
            **(self.responses or {}),
            "200": OpenAPIResponse(description="The metrics.", content={"text/plain": text, OPENMETRICS: text}),
        }


def outline(routes: Sequence[HTTPRouteHandler]) -> dict[str, Any]:
    """Return the OpenAPI document of routes without JOB, which depends on the handlers that there are.

    The schemas are msgspec's own, which reads and writes the records.

    An application is made for it alone: one that serves documents also has pages that load scripts from elsewhere.

    Args:
        routes: What there is.
    """
    config = OpenAPIConfig(
        title="headrace",
        version=VERSION,
        description="Submit jobs, and see what became of them.",
        use_handler_docstrings=True,
    )
    shown = Litestar(routes, openapi_config=config, logging_config=None).openapi_schema.to_schema()
    _, schemas = msgspec.json.schema_components(_RECORDS, ref_template="#/components/schemas/{name}")
    shown["components"]["schemas"] = schemas
    for path, operations in shown["paths"].items():
        for method, operation in operations.items():
            need = needed(method.upper(), path)
            # The empty one is for where there are no tokens.
            operation["security"] = [{}] if need == "open" else [{}, {"bearer": [need]}]
        if "get" in operations and path not in EVER_NEW:
            operations["get"]["responses"]["304"] = {"description": "It is what If-None-Match names."}
    shown["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return msgspec.json.decode(msgspec.json.encode(shown), type=dict[str, Any])


_encode = msgspec.json.Encoder().encode
_JOB: Final = Reference(ref=f"#/components/schemas/{JOB}")
_RECORDS: Final = (
    JobRequest,
    JobStatus,
    BatchReport,
    JobRecord,
    JobPage,
    JobAnswer,
    JobsAsked,
    JobAnswers,
    DeadItem,
    DeadPage,
    DeadEdit,
    DeadRetry,
    DeadRetried,
    Cancelled,
    Retried,
    WorkerView,
    QueueView,
    SwitchedQueue,
    Purged,
    Health,
    Readiness,
    StreamedEvent,
    StreamedGap,
    Problem,
    Statistics,
)
