"""The line before one pool: submitters that wait for room, first come first served.

It promises that who is let in finds the room still there, that who gives up passes it on, and that a newcomer does not
overtake those who wait. Each pool has a line of its own: a full one holds up nobody else. It belongs to one event loop.
"""

from collections import deque

import anyio

from headrace.workers.pool import Pool


class Line:
    """Those who wait for room in one pool.

    A newcomer finds a place at once where nobody waits and the pool has more room than was promised.

    Args:
        pool: The pool.
        backlog: What may wait in it beyond its free slots.

    Attributes:
        pool: The pool.
        waiting: Those who wait.
        promised: Places kept for those who were let in and have not come yet.
    """

    __slots__ = ("_backlog", "_is_closed", "pool", "promised", "waiting")

    def __init__(self, pool: Pool, backlog: int) -> None:
        self.pool = pool
        self._backlog = backlog
        self._is_closed = False
        self.waiting: deque[anyio.Event] = deque()
        self.promised = 0

    async def wait(self) -> None:
        """Return once there is a place, which the caller takes before it waits for anything else, or once closed."""
        if self._is_closed:
            return
        event = anyio.Event()
        self.waiting.append(event)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.promised -= 1
                self.let_in()
            else:
                self.waiting.remove(event)
            raise
        self.promised -= 1

    def let_in(self) -> None:
        """Let in as many as there is room for."""
        waiting = self.waiting
        if waiting:
            for _ in range(min(len(waiting), self.pool.room(self._backlog) - self.promised)):
                self.promised += 1
                waiting.popleft().set()

    def close(self) -> None:
        """Send everybody on: there will be no more room."""
        self._is_closed = True
        while self.waiting:
            self.promised += 1
            self.waiting.popleft().set()
