"""POST /v1/results: how many jobs ended, those that have; a request that waits for the first of them.

A route reads its request and writes its answer; what is between is in ends.py. No state.
"""

from typing import Annotated, Any

from litestar import Request, Response, post
from litestar.params import QueryParameter

from headrace.workers.groups import plain_group

from ..bodies import record_in
from ..contract import TakesIds, gateway_of, problems
from ..ends import JobAnswers, JobsAsked
from ..event_stream import until_gone
from ..problems import Refused
from ..records import JSON
from .jobs import WAIT_MAX_S


@post(
    "/v1/results",
    status_code=200,
    operation_class=TakesIds,
    operation_id="getResults",
    summary="Get the results of many jobs",
    responses=problems(413, 415, 422),
)
async def results(
    request: Request[Any, Any, Any],
    wait_s: Annotated[
        float,
        QueryParameter(ge=0, le=WAIT_MAX_S, description="Seconds to wait until one has ended.", required=False),
    ] = 0.0,
) -> Response[JobAnswers]:
    """Return how those jobs ended that have, and which have not; waits for the first where none has.

    One that failed, or of which nothing is known, is an answer like any other. Ask again for those that are left.
    """
    asked = await record_in(request, JobsAsked)
    content: bytes | None = None
    async with plain_group() as group:
        if wait_s:
            group.start_soon(until_gone, request.receive, group.cancel_scope)
        content = await gateway_of(request).results(asked.ids, wait_s)
        group.cancel_scope.cancel()
    if content is None:
        raise Refused(400, "the client went away before the answer")
    answered: Response[Any] = Response(content, media_type=JSON)
    return answered
