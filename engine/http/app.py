"""The ASGI application: the routes over one gateway, every error a problem, all of it behind the gate.

A route is one function in routes/, listed here. The application holds no state beside the gateway that it is given, and
needs no lifespan: whoever makes it opens and closes what the gateway stands on.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from litestar import Litestar
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from headrace.config import limits, logger
from headrace.config.tokens import Token
from headrace.jobs.errors import HeadraceError

from .answers import answered
from .contract import outline
from .cors import with_cors
from .deadlines import paced
from .description import Description
from .gate import Gate, gated
from .gateway import Gateway
from .heads import with_heads
from .hot import fronted
from .parameters import known_only, taken_by
from .problems import problem_of_fault, problem_of_headrace, problem_of_http
from .routes import dead, description, events, health, jobs, listing, metrics, queues, results, statistics, workers
from .scopes import missing
from .sending import taken
from .tokens import endings

log = logger("headrace.http")

ROUTES: Final = (
    jobs.submit,
    jobs.submit_batch,
    listing.listing,
    jobs.show,
    jobs.result,
    jobs.cancel,
    jobs.retry,
    results.results,
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
    events.events,
    health.health,
    health.readiness,
    metrics.metrics,
)


def make_app(gateway: Gateway, *, guarded: bool = True, by_length: bool = False) -> ASGIApp:
    """Return the API over an open gateway, as an ASGI application.

    Args:
        gateway: What it asks.
        guarded: Whether the gate stands before it where there are no tokens; without, somebody else decides who may
            call. Where there are tokens, it always does.
        by_length: Whether bodies end with their last announced byte; for the server that it was tried with.
    """
    routes = [*ROUTES, description.openapi, description.docs]
    unjudged = missing((method, path) for route in routes for path in route.paths for method in route.http_methods)
    assert not unjudged, f"scopes.py has to say which scope these need: {', '.join(unjudged)}"
    app = Litestar(
        routes,
        exception_handlers={
            HTTPException: problem_of_http,
            HeadraceError: problem_of_headrace,
            Exception: problem_of_fault,
        },
        state=State({"gateway": gateway, "description": Description(gateway, partial(outline, ROUTES))}),
        before_request=known_only,
        request_max_body_size=gateway.settings.http.body_max_bytes,
        openapi_config=None,  # contract.py and description.py make the document
        logging_config=None,  # it would take over the process's logging
    )
    _warn_of_endings(gateway.settings.http.tokens)
    app.state.taken = taken_by(app.routes)
    settings = gateway.settings
    # The hot route streams nothing, so it stands before the deadline of streams.
    sending = taken(answered(app), limits.HTTP_STREAM_SEND_TIMEOUT_S, gateway.unread)
    behind: ASGIApp = fronted(sending, gateway)
    if guarded or settings.http.tokens:
        behind = gated(behind, Gate(settings))
    behind = paced(behind, settings.http.body_timeout_s, by_length=by_length)
    return with_heads(with_cors(behind, settings.http.cors_origins))


def _warn_of_endings(tokens: Sequence[Token]) -> None:
    """Log the tokens that have expired, or do so soon: their users are told no more than that they are unknown."""
    for ending in endings(tokens, time.time()):
        said = {"token": ending.token.name, "scopes": " ".join(ending.token.scopes)}
        at = ending.expires.isoformat()
        if ending.is_over:
            log.warning("a token has expired", **said, expired_at=at, then="it is answered 401: replace or remove it")
        else:
            log.warning("a token expires soon", **said, expires_at=at, then="make another: `headrace token new`")
