"""Patience: a Ctrl-C that comes while a batch is on its way waits until the batch has come back; a second one does not.

So what a command says that it did is what it did. It owns SIGINT while it listens, in the main thread only.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Patience:
    """Turns SIGINT into KeyboardInterrupt at once outside of `uncut`, and at its end inside."""

    def __init__(self) -> None:
        self._busy = False
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Have SIGINT; give it back at the end."""
        before = signal.signal(signal.SIGINT, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def uncut(self) -> Iterator[None]:
        """Let what is inside end.

        Raises:
            KeyboardInterrupt: somebody pressed Ctrl-C meanwhile.
        """
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._asked:
            raise KeyboardInterrupt

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked or not self._busy:
            raise KeyboardInterrupt
        self._asked = True
