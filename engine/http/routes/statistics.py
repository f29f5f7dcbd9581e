"""/v1/stats: the figures of all workers and queues, the same record as `headrace stats --json`.

They are made anew for each request. No state.
"""

from typing import Any

from litestar import Request, Response, get

from ...observe.statistics import to_json
from ..contract import GivesStatistics, gateway_of, problems
from ..records import JSON


@get(
    "/v1/stats",
    operation_class=GivesStatistics,
    operation_id="getStatistics",
    summary="Figures of all workers and queues",
    responses=problems(),
)
async def statistics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return throughput, latencies, concurrency, errors, backpressure and queues."""
    return Response(to_json(await gateway_of(request).statistics()), media_type=JSON)
