"""Locks on files, held by the kernel for an open file: a killed process drops its locks, whatever it was doing.

A lock belongs to the open file, so two of one process exclude each other, and a child that inherits the open file
holds the lock too. Waiting is polling, because a blocked flock() could not be given up. Each lock owns its descriptor.
"""

import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

#: How often a waiter asks again: starting the server takes tens of milliseconds.
POLL_S = 0.005


class FileLock:
    """A lock on one file, made when it is opened and never deleted.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def fileno(self) -> int:
        """Return the descriptor, for handing the lock on to a child."""
        return self._fd

    def take_nowait(self, *, shared: bool = False) -> bool:
        """Take the lock, or change its kind; return False when others have it (a lock held before is lost then)."""
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def take(self, *, shared: bool = False, within_s: float) -> bool:
        """Take the lock within `within_s` seconds; return whether it was taken."""
        deadline_s = time.monotonic() + within_s
        while not self.take_nowait(shared=shared):
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(POLL_S)
        return True

    def is_current(self) -> bool:
        """Return whether the path still leads to the file that was opened (folders do get deleted under programs)."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def unlock(self) -> None:
        """Drop the lock for everybody who shares the open file, children that were forked included; close it."""
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self.close()

    def close(self) -> None:
        """Close our descriptor; the lock stands for as long as another process has the open file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.unlock()
