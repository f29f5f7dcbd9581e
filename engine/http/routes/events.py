"""/v1/events: what happens to jobs, workers and queues, as it happens, and from where a client was cut off.

A route reads its request and writes its answer; what is between is in feed.py and event_stream.py. No state.
"""

from typing import Annotated, Any, Final

from litestar import Request, get
from litestar.params import HeaderParameter, QueryParameter

from headrace.jobs.cursor import BEGINNING

from ..contract import GivesEvents, gateway_of, problems
from ..event_stream import EventStream
from ..feed import TooManyStreams
from ..problems import Refused

#: Streams end when people close their pages: nobody knows when.
RETRY_AFTER_S: Final = 10


@get(
    "/v1/events",
    operation_class=GivesEvents,
    operation_id="getEvents",
    summary="Watch what happens",
    responses=problems(422),
)
async def events(
    request: Request[Any, Any, Any],
    queue: Annotated[str | None, QueryParameter(description="Only events of this queue.", required=False)] = None,
    after: Annotated[
        str | None,
        QueryParameter(
            description=f"The id of the event behind which to begin; {BEGINNING!r} for all that is kept. Without it, "
            "with what happens from now on.",
            required=False,
        ),
    ] = None,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(
            name="Last-Event-ID", description="The same, as a client sends it by itself; it counts.", required=False
        ),
    ] = None,
) -> EventStream:
    """Return server-sent events: replayed from the place that the request names, then as they happen."""
    feed = gateway_of(request).feed
    try:
        return EventStream(feed, await feed.follow(last_event_id or after or None, queue))
    except TooManyStreams:
        raise Refused(
            503,
            f"this server has {feed.bounds.streams_max_count} event streams, or is stopping; close some, or come again",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        ) from None
