"""Bodies of many jobs, cut into jobs while they arrive: lines, the items of a JSON array, msgpack maps.

A reader is fed pieces of any size and yields what each completes: an item to be decoded, or Unreadable where one is too
long to be held. It holds one item at most, and looks at each byte once. It judges how items follow each other, not what
is in them; where that is beyond reading it raises ValueError. Each reader belongs to one request.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

import msgpack
import msgspec

from .records import JobRequest

#: Bytes that are handed to the msgpack reader at a time: it looks at an item's size in between.
_STEP_BYTES: Final = 64 * 1024
#: A string as far as it goes, its end included if it is there; or what makes the structure of JSON.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[\[\]{},]', re.DOTALL)
_STRING_REST: Final = re.compile(rb'(?:[^"\\]++|\\.)*+("?)', re.DOTALL)
_decode_json: Final = msgspec.json.Decoder(JobRequest).decode


class Unreadable(NamedTuple):
    """An item that cannot be decoded.

    Attributes:
        why: What is wrong with it.
    """

    why: str


class Reader(Protocol):
    """Cuts one body into items."""

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Yield the items that a piece completes; raises ValueError where the rest cannot be read."""

    def end(self) -> Iterator[Any]:
        """Yield the item that the body's end completes; raises ValueError where it ends too early."""

    def decode(self, item: Any) -> JobRequest:
        """Return an item's job; raises ValueError, and RecursionError."""


class Lines:
    """A job a line; blank lines count for nothing.

    Args:
        max_bytes: A longer line is unreadable, and not held.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._skipping = False

    def feed(self, piece: bytes) -> Iterator[bytes | Unreadable]:
        """Yield the lines that a piece completes."""
        *lines, last = piece.split(b"\n")
        if lines and (self._rest or self._skipping):
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
            if self._skipping:
                self._skipping = False
                del lines[0]
        for line in lines:
            if len(line) > self._max_bytes:
                yield too_long(self._max_bytes)
            elif line and not line.isspace():
                yield line
        if not self._skipping:
            self._rest += last
            if len(self._rest) > self._max_bytes:
                self._rest.clear()
                self._skipping = True
                yield too_long(self._max_bytes)

    def end(self) -> Iterator[bytes]:
        """Yield the last line, which need not end as the others do."""
        if self._rest.strip():
            yield bytes(self._rest)

    def decode(self, item: bytes) -> JobRequest:
        """Return a line's job."""
        return _decode_json(item)


class Array:
    """The items of a JSON array.

    Args:
        max_bytes: A longer item is unreadable, and not held.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()  # from the present item's begin on
        self._at = 0  # how much of it was looked at
        self._depth = 0
        self._count = 0
        self._in_string = self._skipping = self._is_over = False

    def feed(self, piece: bytes) -> Iterator[bytes | Unreadable]:
        """Yield the items that a piece completes.

        Raises:
            ValueError: it is no array, or goes on behind it.
        """
        self._held += piece
        if self._depth == 0 and not self._is_over:
            begin = self._held.lstrip()
            if not begin:
                self._held.clear()
                return
            if not begin.startswith(b"["):
                raise ValueError("it does not begin with a bracket")
            self._held, self._depth = begin[1:], 1
        while (cut := self._next_cut()) >= 0:
            item = bytes(self._held[:cut])
            del self._held[: cut + 1]
            self._at = 0
            if self._skipping:
                self._skipping = False
            elif len(item) > self._max_bytes:
                yield too_long(self._max_bytes)
            elif not (self._is_over and self._count == 0 and not item.strip()):  # [] has none
                yield item
            self._count += 1
        if self._is_over:
            if self._held.strip():
                raise ValueError("it goes on behind the array's end")
            self._held.clear()
        elif self._skipping or len(self._held) > self._max_bytes:
            if not self._skipping:
                yield too_long(self._max_bytes)
            self._skipping = True
            del self._held[: self._at]
            self._at = 0

    def end(self) -> Iterator[bytes]:
        """Yield nothing.

        Raises:
            ValueError: the array did not end.
        """
        if not self._is_over:
            raise ValueError("it ends before its closing bracket")
        return iter(())

    def decode(self, item: bytes) -> JobRequest:
        """Return an item's job."""
        return _decode_json(item)

    def _next_cut(self) -> int:
        """Return where the present item ends in what is held; -1 where its end is not there yet."""
        if self._is_over or (self._in_string and not self._leave_string()):
            return -1
        for token in _TOKEN.finditer(self._held, self._at):
            mark = token[0][0]
            if mark == 0x22 and not token[1]:
                self._in_string, self._at = True, token.end()
                return -1
            if mark == 0x2C and self._depth == 1:
                return token.start()
            if mark in b"[{":
                self._depth += 1
            elif mark in b"]}":
                self._depth -= 1
                if self._depth == 0:
                    self._is_over = True
                    return token.start()
        self._at = len(self._held)
        return -1

    def _leave_string(self) -> bool:
        rest = _STRING_REST.match(self._held, self._at)
        assert rest is not None
        self._at = rest.end()
        self._in_string = not rest[1]
        return not self._in_string


