"""Server-sent events as they arrive in pieces: the lines, the fields, and the place to go on from.

Reads what the WHATWG's specification has: CR, LF or both end a line, a comment counts as a sign of life, an event
without data is none. Owns what has arrived of the event at hand, which is bounded.
"""

import codecs
from typing import Final

import msgspec

from headrace.jobs.errors import HeadraceError

#: An event of ours takes some hundred bytes.
EVENT_MAX_CHARS: Final = 1024 * 1024


class Told(msgspec.Struct, frozen=True):
    """One event of a stream.

    Attributes:
        kind: Its `event` field; "message" where it has none.
        data: Its data.
        id: The place behind it.
    """

    kind: str
    data: str
    id: str


class Stream:
    """Takes the pieces of one connection's stream.

    Args:
        last_id: The place from which the connection goes on.

    Attributes:
        last_id: The place behind the last event.
        retry_s: Seconds to wait before connecting again, as the server says; None where it does not.
    """

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_s: float | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._kind, self._data, self._id = "", [], last_id  # type: ignore[var-annotated]

    def feed(self, piece: bytes) -> list[Told]:
        """Take a piece and return the events that are complete by it.

        Raises:
            HeadraceError: what arrives is no stream of events of ours: one event has no end.
        """
        text = self._rest + self._decoder.decode(piece)
        if text.endswith("\r"):  # the LF that belongs to it may come with the next piece
            text, held = text[:-1], "\r"
        else:
            held = ""
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = rest + held
        found = []
        for line in lines:
            if line:
                self._take(line)
            else:
                told = self._complete()
                if told is not None:
                    found.append(told)
        if len(self._rest) + sum(map(len, self._data)) > EVENT_MAX_CHARS:
            raise HeadraceError(f"the stream has an event of more than {EVENT_MAX_CHARS:,} characters; is it ours?")
        return found

    def _take(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._kind = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value) / 1000

    def _complete(self) -> Told | None:
        kind, data, self._kind, self._data = self._kind or "message", self._data, "", []
        self.last_id = self._id
        return Told(kind, "\n".join(data), self._id) if data else None
