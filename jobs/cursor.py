"""Cursors: the place of a reader in the events of each queue, as text of bounded length.

A text that would become too long names the queues that moved last, and for all others a time: their entries begin with
the server's milliseconds, so they are read on from there. Some of theirs may then come twice, and none is left out.
No I/O and no clock.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from .errors import InvalidArguments

#: What stands for "from the beginning" where a cursor is expected.
BEGINNING: Final = "0"
#: The place in a stream before its first entry.
NOWHERE: Final = "0-0"
#: A cursor travels in a header (Last-Event-ID), for which many servers and proxies have 8 KiB to 32 KiB.
TEXT_MAX_CHARS: Final = 8 * 1024
#: So long before what was read last, nothing can come to light any more that was not read: queues that are new are
#: looked for before each read, and a server's clock may be set back a little.
MARGIN_MS: Final = 10_000
#: No queue's name has such a sign.
_OTHERS: Final = "ALL@"
_OTHERS_MAX_CHARS: Final = len(_OTHERS) + 21


class Cursor:
    """Where a reader is in each of its queues; its text is what an event's `cursor` holds.

    Text: `QUEUE=ENTRY`, or `QUEUE=ENTRY.ROW` within a batch, and `ALL@MS` for the queues that are not named, joined by
    commas; "0" is the beginning of all queues.

    Args:
        places: Queue -> the entry read last, and the row read last in it, None for all of them.
        since_ms: Where queues without a place are read from.

    Attributes:
        places: As given; those that moved last come last.
        passed_ms: What any queue had before was read.
    """

    __slots__ = ("_since_ms", "passed_ms", "places")

    def __init__(self, places: Mapping[str, tuple[str, int | None]] | None = None, since_ms: int = 0) -> None:
        self.places = dict(places or {})
        self._since_ms = self.passed_ms = since_ms

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read a cursor's text.

        Raises:
            InvalidArguments: it is none; the caller's fault.
        """
        places: dict[str, tuple[str, int | None]] = {}
        since_ms = 0
        for part in text.split(",") if text != BEGINNING else ():
            queue, equals, place = part.partition("=")
            entry, dot, row = place.partition(".")
            at, dash, number = entry.partition("-")
            others = part.removeprefix(_OTHERS)
            if others != part and _is_number(others):
                since_ms = int(others)
            elif queue and equals and dash and _is_number(at) and _is_number(number) and (not dot or _is_number(row)):
                places[queue] = (entry, int(row) if dot else None)
            else:
                raise InvalidArguments(
                    f"after={_shown(text)} is no cursor: use the cursor of an event as it came, {BEGINNING!r} for all "
                    f"that is kept, or None for what happens from now on"
                )
        return cls(places, since_ms)

    @property
    def text(self) -> str:
        """What `parse` reads."""
        return ",".join(self._parts("", TEXT_MAX_CHARS)) or BEGINNING

    def behind(self, queue: str) -> str:
        """Return the text behind this queue's part, which comes first."""
        # Its own part: a name, two numbers of up to 20 digits, and a row.
        return "".join(f",{part}" for part in self._parts(queue, TEXT_MAX_CHARS - len(queue) - 50))

    def move(self, queue: str, entry: str, row: int | None = None) -> None:
        """Take note of what was read last of a queue."""
        self.places.pop(queue, None)
        self.places[queue] = (entry, row)

    def read_until(self, at_ms: int) -> None:
        """Take note that of all queues what they had at a time was read."""
        self.passed_ms = max(self.passed_ms, at_ms - MARGIN_MS)

    def read_from(self, queue: str) -> str:
        """Return the entry behind which to read on; a batch that was read in part is read again."""
        place = self.places.get(queue)
        if place is None:
            return before(f"{self._since_ms}-0") if self._since_ms else NOWHERE
        entry, row = place
        return entry if row is None else before(entry)

    def skip(self, queue: str, entry: str) -> int:
        """Return how many rows of an entry were seen before."""
        last, row = self.places.get(queue, (NOWHERE, None))
        return row + 1 if row is not None and entry == last else 0

    def _parts(self, but: str, left_chars: int) -> Iterator[str]:
        """Yield the parts of all queues but one, as many as there is room for: those that moved last first."""
        left_chars -= _OTHERS_MAX_CHARS
        since_ms = self._since_ms
        for queue, (entry, row) in reversed(self.places.items()):
            if queue == but:
                continue
            part = f"{queue}={entry}" if row is None else f"{queue}={entry}.{row}"
            left_chars -= len(part) + 1
            if left_chars < 0:
                # Without a time there is no other way than from the beginning.
                yield f"{_OTHERS}{self.passed_ms}"
                return
            yield part
        if since_ms:
            yield f"{_OTHERS}{max(since_ms, self.passed_ms)}"


def before(entry: str) -> str:
    """Return the entry id right before one, whether there is such an entry or not."""
    at, _, number = entry.partition("-")
    if int(number):
        return f"{at}-{int(number) - 1}"
    return f"{max(0, int(at) - 1)}-{2**64 - 1}"


def _is_number(text: str) -> bool:
    return len(text) <= 20 and text.isascii() and text.isdigit()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
