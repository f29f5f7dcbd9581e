"""What routes share: the gateway, how a record is written, and what OpenAPI is told beyond their own types.

Routes read their bodies as bytes, to tell malformed JSON from wrong fields and to stream; so the document is told here
what those bytes are. No state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
    Server,
)

from ..admin import Purged
from ..broker.views import QueueView
from ..observe.fleet import WorkerView
from ..observe.statistics import Statistics
from ..version import VERSION
from .answers import EVER_NEW
from .gateway import Gateway
from .letters import DeadEdit, DeadItem, DeadPage, DeadRetried, DeadRetry
from .listing import JobPage
from .records import (
    JSON,
    NDJSON,
    PROBLEM,
    BatchReport,
    Cancelled,
    Health,
    JobRecord,
    JobRequest,
    JobResult,
    JobStatus,
    Problem,
    Retried,
)

#: The key of a scope that holds the path at which the API is mounted.
MOUNTED_AT: Final = "headrace.mounted_at"

_MEANINGS: Final[Mapping[int, str]] = {
    400: "The request is malformed: its JSON, or a parameter.",
    403: "The Host or Origin header names another machine.",
    404: "There is no such job or handler.",
    409: "There is such a job already.",
    410: "The job has ended, and its record or value is gone.",
    413: "The body is larger than http.body_max, or the job than max_payload.",
    415: "The body is of another media type.",
    422: "A field or an argument is wrong; the detail names it.",
    429: "The queue is full; Retry-After says when to come again.",
    500: "A fault of the server's own.",
    503: "The broker is away; Retry-After says when to come again.",
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the problem answers of a route: those given, and those that every route has."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, description=_MEANINGS[status], media_type=PROBLEM)
        for status in sorted({*statuses, 400, 403, 500, 503})
    }


def answer(record: type, description: str) -> ResponseSpec:
    """Return a further answer of a route that is no problem."""
    return ResponseSpec(record, generate_examples=False, description=description)


def gateway_of(request: Request[Any, Any, Any]) -> Gateway:
    """Return what the application stands on."""
    gateway: Gateway = request.app.state.gateway
    return gateway


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
        content = {NDJSON: OpenAPIMediaType(schema=lines), JSON: OpenAPIMediaType(schema=array)}
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
class GivesStatistics(Operation):
    """An operation that answers with the statistics, which are written before they reach the route."""

    def __post_init__(self) -> None:
        """Say so."""
        found = Reference(ref="#/components/schemas/Statistics")
        self.responses = {
            **(self.responses or {}),
            "200": OpenAPIResponse(description="The figures.", content={JSON: OpenAPIMediaType(schema=found)}),
        }


def document(routes: Sequence[HTTPRouteHandler], mounted_at: str = "") -> bytes:
    """Return the OpenAPI document of routes as JSON; the schemas are msgspec's own, which reads and writes the records.

    An application is made for it alone: one that serves documents also has pages that load scripts from elsewhere.

    Args:
        routes: What there is.
        mounted_at: The path below which they are, in an application of somebody else's; empty where there is none.
    """
    config = OpenAPIConfig(
        title="headrace",
        version=VERSION,
        description="Submit jobs, and see what became of them.",
        use_handler_docstrings=True,
        servers=[Server(url=mounted_at or "/")],
    )
    shown = Litestar(routes, openapi_config=config, logging_config=None).openapi_schema.to_schema()
    _, schemas = msgspec.json.schema_components(_RECORDS, ref_template="#/components/schemas/{name}")
    shown["components"]["schemas"] = schemas
    for path, item in shown["paths"].items():
        if "get" in item and path not in EVER_NEW:
            item["get"]["responses"]["304"] = {"description": "It is what If-None-Match names."}
    return msgspec.json.encode(shown)


_encode = msgspec.json.Encoder().encode
_JOB: Final = Reference(ref="#/components/schemas/JobRequest")
_RECORDS: Final = (
    JobRequest,
    JobStatus,
    BatchReport,
    JobRecord,
    JobPage,
    JobResult,
    DeadItem,
    DeadPage,
    DeadEdit,
    DeadRetry,
    DeadRetried,
    Cancelled,
    Retried,
    WorkerView,
    QueueView,
    Purged,
    Health,
    Problem,
    Statistics,
)
