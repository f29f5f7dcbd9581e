"""/v1/jobs: submitting jobs, one or many, and asking what became of them.

A route reads its request and writes its answer; what is between is the gateway's. No state.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath, QueryParameter

from ..batch import Batch, shown, take_array, take_lines
from ..bodies import media_type, pieces, whole
from ..contract import TakesJob, TakesJobs, answer, gateway_of, problems, written
from ..hot import answer_submission
from ..problems import Refused
from ..records import FORM, JSON, NDJSON, PROBLEM, BatchReport, Cancelled, JobRecord, JobResult, JobStatus, Retried

#: A waiting request holds a connection, and proxies between give up after a minute.
WAIT_MAX_S: Final = 60.0


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

    With an Idempotency-Key header, the same key again answers with the first job's id, and there is no second job.
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
    responses=problems(413, 415, 422, 429),
)
async def submit_batch(request: Request[Any, Any, Any]) -> Response[BatchReport]:
    """Submit many jobs, while they arrive; those that cannot be submitted are reported by their index."""
    _refuse_key(request)
    kind = media_type(request, (NDJSON, JSON))
    gateway = gateway_of(request)
    batch = Batch(gateway)
    content = b""
    if kind == FORM:  # as curl calls whatever it is given: an array begins with its bracket
        content = await whole(request)
        kind = JSON if content.lstrip().startswith(b"[") else NDJSON
    if kind == JSON:
        try:
            await take_array(batch, content or await whole(request))
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is no JSON array of jobs: {shown(error)}") from None
    else:
        try:
            chunks = _once(content) if content else pieces(request)
            await take_lines(batch, chunks, gateway.settings.max_payload_bytes)
        except HTTPException as error:
            report = await batch.finish()
            if not report.accepted and not report.rejected:
                raise
            raise Refused(error.status_code, _cut_short(error), report) from None
    return written(await batch.finish(), 202)


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
) -> Response[JobResult]:
    """Return what the handler returned, or why it did not; 202 while the job has not ended."""
    ended, has_ended = await gateway_of(request).result(job_id, wait_s)
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


def _refuse_key(request: Request[Any, Any, Any]) -> None:
    """Refuse a batch that counts on being taken only once.

    Raises:
        Refused: 422: it has an idempotency key; to ignore it would run the jobs of a repeated request twice.
    """
    if "idempotency-key" in request.headers:
        raise Refused(
            422,
            "the header Idempotency-Key is not supported for a batch, so nothing was submitted; send the batch without "
            "it, and only once, or send each job by itself with a key of its own",
        )


def _cut_short(error: HTTPException) -> str:
    return f"the batch was cut short ({error.detail}); `batch` says what became of the jobs before"


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
