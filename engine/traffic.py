"""What this process moved: bytes to and from its servers, bytes to files, and how long disks took to confirm them.

One for the process, as its memory and processor time are, whichever engines and workers are in it. Counting is safe
from any thread and costs one uncontended lock for each batch; a forked child begins at nought.
"""

import os
import threading
from typing import Final

#: The last 60 seconds, the one that runs among them, and room to spare.
_SECONDS: Final = 64
WINDOW_S: Final = 60


class Traffic:
    """Counts what was moved.

    Attributes:
        received_bytes: From servers, as programs see them: without TLS, headers or acknowledgements.
        sent_bytes: To servers.
        written_bytes: To files.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self.received_bytes = 0
        self.sent_bytes = 0
        self.written_bytes = 0
        self._longest = [(0, 0.0)] * _SECONDS  #: of each second: which, and the longest wait that ended in it

    def receive(self, count: int) -> None:
        """Count bytes that came from a server."""
        with self._lock:
            self.received_bytes += count

    def send(self, count: int) -> None:
        """Count bytes that went to a server."""
        with self._lock:
            self.sent_bytes += count

    def write(self, count: int) -> None:
        """Count bytes that were written to a file."""
        with self._lock:
            self.written_bytes += count

    def confirm(self, now_s: float, took_s: float) -> None:
        """Count a wait for a disk that is over at monotonic time `now_s`."""
        second = int(now_s)
        with self._lock:
            last, longest_s = self._longest[second % _SECONDS]
            self._longest[second % _SECONDS] = (second, max(took_s, longest_s) if last == second else took_s)

    def longest_wait_s(self, now_s: float) -> float | None:
        """Return the longest wait for a disk in the last WINDOW_S; None when there was none."""
        with self._lock:
            waits_s = [took_s for second, took_s in self._longest if took_s and now_s - WINDOW_S <= second <= now_s]
        return max(waits_s, default=None)


#: Of this process.
moved: Final = Traffic()
os.register_at_fork(after_in_child=moved._begin)  # noqa: SLF001 - its lock may have been held by another thread
