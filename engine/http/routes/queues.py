"""/v1/queues: how full the queues are; pausing, resuming and purging one.

A route reads its request and writes its answer; what is between is the gateway's. No state.
"""

from typing import Any

from litestar import Request, Response, get, post
from litestar.params import FromPath

from ...admin import Purged, SwitchedQueue
from ...broker.views import QueueView
from ..contract import gateway_of, problems, written


@get("/v1/queues", operation_id="getQueues", summary="List the queues", responses=problems())
async def queues(request: Request[Any, Any, Any]) -> Response[list[QueueView]]:
    """Return the depths of every queue that ever had a job, and whether it is paused."""
    return written(await gateway_of(request).queues())


@post(
    "/v1/queues/{queue:str}/pause",
    status_code=200,
    operation_id="pauseQueue",
    summary="Pause a queue",
    responses=problems(422),
)
async def pause(request: Request[Any, Any, Any], queue: FromPath[str]) -> Response[SwitchedQueue]:
    """Have workers leave a queue alone; what runs goes on, and jobs may be submitted.

    A queue may be paused before its first job; `known` says whether anybody used it so far, for it may be misspelt.
    """
    return written(await gateway_of(request).pause(queue))


@post(
    "/v1/queues/{queue:str}/resume",
    status_code=200,
    operation_id="resumeQueue",
    summary="Resume a queue",
    responses=problems(422),
)
async def resume(request: Request[Any, Any, Any], queue: FromPath[str]) -> Response[SwitchedQueue]:
    """Have workers take jobs of a queue again; `known` as for a pause."""
    return written(await gateway_of(request).resume(queue))


@post(
    "/v1/queues/{queue:str}/purge",
    status_code=200,
    operation_id="purgeQueue",
    summary="Purge a queue",
    responses=problems(422),
)
async def purge(request: Request[Any, Any, Any], queue: FromPath[str]) -> Response[Purged]:
    """End the jobs of a queue that wait, as cancelled; what runs goes on."""
    return written(await gateway_of(request).purge(queue))
