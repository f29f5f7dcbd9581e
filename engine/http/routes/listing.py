"""GET /v1/jobs: the jobs that have not ended.

A route reads its request and writes its answer; what is between is in listing.py. No state.
"""

from typing import Annotated, Any, Literal

from litestar import Request, Response, get
from litestar.params import QueryParameter

from headrace.jobs.states import State

from ..contract import gateway_of, problems, written
from ..listing import PAGE_MAX_COUNT, JobPage, Sought

#: The states of a job that has not ended.
Waiting = Literal["delayed", "queued", "retrying", "running"]


@get("/v1/jobs", operation_id="getJobs", summary="List jobs that have not ended", responses=problems(422))
async def listing(
    request: Request[Any, Any, Any],
    queue: Annotated[str | None, QueryParameter(description="Only those of this queue.", required=False)] = None,
    status: Annotated[Waiting | None, QueryParameter(description="Only those in this state.", required=False)] = None,
    name: Annotated[str | None, QueryParameter(description="Only those of this handler.", required=False)] = None,
    cursor: Annotated[str, QueryParameter(description="Of the page before.", required=False)] = "",
    limit: Annotated[int, QueryParameter(ge=1, le=PAGE_MAX_COUNT, description="At most.", required=False)] = 100,
) -> Response[JobPage]:
    """Return a page of the jobs that have not ended, the oldest first in each queue.

    A page may hold fewer than `limit`; only an empty cursor says that it is the last.
    """
    sought = Sought(queue=queue, status=None if status is None else State(status), name=name, limit=limit)
    return written(await gateway_of(request).jobs(sought, cursor))
