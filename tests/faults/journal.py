"""The journal of truth: what handlers did and what producers were told, in a file outside the server.

Each line is one `write` to a file opened with O_APPEND, and on the disk before the call returns, so that no kill of
whatever process loses or tears one. A line is: what, subject, process id, monotonic seconds, further words. The clock
is the machine's, so lines of all processes can be compared.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

#: Generous: what is waited for takes a second or two.
PATIENCE_S = 30.0


class Line(NamedTuple):
    """One line.

    Attributes:
        what: "start", "end" or "cut" of a job; "try" and "ok" of a submission.
        subject: The job's id; of a "try" the number that the producer gave it.
        pid: Of the process that wrote it.
        at_s: When, by the machine's monotonic clock.
        words: What else it says.
    """

    what: str
    subject: str
    pid: int
    at_s: float
    words: tuple[str, ...]


class Journal:
    """A journal file, for writing and for reading.

    Args:
        path: Where it is; made at the first note.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = -1

    def note(self, what: str, subject: object, *words: object) -> None:
        """Add a line, durably."""
        if self._file < 0:
            self._file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        text = " ".join(map(str, (what, subject, os.getpid(), f"{time.monotonic():.4f}", *words)))
        os.write(self._file, f"{text}\n".encode())
        os.fsync(self._file)

    @property
    def size(self) -> int:
        """Bytes so far: a point in time."""
        return self.path.stat().st_size if self.path.exists() else 0

    def lines(self, what: str = "", pid: int = 0, until: int = -1) -> Iterator[Line]:
        """Yield lines in order.

        Args:
            what: Only these; all by default.
            pid: Only of this process; 0 for all.
            until: Only what was there at this size; -1 for all.
        """
        if not self.path.exists():
            return
        text = self.path.read_bytes()[: until if until >= 0 else None].decode()
        for row in text.splitlines():
            kind, subject, process, at_s, *words = row.split(" ")
            if (not what or kind == what) and (not pid or int(process) == pid):
                yield Line(kind, subject, int(process), float(at_s), tuple(words))

    def count(self, what: str = "", pid: int = 0) -> int:
        """Return how many such lines there are."""
        return sum(1 for _ in self.lines(what, pid))

    def wait(self, what: str, count: int = 1, pid: int = 0) -> None:
        """Return once there are so many such lines."""
        until(lambda: self.count(what, pid) >= count, f"{count} x {what!r} in {self.path}")


def until(is_so: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return once something is so; fail, saying what was waited for, after `patience_s`."""
    ends_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < ends_s, f"waited {patience_s} s in vain for {what}"
        time.sleep(0.01)
