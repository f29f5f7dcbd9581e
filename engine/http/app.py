"""The ASGI application: the routes over one gateway, every error a problem, all of it behind the gate.

A route is one function in routes/, listed here. The application holds no state beside the gateway that it is given, and
needs no lifespan: whoever makes it opens and closes what the gateway stands on.
"""

from typing import Any, Final

from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from headrace.jobs.errors import HeadraceError

from .answers import answered
from .contract import MOUNTED_AT, document
from .gate import gated
from .gateway import Gateway
from .problems import problem_of_fault, problem_of_headrace, problem_of_http
from .records import JSON
from .routes import dead, health, jobs, listing, queues, statistics, workers

ROUTES: Final = (
    jobs.submit,
    jobs.submit_batch,
    listing.listing,
    jobs.show,
    jobs.result,
    jobs.cancel,
    jobs.retry,
    dead.listing,
    dead.show,
    dead.edit,
    dead.drop,
    dead.retry,
    queues.queues,
    queues.pause,
    queues.resume,
    queues.purge,
    workers.workers,
    statistics.statistics,
    health.health,
)


def make_app(gateway: Gateway, *, guarded: bool = True) -> ASGIApp:
    """Return the API over an open gateway, as an ASGI application.

    Args:
        gateway: What it asks.
        guarded: Whether the gate stands before it; without, somebody else decides who may call.
    """
    written: dict[str, bytes] = {}

    @get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Return the OpenAPI document; made when first asked for, for it takes some 10 ms."""
        mounted_at: str = request.scope.get(MOUNTED_AT, "")  # type: ignore[assignment]  # our own word beside ASGI's
        if mounted_at not in written:
            written.clear()  # an application is mounted in one place, or in a few
            written[mounted_at] = document(ROUTES, mounted_at)
        return Response(written[mounted_at], media_type=JSON)

    app = Litestar(
        [*ROUTES, openapi],
        exception_handlers={
            HTTPException: problem_of_http,
            HeadraceError: problem_of_headrace,
            Exception: problem_of_fault,
        },
        state=State({"gateway": gateway}),
        request_max_body_size=gateway.settings.http.body_max_bytes,
        openapi_config=None,  # contract.py makes the document
        logging_config=None,  # it would take over the process's logging
    )
    answering = answered(app)
    return gated(answering) if guarded else answering
