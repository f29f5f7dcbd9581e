"""The bytes on the wire: what is read back, what is refused, and that nothing else can happen."""

import json
import resource
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.jobs import codec
from headrace.jobs.codec import (
    NIL,
    Envelope,
    EnvelopeOptions,
    Malformed,
    ResultRecord,
    envelope_from_fields,
    pack_envelope,
    pack_foreign,
    pack_record,
    repack,
    unpack_envelope,
    unpack_record,
    unpack_records,
)
from headrace.jobs.disposition import DeadLetter, pack_letter, unpack_letter
from headrace.jobs.errors import InvalidArguments
from headrace.jobs.outcome import Failure

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
SECONDS = st.none() | st.floats(0, 1e7)
COUNTS = st.integers(0, 2**32 - 1)
FROM_ONE = st.integers(1, 2**32 - 1)
OPTIONS = st.builds(
    EnvelopeOptions,
    timeout_s=SECONDS,
    expires_at_ms=st.none() | st.integers(0, 2**53),
    attempts=st.none() | FROM_ONE,
    delay_s=SECONDS,
    factor=st.none() | st.floats(1, 1e9),
    max_delay_s=SECONDS,
    jitter=st.none() | st.floats(0, 1),
    result_ttl_s=SECONDS,
    attempt=FROM_ONE,
    deliveries=COUNTS,
    interruptions=COUNTS,
    starts=COUNTS,
    unknown_since_ms=st.none() | st.integers(0, 2**53),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXTS
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)  # fmt: skip


def parts(envelope: Envelope) -> tuple[str, Any, Any, EnvelopeOptions | None]:
    """Return an envelope with its arguments unpacked."""
    return (
        envelope.name, msgspec.msgpack.decode(envelope.args), msgspec.msgpack.decode(envelope.kwargs), envelope.options,
    )  # fmt: skip


@given(TEXTS, st.lists(JSON), st.dictionaries(TEXTS, JSON), st.none() | OPTIONS)
def test_an_envelope_is_read_as_it_was_written(
    name: str, args: list[Any], kwargs: dict[str, Any], options: EnvelopeOptions | None
) -> None:
    """Name, arguments and options come back, and packing what was read gives the same bytes."""
    data = pack_foreign(name, args, kwargs, options)
    envelope = unpack_envelope(data)
    assert (name, args, kwargs, options) == parts(envelope)
    if options is not None:
        assert data == repack(envelope, options)


def test_parts_of_an_envelope_may_be_packed_before() -> None:
    """The head of a handler, packed arguments and packed options in turn are the envelope."""
    options = EnvelopeOptions(attempts=2)
    assert pack_envelope("add") == codec.head_of("add") + b"\x90\x80" + codec.pack_options(None)
    assert pack_envelope("add", options=options) == codec.head_of("add") + b"\x90\x80" + codec.pack_options(options)


def test_options_say_only_what_was_said() -> None:
    """An option that has its default takes no bytes."""
    assert b"\x80" == codec.pack_options(EnvelopeOptions())
    assert b"\x81\xa8attempts\x02" == codec.pack_options(EnvelopeOptions(attempts=2))


def packed(*items: Any) -> bytes:
    return msgspec.msgpack.encode(items)


MALFORMED = {
    "nothing": b"",
    "no array": b"\x80",
    "text": b"hello",
    "empty array": b"\x90",
    "too short": packed(1, "add", []),
    "version is text": packed("1", "add", [], {}, None),
    "version is true": packed(True, "add", [], {}, None),
    "version two": packed(2, "add", [], {}, None),
    "version two of another shape": packed(2, {"any": "thing"}),
    "version zero": packed(0, "add", [], {}, None),
    "name is nil": packed(1, None, [], {}, None),
    "name is bytes": packed(1, b"add", [], {}, None),
    "name is empty": packed(1, "", [], {}, None),
    "name is no UTF-8": b"\x95\x01\xa1\xff\x90\x80\xc0",
    "bytes behind it": packed(1, "add", [], {}, None) + b"\xc0",
    "array that lies": b"\x95\x01\xa3add\xdd\xff\xff\xff\xff",
    "map that lies": b"\x95\x01\xa3add\x90\xdf\xff\xff\xff\xff",
    "text that lies": b"\x95\x01\xdb\xff\xff\xff\xff",
    "envelope that lies": b"\xdd\xff\xff\xff\xff\x01",
    "extension that lies": b"\x95\x01\xa3add\x90\x80\xc9\xff\xff\xff\xff\x05",
    "endless nesting": b"\x95\x01\xa3add" + b"\x91" * 1_000_000,
    "options are a list": packed(1, "add", [], {}, []),
    **{
        f"{name} is {value!r}": packed(1, "add", [], {}, {name: value})
        for name, values in {
            "timeout_s": [-1.0, float("nan"), float("inf"), 1e300, "5", True],
            "expires_at_ms": [-1, 2**60, 1.5],
            "attempts": [0, -1, 2**32, 1.0, "3"],
            "delay_s": [-1, float("nan"), float("inf")],
            "factor": [0.5, 1e300, float("nan")],
            "max_delay_s": [float("inf"), -1],
            "jitter": [-0.1, 1.1, float("nan")],
            "result_ttl_s": [-1, float("nan"), float("inf"), 1e12],
            "attempt": [0, 2**64 - 1, None],
            "deliveries": [-1, 2**63],
            "interruptions": [-1, 2**63],
        }.items()
        for value in values
    },
}


