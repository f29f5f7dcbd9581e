"""The bytes on the wire: job envelopes and result records, both versioned msgpack; docs/protocol.md has every byte.

Pure functions on bytes. An envelope is decoded with its arguments left packed; the handler's own decoder takes those.
What cannot be read raises Malformed with the reason, and the caller keeps the raw bytes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from .arguments import EMPTY_ARRAY, EMPTY_MAP
from .errors import InvalidArguments
from .outcome import Failure

VERSION: Final = 1
_Aware = Annotated[datetime, msgspec.Meta(tz=True)]
_NIL: Final = b"\xc0"
_HEAD: Final = b"\x95\x01"  # an array of five, and the version as its first item


class Malformed(ValueError):
    """The bytes are no envelope of ours; the message says where it went wrong."""


class EnvelopeOptions(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a submission said beyond name and arguments; a map, left out when nothing was said.

    Attributes:
        timeout_s: Seconds a try may run; 0 for no limit; None for the handler's own.
        expires_at_ms: Milliseconds since the epoch after which it is not started any more.
        attempts: Tries in all; None for the handler's own.
        delay_s, factor, max_delay_s, jitter: The rest of a Retry given at submission; None for the handler's own.
        result_ttl_s: Seconds its result is kept; None for the handler's own.
        attempt: Which try comes next, from 1.
        deliveries: Starts so far that a crash cut short.
        interruptions: How often a shutdown cut it short.
    """

    timeout_s: float | None = None
    expires_at_ms: int | None = None
    attempts: int | None = None
    delay_s: float | None = None
    factor: float | None = None
    max_delay_s: float | None = None
    jitter: float | None = None
    result_ttl_s: float | None = None
    attempt: int = 1
    deliveries: int = 0
    interruptions: int = 0


NO_OPTIONS: Final = EnvelopeOptions()


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One job as it lies in a queue.

    Attributes:
        version: VERSION.
        name: The handler's name.
        args: The positional arguments, a packed array.
        kwargs: The keyword arguments, a packed map.
        options: What the submission said beyond that; None for nothing.
    """

    version: int
    name: str
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


_encode = msgspec.msgpack.Encoder().encode
_envelope = msgspec.msgpack.Decoder(Envelope).decode
_plain = msgspec.msgpack.Decoder().decode
_record = msgspec.msgpack.Decoder(ResultRecord).decode
NIL: Final = msgspec.Raw(_NIL)


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

    Raises:
        InvalidArguments: they are no plain data.
    """
    try:
        return pack_envelope(name, _encode(list(args)), _encode(dict(kwargs)), options)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArguments(f"{name}(): the arguments cannot be packed: {error}; send plain data") from None


def repack(envelope: Envelope, options: EnvelopeOptions) -> bytes:
    """Return the same job with other options, as for its next try."""
    return pack_envelope(envelope.name, bytes(envelope.args), bytes(envelope.kwargs), options)


def unpack_envelope(data: bytes) -> Envelope:
    """Read an envelope.

    Raises:
        Malformed: not msgpack, not of our shape, or of another version.
    """
    try:
        envelope = _envelope(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Malformed(str(error)) from None
    if envelope.version != VERSION:
        raise Malformed(f"envelope version {envelope.version}, this worker reads {VERSION}")
    return envelope


def envelope_from_fields(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the envelope for a job that was added with plain fields and JSON arguments.

    Raises:
        Malformed: a field is missing, unknown or unreadable.
    """
    unknown = fields.keys() - {b"name", b"args", b"kwargs", b"timeout_s", b"expires_at", b"attempts"}
    if unknown or b"name" not in fields:
        shown = ", ".join(sorted(repr(bytes(name)) for name in unknown)) or "no field 'name'"
        raise Malformed(f"unknown fields: {shown}" if unknown else shown)
    try:
        name = fields[b"name"].decode()
        args = msgspec.json.decode(fields.get(b"args") or b"[]")
        kwargs = msgspec.json.decode(fields.get(b"kwargs") or b"{}")
        if not name or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise Malformed("name must be text, args a JSON array, kwargs a JSON object")
        options = _options_from_fields(fields)
        return pack_envelope(name, _encode(args), _encode(kwargs), None if options == NO_OPTIONS else options)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, ValueError) as error:
        raise Malformed(f"plain fields: {error}") from None


def plain_value(value: msgspec.Raw | bytes) -> Any:
    """Return a packed value as plain data, for showing; raises what msgspec raises."""
    return _plain(value)


def pack_record(record: ResultRecord) -> bytes:
    """Return a result record's bytes; raises what msgspec raises when the value cannot be packed."""
    return _encode(record)


def unpack_record(data: bytes) -> ResultRecord:
    """Read a result record; raises Malformed."""
    try:
        return _record(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise Malformed(str(error)) from None


def _options_from_fields(fields: Mapping[bytes, bytes]) -> EnvelopeOptions:
    plain: dict[str, Any] = {}
    if timeout := fields.get(b"timeout_s"):
        plain["timeout_s"] = float(timeout)
    if attempts := fields.get(b"attempts"):
        plain["attempts"] = int(attempts)
    if expires_at := fields.get(b"expires_at"):
        moment = msgspec.convert(expires_at.decode(), type=_Aware)
        plain["expires_at_ms"] = int(moment.timestamp() * 1000)
    if plain.get("timeout_s", 0) < 0 or plain.get("attempts", 1) < 1:
        raise Malformed("timeout_s is seconds >= 0, attempts is at least 1")
    return EnvelopeOptions(**plain)
