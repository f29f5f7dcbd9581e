"""What handlers leave behind: how many ran, how long each had waited, which ones ran.

Each worker process has a file of its own, mapped into memory, named by its process id; the driver reads them all. A
mark is a store into the map, the same for every peer, and survives kill -9. Nothing goes over Redis. bullmq.mjs writes
the same file.
"""

import contextlib
import itertools
import mmap
import os
import pathlib
import threading
import time

from .plan import read_plan

#: Cells of eight bytes. The nth job done writes n into one of the first, in turn; the greatest is the count. So threads
#: need no lock, which would cost more than all else here. Then one for each stamp, or slow job begun and done.
COUNT_CELLS, FIRST_CELL, ROOM = 64, 64, 4096
BYTES = 8 * (FIRST_CELL + 2 * ROOM)


class Marks:
    """The file of this process, made on first use and again after a fork."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock, self._next = threading.Lock(), itertools.count(1).__next__
        self._cells: memoryview | None = None

    def _open(self) -> memoryview:
        path = os.path.join(self._folder, f"{os.getpid()}.marks")
        with open(path, "w+b") as file:
            file.truncate(BYTES)
            self._cells = memoryview(mmap.mmap(file.fileno(), BYTES)).cast("q")
        return self._cells

    def done(self) -> int:
        """Count a job; returns how many there are."""
        count = self._next()
        try:
            self._cells[count % COUNT_CELLS] = count  # type: ignore[index]
        except TypeError:  # the first one: there is no file yet
            with self._lock:
                (self._cells or self._open())[count % COUNT_CELLS] = count
        return count

    def stamp(self, sent_us: int) -> None:
        """Count a job and write down how long ago it was submitted."""
        waited_ns = time.monotonic_ns() - sent_us * 1000
        with self._lock:
            cells = self._cells or self._open()
            cells[FIRST_CELL + self.done() % ROOM] = waited_ns

    def begin(self, number: int) -> None:
        """Say that a slow job's handler began."""
        with self._lock:
            cells = self._cells or self._open()
            cells[FIRST_CELL + number] += 1

    def end(self, number: int) -> None:
        """Say that a slow job's handler reached its end."""
        with self._lock:
            cells = self._cells or self._open()
            cells[FIRST_CELL + ROOM + number] += 1
        self.done()


marks = Marks(read_plan().marks)


def _cells(path: pathlib.Path, count: int) -> memoryview:
    with path.open("rb") as file:
        return memoryview(file.read(8 * count).ljust(8 * count, b"\0")).cast("q")


def look(folder: str) -> dict[str, int]:
    """Return how many jobs each process has counted."""
    done = {}
    for path in pathlib.Path(folder).glob("*.marks"):
        with contextlib.suppress(OSError):
            done[path.stem] = max(_cells(path, COUNT_CELLS))
    return done


def waits_ms(folder: str) -> list[float]:
    """Return how long each stamped job waited, in the order in which they ran."""
    waits: list[float] = []
    for path in pathlib.Path(folder).glob("*.marks"):
        cells = _cells(path, FIRST_CELL + ROOM)
        waits += [cells[FIRST_CELL + at] / 1e6 for at in range(1, 1 + min(max(cells[:COUNT_CELLS]), ROOM - 1))]
    return waits


def runs(folder: str, count: int) -> tuple[list[int], list[int]]:
    """Return how often each slow job began, and how often it reached its end."""
    begun, ended = [0] * count, [0] * count
    for path in pathlib.Path(folder).glob("*.marks"):
        cells = _cells(path, FIRST_CELL + 2 * ROOM)
        for number in range(count):
            begun[number] += cells[FIRST_CELL + number]
            ended[number] += cells[FIRST_CELL + ROOM + number]
    return begun, ended
