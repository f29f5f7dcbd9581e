"""How bodies of many jobs are cut into jobs: any form, any pieces, and nothing held that is too long."""

import json

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.http.streams import Array, Lines, Packed, Reader, Unnamed, Unreadable
from http_scene import Pieces, asking, post_pieces, problem

TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["\\", '"', '\\"', "[", "]}", ",", "\n", "\\\\", "é", "\x00"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
ARGS, KWARGS = st.lists(VALUES, max_size=3), st.dictionaries(TEXTS, VALUES, max_size=2)
JOBS = st.lists(st.fixed_dictionaries({"name": st.just("a"), "args": ARGS, "kwargs": KWARGS}), max_size=6)
SIZES = st.integers(1, 30)


def cut(reader: Reader, content: bytes, size: int) -> list[object]:
    """Return the items of a body that arrives in pieces of a size, decoded, None for what is unreadable."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    items = [item for piece in pieces for item in reader.feed(piece)] + list(reader.end())
    return [None if isinstance(item, Unreadable) else msgspec.to_builtins(reader.decode(item)) for item in items]


def whole(job: object) -> dict[str, object]:
    """Return a job with every field."""
    found: dict[str, object] = msgspec.to_builtins(Lines(1).decode(json.dumps(job).encode()))
    return found


@given(JOBS, SIZES, st.sampled_from([None, 1]))
def test_every_form_gives_the_same_jobs(jobs: list[object], size: int, indent: int | None) -> None:
    """Lines, an array, packed maps and a packed array give the same jobs, wherever they are cut."""
    expected = [whole(job) for job in jobs]
    lines = "\n".join(json.dumps(job) for job in jobs).encode()
    array = json.dumps(jobs, indent=indent, ensure_ascii=False).encode()
    assert expected == cut(Lines(10_000), lines, size)
    assert expected == cut(Array(10_000), array, size)
    assert expected == cut(Unnamed(10_000), b"\n " + array, size)
    assert expected == cut(Unnamed(10_000), lines, size)
    assert expected == cut(Packed(10_000), b"".join(msgpack.packb(job) for job in jobs), size)
    assert expected == cut(Packed(10_000), msgpack.packb(jobs), size)


@pytest.mark.parametrize("size", [1, 100, 5_000])
def test_what_is_too_long_is_not_held(size: int) -> None:
    """An item that is too long is unreadable once, at its place, and the next is found."""
    long, job = b'{"name":"a","args":["' + b'\\"x,]' * 1000 + b'"]}', b'{"name":"a"}'
    shown = [job is not None for job in cut(Lines(2_000), b"\n".join((job, long, job, long)), size)]
    assert [True, False, True, False] == shown
    shown = [job is not None for job in cut(Array(2_000), b"[" + b",".join((job, long, job, long)) + b"]", size)]
    assert [True, False, True, False] == shown


def test_a_packed_item_that_is_too_long_ends_the_reading() -> None:
    """Where a packed item ends cannot be known without holding it: what is too long ends the batch."""
    packed = msgpack.packb({"name": "a", "args": ["x" * 300_000]})
    with pytest.raises(ValueError, match="2,000 bytes"):
        cut(Packed(2_000), packed, 1_000)
    nested = b"\xdd\x00\x01\x86\xa0" + b"\x01" * 90_000  # an array: its bytes are let go, its items are not
    with pytest.raises(ValueError, match="2,000 bytes"):
        cut(Packed(2_000), b"\x81\xa1a" + nested, 1_000)
    assert [None] == cut(Packed(2_000), msgpack.packb({"name": "a", "args": ["x" * 3_000]}), 100)


@pytest.mark.parametrize(
    ("reader", "content"),
    [
        (Array(100), b""),
        (Array(100), b"{}"),
        (Array(100), b"["),
        (Array(100), b"[1"),
        (Array(100), b"[[1]"),
        (Array(100), b"[1] 2"),
        (Array(100), b'["]'),
        (Packed(100), b"\x93"),
        (Packed(100), b"\xdc\x00"),
        (Packed(100), b"\x81\xa1"),
        (Packed(100), b"\x91\x80\x80"),
        (Packed(100), b"\xc1"),
        (Packed(100), b"\x81\xa1\xff\x01"),
        (Packed(100), b"\x81\x91\x01\x01"),
        (Packed(100), b"\x81\xa1a\xc7\x0c\xff\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00"),  # no datetime's time
        (Packed(100), b"\x81\xa1a\xd4\x05\x00"),  # an extension that nobody knows
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_what_cannot_be_read_is_told(reader: Reader, content: bytes, size: int) -> None:
    """A body that is no array, ends too early or goes on too long, or is no msgpack is a ValueError."""
    fresh = type(reader)(100)  # type: ignore[call-arg]
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    with pytest.raises(ValueError, match=r"."):
        _ = [item for piece in pieces for item in fresh.feed(piece)] + list(fresh.end())


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_msgpack_is_taken(size: int) -> None:
    """A batch in msgpack, as a stream of maps or an array, is submitted; bytes stay bytes; bad ones are reported."""
    jobs = [{"name": "a", "args": [b"\x00\xff"]}, {"nam": "b"}, 7, {"name": "c", "delay_s": 60}]
    for content in (b"".join(map(msgpack.packb, jobs)), msgpack.packb(jobs)):
        async with asking(MemoryBroker()) as client:
            response = await post_pieces(client, "/v1/jobs/batch", Pieces(content, size), "application/msgpack")
            report = response.json()
            assert (202, 2) == (response.status_code, report["accepted"])
            assert [1, 2] == [rejected["index"] for rejected in report["rejected"]]
            cut_off = Pieces(content[:-1], size)
            response = await post_pieces(client, "/v1/jobs/batch", cut_off, "application/msgpack")
            assert 400 == problem(response)[0]
            assert 1 == response.json()["batch"]["accepted"]
