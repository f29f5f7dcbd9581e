"""Stream entries into leases: what XREADGROUP and the sweep answer, read once for each job and never decoded.

The common entry has one field, the packed envelope. Entries of jobs that had another id first say so in a second
field; any other fields are a job that somebody added by hand. Pure functions; an entry that cannot be read is a lease
too, with the reason in it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.jobs import codec

from ..redisio.keys import INTERRUPTION
from .port import Lease, Source

#: An entry as the server answers it: its id, and its fields as one list of names and values in turn.
RawEntry = Sequence[Any]


def leases_of(source: Source, entries: Sequence[RawEntry]) -> list[Lease]:
    """Return the leases of freshly delivered entries, in order."""
    return [
        Lease(source, entry, fields[1]) if len(fields) == 2 and fields[0] == b"m" else lease_of(source, entry, fields)
        for entry, fields in entries
    ]


def lease_of(source: Source, entry: bytes, fields: Sequence[bytes], count: int = 0) -> Lease:
    """Return the lease of an entry with any fields.

    Args:
        source: Queue and registration.
        entry: The entry's id.
        fields: Names and values in turn.
        count: The server's count of earlier deliveries: starts, and interruptions by INTERRUPTION each.
    """
    body, moved_id, problem = read_fields(fields)
    interruptions, starts = divmod(count, INTERRUPTION)
    return Lease(source, entry, body, moved_id, starts, problem, b"m" in fields[::2], interruptions)


def read_fields(fields: Sequence[bytes]) -> tuple[bytes, str | None, str | None]:
    """Return the envelope, the job's first id where it moved, and why it cannot be read.

    Where it cannot be read, the first is the raw fields as a packed map.
    """
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    if b"m" in named and named.keys() <= {b"m", b"i"}:
        moved_id = named.get(b"i")
        return named[b"m"], moved_id.decode(errors="replace") if moved_id else None, None
    try:
        return codec.envelope_from_fields(named), None, None
    except codec.Malformed as error:
        return msgspec.msgpack.encode(named), None, str(error)
