"""/healthz and /readyz: whether jobs are taken in and consumed, and whether requests can be served.

What supervisors, load balancers and orchestrators ask. They are open: where there are
tokens, whoever has none that may read is told no more than that. No state.
"""

from typing import Any

from litestar import Request, Response, get

from headrace.jobs.errors import BrokerUnavailable

from ..contract import answer, gateway_of, problems, written
from ..gate import TOLD_LITTLE
from ..records import Health, Readiness
from ..vitals import READY


@get(
    "/healthz",
    operation_id="getHealth",
    summary="Whether jobs are taken in and consumed",
    responses={
        **problems(),
        503: answer(Health, "No worker asks for the jobs of some queue, the loop was held up, or the broker is away."),
    },
)
async def health(request: Request[Any, Any, Any]) -> Response[Health]:
    """Return 200 when the broker answers, no queue has lost all its workers' attention and the loop turns, else 503."""
    told_little = request.scope.get(TOLD_LITTLE, False)
    try:
        found = await gateway_of(request).vitals.health()
    except BrokerUnavailable:
        if told_little:
            raise BrokerUnavailable("the server is away") from None
        raise
    status = 200 if found.status == "ok" else 503
    if told_little:
        found = Health(found.status)
    return written(found, status)


@get(
    "/readyz",
    operation_id="getReadiness",
    summary="Whether requests can be served",
    responses={**problems(), 503: answer(Readiness, "Some part is not ready; each says what it lacks.")},
)
async def readiness(request: Request[Any, Any, Any]) -> Response[Readiness]:
    """Return 200 when pool, broker and scripts are ready, else 503; scripts that the server lacks are loaded."""
    found = await gateway_of(request).vitals.readiness()
    status = 200 if found.status == READY else 503
    if request.scope.get(TOLD_LITTLE, False):
        parts = ["ready" if part == READY else "unready" for part in (found.pool, found.broker, found.scripts)]
        found = Readiness(found.status, *parts)
    return written(found, status)
