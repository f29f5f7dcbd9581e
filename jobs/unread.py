"""What becomes of an entry that no handler can be run for, or not once more: a dead letter, and a record that says so.

Policy as disposition.py is, for what never gets as far as an outcome of its own: no clock, no server.
"""

from typing import Any

from headrace.config import limits

from . import codec
from .codec import EnvelopeOptions
from .disposition import DeadLetter, Disposition, Kind, Rules, pack_letter
from .failures import cut
from .letters import record_of
from .outcome import Failure


def bury_unread(
    lease: Any,
    job_id: str,
    queue: str,
    rules: Rules,
    *,
    reason: str,
    error: str,
    now_ms: int,
    name: str = "",
    options: EnvelopeOptions = codec.NO_OPTIONS,
    result_ttl_s: float | None = None,
) -> Disposition:
    """Return the disposition of an entry that no handler can be run for.

    Args:
        lease: Its lease.
        job_id: The job's id.
        queue: Its queue.
        rules: The settings' part.
        reason: "malformed", "too_large", "unknown_handler", or "crashed" for a job that is not started once more.
        error: What is wrong, in words; cut to the limit of a message.
        now_ms: Wall-clock milliseconds since the epoch.
        name: The handler's name as far as it could be read.
        options: What its submission said, where it could be read.
        result_ttl_s: The handler's own, where it is known.
    """
    error = cut(error, limits.ERROR_MESSAGE_MAX_CHARS)
    died_running = reason == "crashed"  # in the try that its options announce; otherwise in none
    letter = DeadLetter(
        id=job_id,
        queue=queue,
        name=name,
        reason=reason,
        error=error,
        traceback="",
        attempts=options.attempt - (not died_running) if reason != "malformed" else 0,
        deliveries=options.starts_before + lease.starts + lease.interruptions + (not died_running),
        died_at_ms=now_ms,
        body=bytes(lease.body),
    )
    said_s = options.result_ttl_s if options.result_ttl_s is not None else result_ttl_s
    ttl_ms = round((rules.result_ttl_s if said_s is None else said_s) * 1000)
    unique, caller_id = codec.keys_in(letter.body)
    record = record_of(letter, Failure(reason, error))
    return Disposition(
        lease,
        Kind.DEAD,
        codec.pack_record(record) if ttl_ms else b"",
        ttl_ms,
        letter=pack_letter(letter),
        unique=unique,
        caller_id=caller_id,
        reason=reason,
    )
