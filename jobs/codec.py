"""The bytes on the wire: job envelopes and result records, both versioned msgpack; docs/protocol.md has every byte.

Pure functions on bytes. An envelope is decoded with its arguments left packed; the handler's own decoder takes those.
What cannot be read raises Malformed with the reason, and the caller keeps the raw bytes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from headrace.config import limits

from .arguments import EMPTY_ARRAY, EMPTY_MAP
from .errors import InvalidArguments
from .outcome import Failure

VERSION: Final = 1
_Aware = Annotated[datetime, msgspec.Meta(tz=True)]
_NIL: Final = b"\xc0"
#: Four billion tries or starts are a defect of whoever wrote it; below it, counting on never leaves 64 bits.
COUNT_MAX: Final = 2**32 - 1
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=limits.PERIOD_MAX_S)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
_FromOne = Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)]
#: A waiting time is capped by max_delay_s; the factor only has to be a number.
_Factor = Annotated[float, msgspec.Meta(ge=1, le=1e9)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Name = Annotated[str, msgspec.Meta(max_length=limits.NAME_MAX_CHARS)]
#: JSON may take this many bytes for one on the wire: a control character is six.
JSON_FACTOR: Final = 6
_HEAD: Final = b"\x95\x01"  # an array of five, and the version as its first item


class Malformed(ValueError):
    """The bytes are no envelope of ours; the message says where it went wrong."""


class EnvelopeOptions(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a submission said beyond name and arguments; a map, left out when nothing was said.

    The bounds are checked when one is read: whoever can write to the server must not stop a worker with a NaN.

    Attributes:
        timeout_s: Seconds a try may run; 0 for no limit; None for the handler's own.
        expires_at_ms: Milliseconds since the epoch after which it is not started any more.
        attempts: Tries in all; None for the handler's own.
        delay_s, factor, max_delay_s, jitter: The rest of a Retry given at submission; None for the handler's own.
        result_ttl_s: Seconds its result is kept; None for the handler's own.
        attempt: Which try comes next, from 1.
        deliveries: Starts so far that a crash cut short.
        interruptions: How often a shutdown cut it short.
        starts: Starts so far in all, up to when this envelope was written.
        unknown_since_ms: Milliseconds since the epoch when a worker first found its handler unknown; None for never.
        unique: Its unique key, which is freed when it ends.
        id: Its caller's own id for it.
    """

    timeout_s: _Seconds | None = None
    expires_at_ms: _Moment | None = None
    attempts: _FromOne | None = None
    delay_s: _Seconds | None = None
    factor: _Factor | None = None
    max_delay_s: _Seconds | None = None
    jitter: _Share | None = None
    result_ttl_s: _Seconds | None = None
    attempt: _FromOne = 1
    deliveries: _Count = 0
    interruptions: _Count = 0
    starts: _Count = 0
    unknown_since_ms: _Moment | None = None
    unique: _Key | None = None
    id: _Key | None = None

    @property
    def starts_before(self) -> int:
        """Starts in all before those of the present entry."""
        return max(self.starts, self.deliveries)

    @property
    def are_of_the_run(self) -> bool:
        """Whether they say no more than how this first try is run, and its key: a success needs no closer look."""
        return (
            self.attempt == 1
            and self.result_ttl_s is None
            and self.id is None
            and not (self.deliveries or self.interruptions or self.starts)
        )


NO_OPTIONS: Final = EnvelopeOptions()


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One job as it lies in a queue.

    Attributes:
        version: VERSION.
        name: The handler's name, at most NAME_MAX_CHARS.
        args: The positional arguments, a packed array.
        kwargs: The keyword arguments, a packed map.
        options: What the submission said beyond that; None for nothing.
    """

    version: int
    name: _Name
    args: msgspec.Raw
    kwargs: msgspec.Raw
    options: EnvelopeOptions | None = None


class ResultRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of a job, kept for `result_ttl`.

    Attributes:
        version: VERSION.
        status: A state of headrace.jobs.states that is final.
        value: The packed return value; nil unless it succeeded.
        failure: Why it did not; None when it succeeded.
        name: The handler's name.
        attempt: Tries that were made.
        deliveries: Starts in all.
        started_at_ms: Milliseconds since the epoch when the last try started; 0 if it never did.
        ended_at_ms: Milliseconds since the epoch.
        note: Why the value is missing although the job succeeded; None otherwise.
        interruptions: Starts that the end of a drain stopped.
    """

    version: int
    status: str
    value: msgspec.Raw
    failure: Failure | None
    name: str
    attempt: int
    deliveries: int
    started_at_ms: int
    ended_at_ms: int
    note: str | None = None
    interruptions: int = 0