class Packed:
    """msgpack maps one after the other, or an array of them.

    Args:
        max_bytes: An item that becomes longer ends the reading: what follows it cannot be found.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._unpacker = msgpack.Unpacker(
            raw=False, strict_map_key=False, timestamp=3, max_buffer_size=max_bytes + 2 * _STEP_BYTES,
            ext_hook=_refuse_extension,
        )  # fmt: skip
        self._head = b""
        self._is_begun = False
        self._left = -1  # of an array's items; -1 for maps without an array
        self._fed_bytes = self._read_bytes = 0

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Yield the items that a piece completes.

        Raises:
            ValueError: it is no msgpack, or goes on behind its array, or an item is too long.
        """
        if not self._is_begun:
            piece = self._begin(self._head + piece)
        for first in range(0, len(piece), _STEP_BYTES):
            step = piece[first : first + _STEP_BYTES]
            self._unpacker.feed(step)
            self._fed_bytes += len(step)
            yield from self._complete()
            if self._fed_bytes - self._read_bytes > self._max_bytes + _STEP_BYTES:
                raise ValueError(too_long(self._max_bytes).why)

    def end(self) -> Iterator[Any]:
        """Yield nothing.

        Raises:
            ValueError: it ended inside an item or an array.
        """
        if self._head or self._fed_bytes > self._read_bytes or self._left > 0:
            raise ValueError("it ends inside an item, or before the last one that its array announces")
        return iter(())

    def decode(self, item: Any) -> JobRequest:
        """Return an item's job."""
        return msgspec.convert(item, JobRequest)

    def _begin(self, begin: bytes) -> bytes:
        """Return what follows the header of an array, where there is one and it is complete."""
        if not begin:
            return b""
        mark = begin[0]
        size = 1 if 0x90 <= mark <= 0x9F else {0xDC: 3, 0xDD: 5}.get(mark, 0)
        if len(begin) < size:
            self._head = begin
            return b""
        self._head, self._is_begun = b"", True
        if size:
            self._left = mark & 0x0F if size == 1 else int.from_bytes(begin[1:size], "big")
        return begin[size:]

    def _complete(self) -> Iterator[Any]:
        while self._fed_bytes > self._read_bytes:
            if self._left == 0:
                raise ValueError("it goes on behind the array's end")
            try:
                item = self._unpacker.unpack()
            except msgpack.OutOfData:
                return
            except (ValueError, TypeError, OverflowError) as error:  # keys that are none; a time that no datetime holds
                raise ValueError(str(error) or type(error).__name__) from None
            size_bytes = self._unpacker.tell() - self._read_bytes
            self._read_bytes += size_bytes
            self._left -= self._left > 0
            yield item if size_bytes <= self._max_bytes else too_long(self._max_bytes)


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"an extension of type {code} ({len(data)} bytes): only timestamps (-1) are known here")


class Unnamed:
    """Lines or an array, whichever it begins as: what `curl -d` sends calls itself a form.

    Args:
        max_bytes: As for both.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._chosen: Lines | Array | None = None

    def feed(self, piece: bytes) -> Iterator[bytes | Unreadable]:
        """Yield the items that a piece completes."""
        if self._chosen is None:
            piece = piece.lstrip()
            if not piece:
                return iter(())
            self._chosen = Array(self._max_bytes) if piece.startswith(b"[") else Lines(self._max_bytes)
        return self._chosen.feed(piece)

    def end(self) -> Iterator[bytes]:
        """Yield the item that the end completes."""
        return self._chosen.end() if self._chosen is not None else iter(())

    def decode(self, item: bytes) -> JobRequest:
        """Return an item's job."""
        return _decode_json(item)


def too_long(max_bytes: int) -> Unreadable:
    """Return what an item is that is too long to be held."""
    return Unreadable(
        f"the job has more than {max_bytes:,} bytes, which is max_payload; send where the data is instead"
    )
