"""/v1/workers: who works, on which queues, with which handlers, and how.

A route reads its request and writes its answer; what is between is the gateway's. No state.
"""

from typing import Any

from litestar import Request, Response, get

from ...observe.fleet import WorkerView
from ..contract import gateway_of, problems, written


@get("/v1/workers", operation_id="getWorkers", summary="List the workers", responses=problems())
async def workers(request: Request[Any, Any, Any]) -> Response[list[WorkerView]]:
    """Return the workers that are there, with their pools and their handlers' schemas."""
    return written(await gateway_of(request).workers())