def test_an_endless_name_is_malformed() -> None:
    """A name of more than a thousand characters is none: figures and events are kept by name."""
    assert "n" * 1000 == unpack_envelope(pack_envelope("n" * 1000)).name
    with pytest.raises(Malformed, match="1000"):
        unpack_envelope(pack_envelope("n" * 1001))
    with pytest.raises(Malformed, match="1,000"):
        envelope_from_fields({b"name": b"n" * 1001})
    with pytest.raises(InvalidArguments, match="1,000"):
        pack_foreign("n" * 1001, [], {})


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_no_envelope_is_malformed(kind: str) -> None:
    """Wrong shapes, versions, lengths and options out of their bounds are Malformed, with a short reason."""
    with pytest.raises(Malformed) as refused:
        unpack_envelope(MALFORMED[kind])
    assert 0 < len(str(refused.value)) < 300


def test_another_version_is_named() -> None:
    """An envelope, record or letter of another version says which, whatever else is in it."""
    for data in (packed(2, "add", [], {}, None), packed(7), packed(3, {"a": 1})):
        with pytest.raises(Malformed, match=r"version [237]"):
            unpack_envelope(data)
        with pytest.raises(Malformed, match=r"version [237]"):
            unpack_record(data)


def test_what_a_later_version_1_adds_is_passed_over() -> None:
    """Further items behind the options, and options that are not known here, change nothing."""
    options = {"timeout_s": 5, "colour": "red"}
    assert ("add", [1], {}, EnvelopeOptions(timeout_s=5.0)) == parts(
        unpack_envelope(packed(1, "add", [1], {}, options, "more", 7))
    )


def test_options_may_be_left_out() -> None:
    """An envelope of four items has no options."""
    assert ("add", [1], {"b": 2}, None) == parts(unpack_envelope(packed(1, "add", [1], {"b": 2})))


def test_an_envelope_cut_short_is_malformed() -> None:
    """Cut at any byte before its options, an envelope is Malformed."""
    data = pack_foreign("add", [1, "two", b"3"], {"k": [1.5]}, EnvelopeOptions(timeout_s=1.5, attempts=3))
    for end in range(len(data)):
        with pytest.raises(Malformed):
            unpack_envelope(data[:end])


HEAD = st.sampled_from([b"", b"\x95\x01", b"\x95\x01\xa3add", b"\x95\x01\xa3add\x90\x80", b"\x9a\x01\xa9succeeded"])


@given(HEAD, st.binary(max_size=100))
def test_random_bytes_are_read_or_malformed(head: bytes, rest: bytes) -> None:
    """Any bytes are an envelope, a record or a letter, or Malformed, and nothing else."""
    for read in (unpack_envelope, unpack_record, unpack_letter):
        try:
            read(head + rest)
        except Malformed:
            continue


@given(st.lists(JSON, max_size=6), st.dictionaries(st.sampled_from(EnvelopeOptions.__struct_fields__), JSON))
def test_well_formed_nonsense_is_read_or_malformed(items: list[Any], options: dict[str, Any]) -> None:
    """Well-formed msgpack of any shape is an envelope or Malformed, and nothing else."""
    for data in (packed(*items), packed(1, "add", *items), packed(1, "add", [], {}, options)):
        try:
            unpack_envelope(data)
        except Malformed:
            continue


