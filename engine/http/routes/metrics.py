"""/metrics: what Prometheus scrapes; see observe/families.py for what there is.

A route reads its request and writes its answer; what is between is in metrics.py. No state.
"""

from typing import Any

from litestar import Request, Response, get

from ..contract import GivesMetrics, gateway_of, problems


@get(
    "/metrics",
    operation_class=GivesMetrics,
    operation_id="getMetrics",
    summary="Metrics for Prometheus",
    responses=problems(),
)
async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the metrics of all workers, queues and this process, as Prometheus text or OpenMetrics."""
    content, media_type = await gateway_of(request).exposition.text(request.headers.get("accept", ""))
    if media_type.startswith("text/"):  # to which the framework adds the charset
        media_type = media_type.partition("; charset=")[0]
    return Response(content, media_type=media_type, headers={"cache-control": "no-store"})
