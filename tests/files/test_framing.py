"""Framings: what is joined can be surveyed and read back, whatever a crash cut off."""

from pathlib import Path

import msgpack
import pytest

from headrace.engine.files.crc32c import crc32c
from headrace.engine.files.framing import Frames, JsonLines, Survey, read_frames, read_objects


def test_crc32c_gives_the_published_check_values() -> None:
    """CRC32C of the digits 1 to 9 and of 32 zero bytes are those of RFC 3720."""
    assert 0xE3069283 == crc32c(b"123456789")
    assert 0x8A9136AA == crc32c(bytes(32))


def test_a_framed_file_truncated_at_every_offset_gives_its_whole_records(tmp_path: Path) -> None:
    """Cut anywhere, a framed file yields exactly the records that are whole, and is never called damaged."""
    objects = [{"n": n, "text": "x" * n} for n in range(6)]
    frames = [Frames().join([msgpack.packb(item)]) for item in objects]
    data = b"".join(frames)
    path = tmp_path / "spool"
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = max(n for n in range(len(frames) + 1) if sum(map(len, frames[:n])) <= cut)
        end = sum(map(len, frames[:whole]))
        assert Survey(end, cut - end, False) == Frames().survey(path)
        assert objects[:whole] == list(read_objects(path))


def test_a_jsonl_file_truncated_at_every_offset_ends_behind_its_last_newline(tmp_path: Path) -> None:
    """Cut anywhere, the survey of a JSON Lines file ends where its last whole line ends."""
    data = JsonLines().join([b'{"n":1}', b'{"n":22}', b"{}"])
    path = tmp_path / "log"
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        end = data.rfind(b"\n", 0, cut) + 1
        assert Survey(end, cut - end) == JsonLines().survey(path)


def test_the_last_newline_is_found_before_a_long_unfinished_line(tmp_path: Path) -> None:
    """A torn line longer than a block does not hide the newline before it."""
    path = tmp_path / "log"
    path.write_bytes(b"{}\n" + b"x" * 200_000)
    assert Survey(3, 200_000) == JsonLines().survey(path)


def test_zeros_behind_the_last_record_are_torn_and_not_records(tmp_path: Path) -> None:
    """A zeroed tail, as power cuts leave, is cut; it would otherwise pass for empty records with a right sum."""
    path = tmp_path / "spool"
    path.write_bytes(Frames().join([b"a"]) + bytes(5000))
    assert Survey(9, 5000, False) == Frames().survey(path)
    assert [b"a"] == [payload for _, payload in read_frames(path)]


def test_a_flipped_bit_anywhere_before_the_last_record_is_damage(tmp_path: Path) -> None:
    """Damage with whole records behind it is reported as such, be it in a length, a check sum or a payload."""
    data = Frames().join([b"first", b"second", b"third"])
    path = tmp_path / "spool"
    for offset in range(len(data)):
        flipped = bytearray(data)
        flipped[offset] ^= 0x40
        path.write_bytes(flipped)
        assert (offset < 13 + 14) == Frames().survey(path).damaged


def test_records_that_could_not_be_read_back_are_refused() -> None:
    """A newline in a line, and an empty frame, raise ValueError."""
    with pytest.raises(ValueError, match="newline"):
        JsonLines().check(b"a\nb")
    with pytest.raises(ValueError, match="0 bytes"):
        Frames().check(b"")


def test_a_record_that_is_not_msgpack_to_its_end_is_named(tmp_path: Path) -> None:
    """Half an object in a whole frame raises, rather than swallowing the record behind it."""
    path = tmp_path / "spool"
    path.write_bytes(Frames().join([msgpack.packb([1, 2, 3])[:-1], msgpack.packb("next")]))
    with pytest.raises(ValueError, match="ends at byte 11"):
        list(read_objects(path))
