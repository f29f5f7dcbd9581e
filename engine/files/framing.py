"""Where one record ends and the next begins: JSON Lines, and length + CRC32C frames.

A framing joins records into bytes, and finds in an existing file the end of its last whole record, so that what a crash
left torn is cut before anything is appended. It never cuts whole records: damage with more data behind it is reported
as damage, and the file is set aside by its owner. All functions block; event loops call them in a file's thread.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import msgpack
import msgspec

from .crc32c import crc32c

#: Length and CRC32C of the payload, both unsigned, little-endian.
_HEADER: Final = struct.Struct("<II")
#: A length above this is damage, not a record; far above any payload that a queue takes.
RECORD_MAX_BYTES: Final = 64 * 1024 * 1024
_BLOCK_BYTES: Final = 64 * 1024
#: How much behind the last whole frame is searched for more of them: 16 gathered writes, a fifth of a second.
_TAIL_BYTES: Final = 1024 * 1024
#: And how many bytes are summed up meanwhile at most: about a second.
_SEARCH_MAX_BYTES: Final = 16 * 1024 * 1024


class Survey(msgspec.Struct, frozen=True):
    """What an existing file holds.

    Attributes:
        end_bytes: Offset behind the last whole record.
        torn_bytes: Bytes of an unfinished record behind it: what a crash leaves.
        damaged: There is more than an unfinished record behind it: cutting there would lose records.
    """

    end_bytes: int
    torn_bytes: int = 0
    damaged: bool = False


class Framing(Protocol):
    """A way to put records into a file.

    Attributes:
        overhead_bytes: What each record takes beyond its own bytes.
    """

    overhead_bytes: int

    def check(self, record: bytes) -> None:
        """Raise ValueError for a record that could not be read back."""

    def join(self, records: Sequence[bytes]) -> bytes:
        """Return the bytes to append for `records`."""

    def survey(self, path: Path) -> Survey:
        """Find the end of the last whole record."""


class JsonLines:
    """One record a line; the newline is the frame."""

    overhead_bytes = 1

    def check(self, record: bytes) -> None:
        """Refuse a record with a newline."""
        if b"\n" in record:
            raise ValueError("a record of a JSON Lines file holds a newline; write it as one line")

    def join(self, records: Sequence[bytes]) -> bytes:
        """Return the records, each with a newline."""
        return b"\n".join((*records, b""))

    def survey(self, path: Path) -> Survey:
        """Find the last newline, from the end; nothing before it is looked at."""
        with path.open("rb") as file:
            size_bytes = start = file.seek(0, 2)
            while start > 0:
                stop, start = start, max(0, start - _BLOCK_BYTES)
                file.seek(start)
                if (found := file.read(stop - start).rfind(b"\n")) >= 0:
                    end = start + found + 1
                    return Survey(end, size_bytes - end)
        return Survey(0, size_bytes)


class Frames:
    """Each record behind its length and its CRC32C; empty records are refused: zeroed disk blocks look like them."""

    overhead_bytes = _HEADER.size

    def check(self, record: bytes) -> None:
        """Refuse an empty record and an absurdly large one."""
        if not 0 < len(record) <= RECORD_MAX_BYTES:
            raise ValueError(f"a record of {len(record)} bytes cannot be framed; give 1 to {RECORD_MAX_BYTES} bytes")

    def join(self, records: Sequence[bytes]) -> bytes:
        """Return the records, each behind its header."""
        return b"".join(part for record in records for part in (_HEADER.pack(len(record), crc32c(record)), record))

    def survey(self, path: Path) -> Survey:
        """Read all frames; what follows the last whole one is torn, unless a whole frame follows that."""
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(0)
            end = 0
            for end, _ in _whole_frames(file):  # noqa: B007 - the last one is used
                pass
            file.seek(end)
            return Survey(end, size_bytes - end, _holds_whole_frame(file.read(_TAIL_BYTES)))


def read_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each whole record of a framed file with the offset behind it; stop at the first that is not whole."""
    with path.open("rb") as file:
        yield from _whole_frames(file)


def read_objects(path: Path) -> Iterator[Any]:
    """Yield the msgpack objects in a framed file's records, in order.

    Raises:
        ValueError: a record is whole but is not msgpack to its end: its writer's fault.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=2 * RECORD_MAX_BYTES)
    fed_bytes = 0
    for end, payload in read_frames(path):
        unpacker.feed(payload)
        fed_bytes += len(payload)
        whole_bytes = 0  # not tell() at the end: it counts the begun object, too, which the next record would complete
        with suppress(msgpack.OutOfData):
            while True:
                yield unpacker.unpack()
                whole_bytes = unpacker.tell()
        if whole_bytes != fed_bytes:
            raise ValueError(
                f"{path}: the record that ends at byte {end} is not whole msgpack; whoever wrote it is at fault"
            )


def _whole_frames(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    end = 0
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        length, check = _HEADER.unpack(header)
        if not 0 < length <= RECORD_MAX_BYTES:
            return
        payload = file.read(length)
        if len(payload) < length or crc32c(payload) != check:
            return
        end += _HEADER.size + length
        yield end, payload


def _holds_whole_frame(tail: bytes) -> bool:
    """Whether a whole frame begins anywhere behind the first byte: then the bytes before it are damage, not a torn end.

    Looking everywhere also finds the frames behind a wrong length. Where that costs too much the answer is yes, which
    only sets the file aside.
    """
    checked_bytes = 0
    for start in range(1, len(tail) - _HEADER.size):
        length, check = _HEADER.unpack_from(tail, start)
        first = start + _HEADER.size
        if 0 < length <= len(tail) - first:
            if crc32c(tail[first : first + length]) == check:
                return True
            checked_bytes += length
            if checked_bytes > _SEARCH_MAX_BYTES:
                return True
    return False