def test_lengths_that_lie_take_no_memory() -> None:
    """Bytes that promise four billion items are refused without making room for them."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for item in (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"):
        for head in (b"", b"\x95\x01", b"\x95\x01\xa3add", b"\x95\x01\xa3add\x90", b"\x95\x01\xa3add\x90\x80"):
            with pytest.raises(Malformed):
                unpack_envelope(head + item + b"\xff" * 4)
    # On macOS this is in bytes, which makes the bound 64 KiB; nothing was allocated there either.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


def test_what_a_foreign_producer_may_say() -> None:
    """A producer without the handler's code sends plain data under a name; else InvalidArguments."""
    for name in ("", None, "\ud800"):
        with pytest.raises(InvalidArguments):
            pack_foreign(name, [], {})  # type: ignore[arg-type]
    itself: list[Any] = []
    itself.append(itself)
    for odd in (object(), 2**64, "\ud800", itself):
        with pytest.raises(InvalidArguments, match=r"add\(\)"):
            pack_foreign("add", [odd], {})
        with pytest.raises(InvalidArguments, match=r"add\(\)"):
            pack_foreign("add", [], {"a": odd})
    with pytest.raises(InvalidArguments, match="must be text"):
        pack_foreign("add", [], {1: 2})  # type: ignore[dict-item]


# Plain fields ----------------------------------------------------------------------------------------


