"""The record of a job that was cancelled, or purged, before a worker could start it.

Pure: a record is made of the envelope that still lies in the queue. One that runs is ended by its worker, which makes
its record as for any other end.
"""

from . import codec
from .codec import NIL, Malformed, ResultRecord
from .outcome import Failure
from .states import State


def unstarted_record(body: bytes, *, now_ms: int, default_ttl_ms: int, why: str) -> tuple[bytes, int]:
    """Return the packed record, empty where none is kept, and how many milliseconds it is kept.

    Args:
        body: The packed envelope; what cannot be read has a record without a name.
        now_ms: Wall-clock milliseconds since the epoch.
        default_ttl_ms: How long records are kept unless the job says otherwise.
        why: What happened, in words.
    """
    try:
        envelope = codec.unpack_envelope(body)
        name, options = envelope.name, envelope.options or codec.NO_OPTIONS
    except Malformed:
        name, options = "", codec.NO_OPTIONS
    ttl_ms = default_ttl_ms if options.result_ttl_s is None else round(options.result_ttl_s * 1000)
    if ttl_ms <= 0:
        return b"", 0
    record = ResultRecord(
        codec.VERSION,
        State.CANCELLED,
        NIL,
        Failure("JobCancelled", why),
        name,
        options.attempt - 1,
        options.deliveries,
        0,
        now_ms,
    )
    return codec.pack_record(record), ttl_ms
