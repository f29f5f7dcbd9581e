"""From a call's packed arguments and the options of its submission to what a broker takes.

The one place where a producer's clock is read: `expires` counts from here. No state, no I/O.
"""

import time
from typing import Final

from headrace.config.settings import Settings
from headrace.jobs import codec
from headrace.jobs.errors import DuplicateJob
from headrace.jobs.submission import SubmitOptions, check_size, own_envelope
from headrace.jobs.unique import Unique

from .broker.port import Bound, HolderId, Submission

#: How the error of a duplicate ends; the HTTP API has other remedies.
DUPLICATE_REMEDY: Final = 'wait for it, submit with another, or with on_duplicate="return" for its handle'


def bound_of(settings: Settings) -> Bound:
    """Return how full the settings let a queue become."""
    return Bound(settings.max_queue_length, settings.max_queue_bytes, settings.memory_high)


def submission_of(
    name: str, call: bytes, options: SubmitOptions, max_payload_bytes: int, unique: Unique | None = None
) -> Submission:
    """Return the submission of one job.

    Args:
        name: The handler's name.
        call: Its envelope up to the options: `codec.pack_call`, or a plan's head and packed arguments.
        options: What the submission says.
        max_payload_bytes: The most that it may take.
        unique: The handler's own key; None for none.

    Raises:
        PayloadTooLarge: it takes more.
    """
    unique = options.unique or unique
    if unique is None and not options.is_own:
        body = check_size(name, call + codec.pack_options(options.envelope), max_payload_bytes)
        return Submission(body, options.delay_ms, options.due_at_ms)
    key = "" if unique is None else unique.text(name, call)
    now_ms = 0 if options.expires_ms is None else time.time_ns() // 1_000_000
    envelope = own_envelope(options, key, now_ms)
    body = check_size(name, call + codec.pack_options(envelope), max_payload_bytes)
    on_duplicate = options.on_duplicate or (unique.on_duplicate if unique is not None else "reject")
    returns = on_duplicate == "return"
    return Submission(
        body, options.delay_ms, options.due_at_ms, key, options.caller_id, returns or options.replays, returns
    )


def duplicate(job: Submission, job_id: str) -> DuplicateJob | None:
    """Return the error for a job that was not added since another has its key; None for any other.

    Args:
        job: What was submitted.
        job_id: What the broker answered for it.
    """
    if type(job_id) is str:
        return None
    by_key = type(job_id) is HolderId
    if job.returns_holder if by_key else job.returns_first:
        return None
    what = f"the unique key {job.unique!r}" if by_key else f"the id {job.caller_id!r}"
    return DuplicateJob(
        f"job {job_id} has {what} already; {DUPLICATE_REMEDY}",
        job_id=str(job_id),
    )
