"""/v1/dead: the jobs that were given up on: looked at, edited, forgotten, and queued again.

A route reads its request and writes its answer; what is between is in letters.py. No state.
"""

from typing import Annotated, Any

from litestar import Request, Response, delete, get, patch, post
from litestar.params import FromPath, QueryParameter

from ..bodies import record_in
from ..contract import TakesDeadEdit, TakesDeadRetry, gateway_of, problems, written
from ..letters import PAGE_MAX_COUNT, DeadEdit, DeadItem, DeadPage, DeadRetried, DeadRetry


@get("/v1/dead", operation_id="getDead", summary="List dead jobs", responses=problems(422))
async def listing(
    request: Request[Any, Any, Any],
    queue: Annotated[str | None, QueryParameter(description="Only those of this queue.", required=False)] = None,
    cursor: Annotated[str, QueryParameter(description="Of the page before.", required=False)] = "",
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX_COUNT, description="At most.", required=False)] = 100,
) -> Response[DeadPage]:
    """Return a page of the jobs that were given up on, the newest first in each queue."""
    return written(await gateway_of(request).letters.page(queue, cursor, limit))


@get("/v1/dead/{job_id:str}", operation_id="getDeadJob", summary="Look at a dead job", responses=problems(404))
async def show(request: Request[Any, Any, Any], job_id: FromPath[str]) -> Response[DeadItem]:
    """Return why a job was given up on, its traceback and its arguments."""
    return written(await gateway_of(request).letters.show(job_id))


@patch(
    "/v1/dead/{job_id:str}",
    operation_class=TakesDeadEdit,
    operation_id="editDeadJob",
    summary="Edit a dead job",
    responses=problems(404, 413, 415, 422),
)
async def edit(request: Request[Any, Any, Any], job_id: FromPath[str]) -> Response[DeadItem]:
    """Give a dead job other arguments, which are checked where its handler is known; it stays dead until retried."""
    return written(await gateway_of(request).letters.edit(job_id, await record_in(request, DeadEdit)))


@delete(
    "/v1/dead/{job_id:str}",
    status_code=204,
    operation_id="dropDeadJob",
    summary="Forget a dead job",
    responses=problems(404),
)
async def drop(request: Request[Any, Any, Any], job_id: FromPath[str]) -> None:
    """Forget a dead job for good."""
    await gateway_of(request).letters.drop(job_id)


@post(
    "/v1/dead/retry",
    status_code=200,
    operation_class=TakesDeadRetry,
    operation_id="retryDead",
    summary="Queue dead jobs again",
    responses=problems(413, 415, 422),
)
async def retry(request: Request[Any, Any, Any]) -> Response[DeadRetried]:
    """Queue dead jobs again under their ids, with all their attempts; for more than `limit`, ask again."""
    return written(await gateway_of(request).letters.retry(await record_in(request, DeadRetry)))