@given(TEXTS, st.lists(JSON), st.dictionaries(TEXTS, JSON))
def test_plain_fields_are_the_same_job(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """JSON in plain fields gives the envelope that packing the same data gives."""
    fields = {b"name": name.encode(), b"args": json.dumps(args).encode(), b"kwargs": json.dumps(kwargs).encode()}
    assert pack_foreign(name, args, kwargs) == envelope_from_fields(fields)


def test_plain_fields_may_be_left_out() -> None:
    """Only the name is needed, and an empty field is as good as none."""
    assert pack_envelope("add") == envelope_from_fields({b"name": b"add"})
    empty = {b"name": b"add", b"args": b"", b"kwargs": b"", b"timeout_s": b"", b"expires_at": b"", b"attempts": b""}
    assert pack_envelope("add") == envelope_from_fields(empty)


def test_plain_fields_have_options() -> None:
    """Seconds, an RFC 3339 time and a number of tries become the envelope's options."""
    fields = {b"name": b"a", b"timeout_s": b"1.5", b"expires_at": b"2026-05-01T12:00:00.5+02:00", b"attempts": b"4"}
    options = unpack_envelope(envelope_from_fields(fields)).options
    assert EnvelopeOptions(timeout_s=1.5, expires_at_ms=1777629600500, attempts=4) == options


def test_a_time_before_the_epoch_is_past() -> None:
    """An expiry before 1970 is one that has passed, not a malformed entry."""
    fields = {b"name": b"a", b"expires_at": b"0001-01-01T00:00:00Z"}
    assert EnvelopeOptions(expires_at_ms=0) == unpack_envelope(envelope_from_fields(fields)).options


def test_the_last_of_doubled_json_names_counts() -> None:
    """A name that JSON gives twice has its last value, as in every JSON reader."""
    fields = {b"name": b"a", b"kwargs": b'{"x": 1, "x": 2}'}
    assert {"x": 2} == parts(unpack_envelope(envelope_from_fields(fields)))[2]


BAD_FIELDS = {
    "no name": {b"args": b"[]"},
    "nothing": {},
    "empty name": {b"name": b""},
    "name is no UTF-8": {b"name": b"\xff"},
    "unknown field": {b"name": b"a", b"colour": b"red"},
    "a megabyte of unknown field": {b"name": b"a", b"\xff" * 1_000_000: b""},
    "ten thousand unknown fields": {b"name": b"a", **{b"f%d" % n: b"" for n in range(10_000)}},
    "args is an object": {b"name": b"a", b"args": b"{}"},
    "args is a number": {b"name": b"a", b"args": b"1"},
    "kwargs is an array": {b"name": b"a", b"kwargs": b"[]"},
    "args is no JSON": {b"name": b"a", b"args": b"[1,"},
    "args has more behind": {b"name": b"a", b"args": b"[] []"},
    "args has NaN": {b"name": b"a", b"args": b"[NaN]"},
    "args has a huge exponent": {b"name": b"a", b"args": b"[1e999]"},
    "args has 70 bits": {b"name": b"a", b"args": b"[1000000000000000000000]"},
    "args has a lone surrogate": {b"name": b"a", b"args": b'["\\ud800"]'},
    "args is no UTF-8": {b"name": b"a", b"args": b'["\xff"]'},
    "args is endless": {b"name": b"a", b"args": b"[" * 1_000_000},
    **{f"timeout_s is {text!r}": {b"name": b"a", b"timeout_s": text}
       for text in (b"x", b"nan", b"inf", b"1e400", b"-1", b"1_0", b"1e30", b'"5"', b"\xff", b"true", b"9" * 5000)},
    **{f"attempts is {text!r}": {b"name": b"a", b"attempts": text}
       for text in (b"0", b"-1", b"1.5", b"x", b"1_0", b"99999999999", b"9" * 5000, b"\xd9\xa3")},
    **{f"expires_at is {text!r}": {b"name": b"a", b"expires_at": text}
       for text in (b"tomorrow", b"2026-05-01", b"2026-05-01T12:00:00", b"2026-02-30T00:00:00Z", b"1777636800",
                    b"\xff")},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_FIELDS)
def test_bad_plain_fields_are_malformed(kind: str) -> None:
    """A missing, unknown or unreadable field is Malformed, with a short reason."""
    with pytest.raises(Malformed) as refused:
        envelope_from_fields(BAD_FIELDS[kind])
    assert 0 < len(str(refused.value)) < 600


FIELD_TEXT = st.binary(max_size=30) | st.sampled_from([b"1e5", b"0.1", b"3", b"[1]", b"{}", b"2026-05-01T00:00:00Z"])


@given(st.dictionaries(st.sampled_from(sorted(codec.FIELDS)), FIELD_TEXT))
def test_any_plain_fields_are_a_job_or_malformed(fields: dict[bytes, bytes]) -> None:
    """Whatever the fields hold, they are Malformed or an envelope that can be read."""
    try:
        data = envelope_from_fields(fields)
    except Malformed:
        return
    assert fields[b"name"].decode() == unpack_envelope(data).name


# Records and letters ---------------------------------------------------------------------------------

FAILURES = st.builds(Failure, TEXTS, TEXTS, TEXTS, st.lists(TEXTS).map(tuple), SECONDS, st.booleans())


@given(JSON, st.none() | FAILURES, COUNTS, st.none() | TEXTS)
def test_a_record_is_read_as_it_was_written(value: Any, failure: Failure | None, number: int, note: str | None) -> None:
    """A result record comes back with its value still packed."""
    raw = msgspec.Raw(msgspec.msgpack.encode(value))
    record = ResultRecord(1, "succeeded", raw, failure, "add", 1, 1, number, number, note)
    assert record == unpack_record(pack_record(record))
    assert value == codec.plain_value(unpack_record(pack_record(record)).value)


@given(st.builds(
    DeadLetter, id=TEXTS, queue=TEXTS, name=TEXTS, reason=TEXTS, error=TEXTS, traceback=TEXTS, attempts=COUNTS,
    deliveries=COUNTS, died_at_ms=COUNTS, body=st.binary(),
))  # fmt: skip
def test_a_dead_letter_is_read_as_it_was_written(letter: DeadLetter) -> None:
    """A dead letter comes back, its body byte by byte."""
    assert letter == unpack_letter(pack_letter(letter))


def test_records_and_letters_of_another_shape_are_malformed() -> None:
    """What is no record or letter, or of another version, is Malformed."""
    good = pack_record(ResultRecord(1, "dead", NIL, Failure("E"), "add", 1, 1, 0, 5))
    letter = {"version": 2, "id": "a", "queue": "q", "name": "", "reason": "", "error": "", "traceback": "",
              "attempts": 0, "deliveries": 1, "died_at_ms": 0, "body": b""}  # fmt: skip
    for data in (good[:-1], b"", b"\x80", b"\x91" * 100_000, msgspec.msgpack.encode([2, "dead"])):
        with pytest.raises(Malformed):
            unpack_record(data)
    for bad in (good[:-1], b"", msgspec.msgpack.encode([2, "dead"])):
        with pytest.raises(Malformed):
            unpack_records([None, good, bad, good])
    assert [unpack_record(good), None] == unpack_records([good, None])
    for data in (b"", b"\x80", b"\x91" * 100_000, msgspec.msgpack.encode(letter)):
        with pytest.raises(Malformed):
            unpack_letter(data)
