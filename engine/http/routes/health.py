"""/healthz and /readyz: whether jobs are taken in and consumed, and whether requests can be served.

What supervisors, load balancers and orchestrators ask. Each asks the broker each time, so that its answer is never
older than the question. No state.
"""

from typing import Any

from litestar import Request, Response, get

from ..contract import answer, gateway_of, problems, written
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
    found = await gateway_of(request).vitals.health()
    status = 200 if found.status == "ok" else 503
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
    return written(found, 200 if found.status == READY else 503)
