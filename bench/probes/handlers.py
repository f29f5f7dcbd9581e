"""The handlers that are measured. In a module of their own, for child processes import theirs by name."""

import mmap
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

#: What a job carries unless its size is the question.
TEXT = "0123456789abcdef"

type_of_handler = Callable[[int, int, str], Awaitable[None] | None]


class Starts:
    """Counts how often each job's handler was started, and when the first was.

    Args:
        jobs: How many there are; each has its number as first argument.
        sparse: Few of them will start: the table takes memory only where it is written, for memory is measured.
    """

    def __init__(self, jobs: int, *, sparse: bool = False) -> None:
        self.seen = memoryview(mmap.mmap(-1, jobs)) if sparse else bytearray(jobs)
        self.began_s = 0.0

    def handler(self, kind: str, sleep_ms: float) -> type_of_handler:
        """Return a handler that counts: async or thread; a process's cannot count here."""
        if kind == "process":
            return burn
        if kind == "thread":
            return self._blocking(sleep_ms / 1000)
        return self._sleeping(sleep_ms / 1000) if sleep_ms else self._nothing()

    def duplicates(self) -> int:
        """Return how many starts there were beyond the first of a job."""
        seen = bytes(self.seen)
        return sum(seen) - (len(seen) - seen.count(0))

    def _nothing(self) -> type_of_handler:
        seen = self.seen

        async def nothing(number: int, other: int, text: str) -> None:
            self.began_s = self.began_s or time.perf_counter()
            seen[number] += 1

        return nothing

    def _sleeping(self, sleep_s: float) -> type_of_handler:
        async def sleeping(number: int, other: int, text: str) -> None:
            self.began_s = self.began_s or time.perf_counter()
            self.seen[number] += 1
            await anyio.sleep(sleep_s)

        return sleeping

    def _blocking(self, sleep_s: float) -> type_of_handler:
        def blocking(number: int, other: int, text: str) -> None:
            self.began_s = self.began_s or time.perf_counter()
            self.seen[number] += 1
            time.sleep(sleep_s)

        return blocking


def burn(number: int, other: int, text: str) -> None:
    """Use 1 ms of CPU."""
    until_s = time.thread_time() + 0.001
    while time.thread_time() < until_s:
        pass


def items(jobs: int, text: str = TEXT, first: int = 0) -> Any:
    """Yield the arguments of each job."""
    return ((number, 2, text) for number in range(first, first + jobs))
