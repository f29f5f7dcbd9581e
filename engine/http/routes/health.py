"""/healthz: whether jobs are taken in and consumed; what a supervisor or a load balancer asks.

It asks the broker each time, so that its answer is never older than the question. No state.
"""

from typing import Any

from litestar import Request, Response, get

from ..contract import answer, gateway_of, problems, written
from ..records import Health


@get(
    "/healthz",
    operation_id="getHealth",
    summary="Whether jobs are taken in and consumed",
    responses={**problems(), 503: answer(Health, "No worker asks for the jobs of some queue, or the broker is away.")},
)
async def health(request: Request[Any, Any, Any]) -> Response[Health]:
    """Return 200 when the broker answers and no queue has lost all its workers' attention, else 503."""
    found = await gateway_of(request).health()
    status = 200 if found.status == "ok" else 503
    return written(found, status)