_encode = msgspec.msgpack.Encoder().encode
_envelope = msgspec.msgpack.Decoder(Envelope).decode
_plain = msgspec.msgpack.Decoder().decode
_record = msgspec.msgpack.Decoder(ResultRecord).decode
_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_json_seconds = msgspec.json.Decoder(_Seconds).decode
_json_from_one = msgspec.json.Decoder(_FromOne).decode
_fields = msgspec.msgpack.Decoder(dict[bytes, bytes]).decode
NIL: Final = msgspec.Raw(_NIL)
#: What is wrong with a name that nobody would give.
TOO_LONG: Final = f"it has more than {limits.NAME_MAX_CHARS:,} characters"
#: The plain fields that an entry may have.
FIELDS: Final = frozenset({b"name", b"args", b"kwargs", b"timeout_s", b"expires_at", b"attempts"})


def head_of(name: str) -> bytes:
    """Return the first bytes of every envelope for a handler's name; made once, used for each job."""
    return _HEAD + _encode(name)


def pack_envelope(
    name: str, args: bytes = EMPTY_ARRAY, kwargs: bytes = EMPTY_MAP, options: EnvelopeOptions | None = None
) -> bytes:
    """Return an envelope's bytes; `args` and `kwargs` are packed already."""
    return head_of(name) + args + kwargs + (_NIL if options is None else _encode(options))


def pack_options(options: EnvelopeOptions | None) -> bytes:
    """Return the last part of an envelope."""
    return _NIL if options is None else _encode(options)


def pack_foreign(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: EnvelopeOptions | None = None
) -> bytes:
    """Return an envelope for a handler whose code is not here; its arguments are checked where it runs.

    Raises what `pack_call` does.
    """
    return pack_call(name, args, kwargs) + pack_options(options)


def pack_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Return an envelope up to its options.

    Raises:
        InvalidArguments: they are no plain data, or the name is empty or too long.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArguments(f"{name!r} cannot be a handler's name: give a text that is not empty")
    if len(name) > limits.NAME_MAX_CHARS:
        raise InvalidArguments(f"{name[:40]!r}... cannot be a handler's name: {TOO_LONG}")
    by_name = dict(kwargs)
    if by_name and not all(isinstance(key, str) for key in by_name):
        raise InvalidArguments(f"{name}(): kwargs are arguments by name, so its keys must be text")
    try:
        return head_of(name) + _encode(list(args)) + _encode(by_name)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArguments(f"{name}(): the arguments cannot be packed: {error}; send plain data") from None


def repack(envelope: Envelope, options: EnvelopeOptions) -> bytes:
    """Return the same job with other options, as for its next try."""
    return pack_envelope(envelope.name, bytes(envelope.args), bytes(envelope.kwargs), options)


def as_new(body: bytes) -> bytes:
    """Return the job with its counters set back; bytes that are no job stay as they are and fail again."""
    try:
        envelope = unpack_envelope(body)
    except Malformed:
        return _from_plain(body)
    if envelope.options is None:
        return body
    counters = {"attempt": 1, "deliveries": 0, "interruptions": 0, "starts": 0, "unknown_since_ms": None}
    return repack(envelope, msgspec.structs.replace(envelope.options, **counters))


def _from_plain(body: bytes) -> bytes:
    """Return the job of plain fields that were too large to be read when they came; what holds none as it is."""
    try:
        return envelope_from_fields(_fields(body))
    except (msgspec.DecodeError, ValueError):
        return body


