"""The outbox: where slots leave their outcomes, and the completer takes them from, a batch at a time.

It promises that an outcome put here is taken exactly once, in order. Its bound is the one that slows the whole engine
down: while it is full, slots take no further work, so the pool's backlog fills and the fetch stops. Owned by one event
loop; nothing here is called from another thread.
"""

import time

import anyio

from headrace.jobs.outcome import Outcome


class Outbox:
    """A bounded list of outcomes with two bells: one for the completer, one for slots that wait for room.

    Args:
        bound: Outcomes at which slots wait; what runs then may still be put, so the list ends a little above.
        count_due: Outcomes at which a waiting completer is woken before the age of the batch is; the bound, if lower.
    """

    __slots__ = ("_any", "_due", "_room", "bound", "count_due", "first_at_s", "in_hand", "items", "put_count")

    def __init__(self, bound: int, count_due: int) -> None:
        self.bound = bound
        self.count_due = min(count_due, bound)
        self.items: list[Outcome] = []
        self.first_at_s = 0.0
        self.in_hand = 0
        self.put_count = 0
        self._any: anyio.Event | None = None
        self._due: anyio.Event | None = None
        self._room: list[anyio.Event] = []

    def __len__(self) -> int:
        return len(self.items)

    @property
    def is_full(self) -> bool:
        """Whether slots have to wait: what was put and what is being written count alike."""
        return len(self.items) + self.in_hand >= self.bound

    def put(self, outcome: Outcome) -> None:
        """Leave an outcome; never waits."""
        items = self.items
        items.append(outcome)
        self.put_count += 1
        count = len(items)
        if count == 1:
            self.first_at_s = time.monotonic()
            if self._any is not None:
                self._any.set()
        elif count == self.count_due and self._due is not None:
            self._due.set()

    def nudge(self) -> None:
        """Say that no further outcome is coming soon, so that the completer need not wait for company."""
        if self._due is not None:
            self._due.set()

    def take(self, count_max: int) -> list[Outcome]:
        """Return up to `count_max` outcomes, oldest first; they count as in hand until `written`."""
        items = self.items
        if len(items) <= count_max:
            batch, self.items = items, []
        else:
            batch, self.items = items[:count_max], items[count_max:]
            self.first_at_s = time.monotonic()
        self.in_hand = len(batch)
        return batch

    def written(self) -> None:
        """Say that what was taken last has been written; lets waiting slots go on."""
        self.in_hand = 0
        if self._room and not self.is_full:
            for event in self._room:
                event.set()
            self._room.clear()

    async def wait_any(self) -> None:
        """Return once there is an outcome."""
        while not self.items:
            self._any = anyio.Event()
            try:
                await self._any.wait()
            finally:
                self._any = None

    async def wait_due(self, wait_s: float) -> None:
        """Return after `wait_s`, or earlier: at `count_due` outcomes, or when nudged."""
        self._due = anyio.Event()
        try:
            with anyio.move_on_after(wait_s):
                await self._due.wait()
        finally:
            self._due = None

    async def wait_room(self) -> None:
        """Return once the outbox is not full."""
        while self.is_full:
            event = anyio.Event()
            self._room.append(event)
            await event.wait()
