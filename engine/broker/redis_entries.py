"""Stream entries into leases: what XREADGROUP and the sweep answer, read once for each job and never decoded.

The common entry has one field, the packed envelope. Entries of jobs that had another id first say so in a second
field; any other fields are a job that somebody added by hand. Pure functions; an entry that cannot be read is a lease
too, with the reason in it, and so is one of plain fields that are too many bytes to be parsed.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headrace.config import limits
from headrace.jobs import codec

from ..redisio.keys import INTERRUPTION
from .port import Lease, Source

#: An entry as the server answers it: its id, and its fields as one list of names and values in turn.
RawEntry = Sequence[Any]
#: A job's id is its queue's name of up to 100 characters, and two numbers.
_ID_MAX_BYTES: Final = 200


def leases_of(source: Source, entries: Sequence[RawEntry], max_bytes: int) -> list[Lease]:
    """Return the leases of freshly delivered entries, in order; `max_bytes` as for `lease_of`."""
    return [
        Lease(source, entry, fields[1])
        if len(fields) == 2 and fields[0] == b"m"
        else lease_of(source, entry, fields, max_bytes=max_bytes)
        for entry, fields in entries
    ]


def lease_of(
    source: Source,
    entry: bytes,
    fields: Sequence[bytes],
    count: int = 0,
    *,
    max_bytes: int = limits.MESSAGE_MAX_BYTES,
) -> Lease:
    """Return the lease of an entry with any fields.

    Args:
        source: Queue and registration.
        entry: The entry's id.
        fields: Names and values in turn.
        count: The server's count of earlier deliveries: starts, and interruptions by INTERRUPTION each.
        max_bytes: The most that a job may take when it is packed.
    """
    body, moved_id, problem = read_fields(fields, max_bytes)
    interruptions, starts = divmod(count, INTERRUPTION)
    return Lease(source, entry, body, moved_id, starts, problem, b"m" in fields[::2], interruptions)


def read_fields(
    fields: Sequence[bytes], max_bytes: int = limits.MESSAGE_MAX_BYTES
) -> tuple[bytes, str | None, str | None]:
    """Return the envelope, the job's first id where it moved, and why it cannot be read.

    Where it cannot be read, the first is the raw fields as a packed map. JSON that cannot be as small as `max_bytes`
    when it is packed is not parsed: it may take twenty times its size in memory.
    """
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    if b"m" in named and named.keys() <= {b"m", b"i"}:
        moved_id = named.get(b"i") or b""
        if len(moved_id) > _ID_MAX_BYTES:
            return (
                msgspec.msgpack.encode(named),
                None,
                f"the field i has {len(moved_id):,} bytes, which no job's id has",
            )
        return named[b"m"], moved_id.decode(errors="replace") if moved_id else None, None
    size_bytes = sum(map(len, fields))
    if size_bytes > max_bytes * codec.JSON_FACTOR:
        return msgspec.msgpack.encode(named), None, f"its fields take {size_bytes:,} bytes"
    try:
        return codec.envelope_from_fields(named), None, None
    except codec.Malformed as error:
        return msgspec.msgpack.encode(named), None, str(error)
