"""What bodies hold in memory while their rest is on its way: bounded over all requests, as each one is by itself.

A body that came in one piece is not counted, since it is gone as soon as it was read. Batches are not counted either:
what is held of one is bounded whatever its size (two parts, batch.py; an unfinished job, streams.py; what was read
ahead, bodies.py; its report), but over all of them only by the number of connections. Nobody waits for room here: ten
thousand that wait hold what they have, so whoever finds no room is told to come again. Owned by one event loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class Held:
    """Counts the bytes of bodies that have not ended.

    Args:
        max_bytes: How many there may be.

    Attributes:
        size_bytes: How many there are.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.size_bytes = 0

    @contextmanager
    def body(self) -> Iterator["HeldBody"]:
        """Yield what counts one body, until the block ends."""
        body = HeldBody(self)
        try:
            yield body
        finally:
            self.size_bytes -= body.size_bytes

    def add(self, size_bytes: int) -> bool:
        """Count further bytes; False where there is no room for them, and then they are not counted."""
        if self.size_bytes + size_bytes > self._max_bytes:
            return False
        self.size_bytes += size_bytes
        return True


class HeldBody:
    """One body's share.

    Attributes:
        size_bytes: What it holds.
    """

    __slots__ = ("_held", "size_bytes")

    def __init__(self, held: Held) -> None:
        self._held = held
        self.size_bytes = 0

    def add(self, size_bytes: int) -> bool:
        """Count further bytes of it; False where there is no room for them."""
        if not self._held.add(size_bytes):
            return False
        self.size_bytes += size_bytes
        return True
