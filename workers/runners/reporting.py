"""How a child tells of its handler's progress: a thread sends the newest note to the runner, a few in a second.

The handler only leaves its note and never waits for the socket. What it said last is sent before its answer, whenever
that was. The thread is started by the first note of the child's life, so a child whose handlers say nothing has none.
Its lock keeps a note and an answer from being written into each other.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

#: The runner's side writes every 200 ms; twice as often keeps what it writes fresh.
SEND_EVERY_S: Final = 0.1
_encode = msgspec.msgpack.Encoder().encode


class Reporter:
    """Sends notes of progress.

    Args:
        send: Writes one packed note to the runner; raises OSError when nobody is there any more.

    Attributes:
        writing: To be held by whoever writes to the runner.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self.writing = threading.Lock()
        self._send = send
        self._call = 0
        #: The number of a call and its newest note; taken and replaced in one step each.
        self._news: deque[tuple[int, bytes]] = deque(maxlen=1)
        self._noted = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> Callable[[str, float, float | None], None]:
        """Return what takes the notes of the next call; once that call has ended, it takes none."""
        mine = self._call

        def note(_job_id: str, done: float, total: float | None) -> None:
            if mine != self._call:  # from a thread that its handler left behind
                return
            self._news.append((mine, _encode((done, total))))
            self._noted.set()
            if self._thread is None:
                self._start()

        return note

    def end(self) -> None:
        """Send what the call said last, and take nothing more from it; its answer comes next."""
        with self.writing:
            self._send_news()
            self._call += 1

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="headrace-progress", daemon=True)
        # Where no thread can be had, what is said last is sent all the same.
        with self._starting, suppress(RuntimeError):
            if self._thread is None:
                thread.start()
                self._thread = thread

    def _send_news(self) -> None:
        with suppress(IndexError):  # there is none
            call, note = self._news.pop()
            if call == self._call:
                self._send(note)

    def _run(self) -> None:
        pause = threading.Event()
        with suppress(OSError):  # the runner is gone, and the child goes with it
            while self._noted.wait():
                self._noted.clear()
                with self.writing:
                    self._send_news()
                pause.wait(SEND_EVERY_S)