def unpack_envelope(data: bytes) -> Envelope:
    """Read an envelope.

    Raises:
        Malformed: not msgpack, not of our shape, or of another version.
    """
    try:
        envelope = _envelope(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Malformed(_other_version(data) or str(error)) from None
    if envelope.version != VERSION or not envelope.name:
        raise Malformed(_other_version(data) or "the handler's name is empty")
    return envelope


def keys_in(data: bytes) -> tuple[str, str]:
    """Return the unique key and the caller's id that an envelope holds; empty for none, and where it cannot be read."""
    try:
        options = unpack_envelope(data).options
    except Malformed:
        options = None
    return ("", "") if options is None else (options.unique or "", options.id or "")


def envelope_from_fields(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the envelope for a job that was added with plain fields and JSON arguments.

    Raises:
        Malformed: a field is missing, unknown or unreadable.
    """
    unknown = fields.keys() - FIELDS
    if unknown:
        shown = ", ".join(sorted(bytes(name[:40]).decode(errors="backslashreplace") for name in unknown)[:5])
        raise Malformed(f"unknown fields: {shown}; plain fields are {', '.join(sorted(f.decode() for f in FIELDS))}")
    if b"name" not in fields:
        raise Malformed("no field 'name'")
    try:
        name = fields[b"name"].decode()
        args = msgspec.json.decode(fields.get(b"args") or b"[]")
        kwargs = msgspec.json.decode(fields.get(b"kwargs") or b"{}")
        if len(name) > limits.NAME_MAX_CHARS:
            raise Malformed(f"the handler's name: {TOO_LONG}")
        if not name or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise Malformed("name must be text, args a JSON array, kwargs a JSON object")
        options = _options_from_fields(fields)
        return pack_envelope(name, _encode(args), _encode(kwargs), None if options == NO_OPTIONS else options)
    except Malformed:
        raise
    except (msgspec.DecodeError, RecursionError, OverflowError, ValueError) as error:
        raise Malformed(f"plain fields: {error}") from None


def plain_value(value: msgspec.Raw | bytes) -> Any:
    """Return a packed value as plain data, for showing; raises what msgspec raises."""
    return _plain(value)


def pack_record(record: ResultRecord) -> bytes:
    """Return a result record's bytes; raises what msgspec raises when the value cannot be packed."""
    data = _encode(record)
    # The last item came later, and is left out where it says nothing: an array of ten, without the zero at its end.
    return data if record.interruptions else b"\x9a" + data[1:-1]


def unpack_record(data: bytes) -> ResultRecord:
    """Read a result record; raises Malformed."""
    try:
        record = _record(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Malformed(_other_version(data) or str(error)) from None
    if record.version != VERSION:
        raise Malformed(_other_version(data))
    return record


def unpack_records(packed: Sequence[bytes | None]) -> list[ResultRecord | None]:
    """Read many, where there is one; raises Malformed for the first that cannot be read."""
    records: list[ResultRecord | None] | None
    try:
        records = [None if data is None else _record(data) for data in packed]
    except (msgspec.DecodeError, RecursionError, ValueError):
        records = None
    if records is None or {record.version for record in records if record is not None} - {VERSION}:
        # What is wrong, and with which, is found out one by one.
        records = [None if data is None else unpack_record(data) for data in packed]
    return records


def _other_version(data: bytes) -> str:
    """Return what to say of bytes that another version wrote; empty for bytes of this one, or of no version at all."""
    try:
        version = _plain(_parts(data)[0])
    except (msgspec.DecodeError, RecursionError, ValueError, IndexError):
        return ""
    if type(version) is not int or version == VERSION:
        return ""
    return f"it is of version {version}, this worker reads {VERSION}; upgrade the older side"


def _options_from_fields(fields: Mapping[bytes, bytes]) -> EnvelopeOptions:
    expires_at_ms = None
    if expires_at := fields.get(b"expires_at"):
        moment = msgspec.convert(expires_at.decode(), type=_Aware)
        expires_at_ms = max(0, int(moment.timestamp() * 1000))
    timeout, attempts = fields.get(b"timeout_s"), fields.get(b"attempts")
    return EnvelopeOptions(
        timeout_s=_json_seconds(timeout) if timeout else None,
        expires_at_ms=expires_at_ms,
        attempts=_json_from_one(attempts) if attempts else None,
    )
