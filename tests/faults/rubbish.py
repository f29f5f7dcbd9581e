"""Entries that no producer of ours would write: valid envelopes that were bent, and rubbish, from one seed.

Each is the fields of one XADD. Whether a worker may run it, and what else may become of it, is not known here: the
codec says so.
"""

import random
import struct
from collections.abc import Callable

from headrace.jobs.codec import EnvelopeOptions, pack_envelope

#: Headers that promise four billion bytes, items or pairs, and the lengths of each.
LIES = [head + size for head in (b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf") for size in (b"\xff" * 4, b"\x7f" * 4)]
#: Extensions: of no type that is known, of the type of timestamps with odd lengths, huge, nested.
EXTENSIONS = [
    b"\xd4\x05\x00",
    b"\xd4\xff\x00",
    b"\xd6\xff" + b"\xff" * 4,
    b"\xd7\xff" + b"\xff" * 8,
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\xc7\x00\x01",
    b"\xc8\xff\xff\x2a" + b"\xc9" * 65_535,
    b"\x91" * 50 + b"\xd8\x11" + b"\xd8" * 16,
]
#: Texts that are no UTF-8, or odd in other ways.
TEXTS = [
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf0\x28\x8c\xbc",
    b"\x00",
    b"add\x00",
    b"",
    b"(malformed)",
    b"a" * 2000,
]
VALUES = [b"\xc0", b"\xc2", b"\x00", b"\xff", b"\xcb\x7f\xf8" + bytes(6), b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7)]


def _text(data: bytes) -> bytes:
    return b"\xda" + struct.pack("!H", len(data)) + data


def _valid(dice: random.Random) -> bytes:
    options = dice.choice(
        [
            None,
            EnvelopeOptions(attempt=dice.randrange(1, 5)),
            EnvelopeOptions(timeout_s=60.0, unique="key", result_ttl_s=60.0),
            EnvelopeOptions(expires_at_ms=1, starts=3, deliveries=2),
            EnvelopeOptions(unknown_since_ms=1, id="mine"),
        ]
    )
    name = dice.choice(["add", "add", "add", "no such handler", "ädd"])
    args = dice.choice([b"\x92\x01\x02", b"\x90", b"\x92\xa1a\xa1b", b"\x92\x01" + dice.choice(VALUES)])
    return pack_envelope(name, args, dice.choice([b"\x80", b"\x80", b"\x81\xa1a\x01"]), options)


def _flipped(dice: random.Random) -> bytes:
    data = bytearray(_valid(dice))
    for _ in range(dice.randrange(1, 4)):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data)


def _cut(dice: random.Random) -> bytes:
    data = _valid(dice)
    return data[: dice.randrange(len(data))]


def _spliced(dice: random.Random) -> bytes:
    """Put what is not expected into the middle of an envelope."""
    data = _valid(dice)
    at = dice.randrange(len(data))
    return data[:at] + dice.choice(LIES + EXTENSIONS + VALUES + [_text(text) for text in TEXTS]) + data[at + 1 :]


def _nested(dice: random.Random) -> bytes:
    """Arrays or maps in each other, shallow or deeper than any stack."""
    depth = dice.choice([90, 600, 5_000, 100_000])
    return pack_envelope("add", b"\x92\x01" + dice.choice([b"\x91", b"\x81\xa1k"]) * depth + b"\xc0")


def _other_version(dice: random.Random) -> bytes:
    version = dice.choice([b"\x00", b"\x02", b"\xff", b"\xa1v", b"\xcf" + b"\xff" * 8, b"\xc0", b"\xcb" + bytes(8)])
    return b"\x95" + version + _valid(dice)[2:]


def _named(dice: random.Random) -> bytes:
    return b"\x95\x01" + _text(dice.choice(TEXTS)) + b"\x90\x80\xc0"


def _argued(dice: random.Random) -> bytes:
    """Arguments and options that are well-formed, and wrong."""
    args = dice.choice(
        [b"\x92\x01" + dice.choice(EXTENSIONS + VALUES), b"\x92" + _text(dice.choice(TEXTS)) * 2, b"\x80"]
    )
    kwargs = dice.choice(
        [b"\x80", b"\x81\x01\x02", b"\x82\xa1a\x01\xa1a\x02", b"\x81" + _text(b"\xff") + b"\x01", b"\x90"]
    )
    options = dice.choice(
        [
            b"\xc0",
            b"\x81\xa7attempt" + dice.choice(VALUES),
            b"\x81\xa9timeout_s" + dice.choice(VALUES),
            b"\x81\xa6unique" + _text(dice.choice(TEXTS)),
            b"\x81\xadexpires_at_ms" + dice.choice(VALUES),
        ]
    )
    return pack_envelope("add", args, kwargs)[:-1] + options


def _rubbish(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(200))


BODIES: list[Callable[[random.Random], bytes]] = [
    _valid,
    _flipped,
    _cut,
    _spliced,
    _nested,
    _other_version,
    _named,
    _argued,
    _rubbish,
]
#: How often each is chosen: the deepest ones are large, and a few of them are enough.
WEIGHTS = [4, 8, 4, 8, 1, 2, 2, 6, 4]
PLAIN = [
    b"[1, 2]",
    b"[1, 2",
    b"[" * 50_000,
    b'{"a": 1}',
    b"[1e999, NaN]",
    b'["\\ud800", 1]',
    b"\xff\xfe",
    b"[123456789012345678901234567890, 1]",
    b"",
]


def body(dice: random.Random) -> bytes:
    """Return the bytes of a field `m`."""
    (make,) = dice.choices(BODIES, WEIGHTS)
    return make(dice)


def entry(dice: random.Random) -> dict[bytes, bytes]:
    """Return the fields of an entry."""
    shape = dice.randrange(20)
    if shape < 16:
        return {b"m": body(dice)}
    if shape == 16:
        return {b"m": body(dice), b"i": dice.choice([b"", b"default:1-d1", b"\xff", b"x" * 1000])}
    if shape == 17:
        return {dice.choice([b"nmae", b"\xff", b"x" * 1000, b""]): dice.randbytes(20), b"name": b"add"}
    fields = {b"name": dice.choice([b"add", *TEXTS])}
    fields[dice.choice([b"args", b"kwargs", b"timeout_s", b"attempts", b"expires_at"])] = dice.choice(PLAIN)
    return fields
