"""/v1/jobs: submitting jobs, one or many, and asking what became of them.

A route reads its request and writes its answer; what is between is the gateway's. No state.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream
from litestar.types import Receive, Scope, Send

from headrace.workers.groups import plain_group

from ..batch import Batch
from ..bodies import Arriving, media_type
from ..contract import TakesJob, TakesJobs, answer, gateway_of, problems, written
from ..event_stream import until_gone
from ..hot import answer_submission, idempotency_key
from ..problems import Refused, body
from ..records import (
    FORM,
    JSON,
    MSGPACK,
    NDJSON,
    PROBLEM,
    BatchReport,
    Cancelled,
    JobAnswer,
    JobRecord,
    JobStatus,
    Retried,
)
from ..streams import Array, Lines, Packed, Reader, Unnamed

#: A waiting request holds a connection, and proxies between give up after a minute.
WAIT_MAX_S: Final = 60.0
#: A longer report is sent piece by piece.
STREAM_FROM_BYTES: Final = 256 * 1024
#: What a client has its time for (sending.py); a report lists its rejections in one piece of megabytes.
PIECE_BYTES: Final = 64 * 1024
READERS: Final[Mapping[str, Callable[[int], Reader]]] = {NDJSON: Lines, JSON: Array, MSGPACK: Packed, FORM: Unnamed}


@post(
    "/v1/jobs",
    status_code=202,
    operation_class=TakesJob,
    operation_id="submitJob",
    summary="Submit a job",
    responses=problems(404, 409, 413, 415, 422, 429),
)
async def submit(request: Request[Any, Any, Any]) -> Response[JobStatus]:
    """Submit one job; its arguments are checked first where its handler is known.

    With an Idempotency-Key header, the same key again answers with the first job's id, and there is no second job; a
    unique key that another job than that has is a 409 with it as without.
    """
    status, headers, content = await answer_submission(gateway_of(request), request.scope["headers"], request.receive)
    kind = JSON if status == 202 else PROBLEM
    answered: Response[Any] = Response(content, status_code=status, headers=headers, media_type=kind)
    return answered


@post(
    "/v1/jobs/batch",
    status_code=202,
    operation_class=TakesJobs,
    operation_id="submitJobs",
    summary="Submit many jobs",
    responses=problems(413, 415, 429),
    request_max_body_size=None,  # http.batch_max is its bound
)
async def submit_batch(
    request: Request[Any, Any, Any],
    wait_s: Annotated[
        float,
        QueryParameter(ge=0, le=WAIT_MAX_S, description="Seconds to wait while a queue is full.", required=False),
    ] = WAIT_MAX_S,
) -> Response[BatchReport]:
    """Submit many jobs, while they arrive; those that cannot be submitted are reported by their index.

    With an Idempotency-Key header, the same key again adds only those jobs that are not there yet, and answers with the
    ids of all.
    """
    kind = media_type(request, (NDJSON, JSON, MSGPACK))
    key = idempotency_key(request.headers.get("idempotency-key", "").encode("latin-1"))
    gateway = gateway_of(request)
    async with plain_group() as group:
        arriving = Arriving(request, "http.batch_max", gateway.settings.http.batch_max_bytes, group)
        with Batch(gateway, key, wait_s, arriving.watch) as batch:
            response = await _taken(batch, READERS[kind](gateway.settings.max_payload_bytes), arriving, kind)
        group.cancel_scope.cancel()  # nobody waits for room any more
    return response


@get(
    "/v1/jobs/{job_id:str}",
    operation_id="getJob",
    summary="Look at a job",
    responses=problems(404, 410),
)
async def show(request: Request[Any, Any, Any], job_id: FromPath[str]) -> Response[JobRecord]:
    """Return where a job is, its attempts and its times."""
    return written(await gateway_of(request).job(job_id), 200)


@get(
    "/v1/jobs/{job_id:str}/result",
    operation_id="getJobResult",
    summary="Get a job's result",
    responses={202: answer(JobStatus, "The job has not ended yet."), **problems(404, 410)},
)
async def result(
    request: Request[Any, Any, Any],
    job_id: FromPath[str],
    wait_s: Annotated[
        float, QueryParameter(ge=0, le=WAIT_MAX_S, description="Seconds to wait for its end.", required=False)
    ] = 0.0,
) -> Response[JobAnswer]:
    """Return what the handler returned, or why it did not; 202 while the job has not ended."""
    found = None
    async with plain_group() as group:
        if wait_s:  # nobody waits for who has gone, else those who ask and go would add up
            group.start_soon(until_gone, request.receive, group.cancel_scope)
        found = await gateway_of(request).result(job_id, wait_s)
        group.cancel_scope.cancel()
    if found is None:
        raise Refused(400, "the client went away before the answer")
    ended, has_ended = found
    return written(ended, 200 if has_ended else 202)


@post(
    "/v1/jobs/{job_id:str}/cancel",
    status_code=200,
    operation_id="cancelJob",
    summary="Cancel a job",
    responses=problems(404),
)
async def cancel(request: Request[Any, Any, Any], job_id: FromPath[str]) -> Response[Cancelled]:
    """Cancel a job: one that waits ends at once, one that runs is told to stop; false when it has ended already."""
    return written(Cancelled(job_id, await gateway_of(request).cancel(job_id)))


@post(
    "/v1/jobs/{job_id:str}/retry",
    status_code=200,
    operation_id="retryJob",
    summary="Queue a dead job again",
    responses=problems(404, 410),
)
async def retry(request: Request[Any, Any, Any], job_id: FromPath[str]) -> Response[Retried]:
    """Queue a dead job again under its id, with all its attempts; one that is not dead is left alone."""
    return written(await gateway_of(request).retry(job_id))


async def _taken(batch: Batch, reader: Reader, arriving: Arriving, kind: str) -> Response[Any]:
    """Submit the jobs of a body, and return what became of them; raises what `finish` and `_cut_short` do."""
    try:
        await batch.take(reader, arriving)
    except ValueError as error:
        why = f"the body is not what its Content-Type {kind} says: {error}"
        return await _cut_short(batch, Refused(400, why), kind)
    except Refused as error:
        return await _cut_short(batch, error, kind)
    report = await batch.finish()
    return _reported(202, report.pieces(), JSON, report.close)


async def _cut_short(batch: Batch, refused: Refused, kind: str) -> Response[Any]:
    """Return a problem that says what became of the jobs before; of an array that never was one there are none.

    Raises:
        Refused: there are none.
    """
    if kind == JSON and not batch.has_sent:
        raise refused
    report = await batch.finish()
    if not report.accepted and not report.rejected_count:
        report.close()
        raise refused
    head = body(
        refused.status_code, f"the batch was cut short ({refused.detail}); `batch` says what became of the jobs before"
    )
    pieces = chain((head[:-1] + b',"batch":',), report.pieces(), (b"}",))
    return _reported(refused.status_code, pieces, PROBLEM, report.close, refused.headers)


class Following(Stream):
    """A response in pieces that closes what they come from, also when its client did not take them all.

    Args:
        content: The pieces.
        close: What closes it.
        fields: As a Stream takes them.
    """

    def __init__(self, content: AsyncIterator[bytes], close: Callable[[], object], **fields: Any) -> None:
        super().__init__(content, **fields)
        self._close = close

    def to_asgi_response(self, *args: Any, **options: Any) -> Any:
        """Return what sends it."""
        inner = super().to_asgi_response(*args, **options)

        async def run(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await inner(scope, receive, send)
            finally:
                self._close()

        return run


def _reported(
    status: int,
    pieces: Iterable[bytes],
    kind: str,
    close: Callable[[], object],
    headers: Mapping[str, str] | None = None,
) -> Response[Any]:
    """Return a report as a response, as one piece where it is small."""
    iterator = iter(pieces)
    begin = bytearray()
    for piece in iterator:
        begin += piece
        if len(begin) > STREAM_FROM_BYTES:
            following = _following(bytes(begin), iterator)
            return Following(following, close, status_code=status, media_type=kind, headers=headers)
    return Response(bytes(begin), status_code=status, media_type=kind, headers=headers)


async def _following(begin: bytes, rest: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in chain((begin,), rest):
        for first in range(0, len(piece), PIECE_BYTES):
            yield piece[first : first + PIECE_BYTES]
