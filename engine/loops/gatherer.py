"""The gatherer: lets jobs of a batch handler wait for company, and hands them to their pool as one piece of work.

A call starts with what is there once it is full, or `batch_linger` after its first job came, as soon as a slot is free.
It promises that each job still ends in an Outcome of its own: the outbox takes a call's outcome apart, so everything
behind it knows jobs only. A worker without batch handlers has none of this. Owned by one worker's loop.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import anyio
import msgspec

from headrace.jobs.batch import BatchRule
from headrace.jobs.failures import failure_of
from headrace.jobs.outcome import Failure, Outcome, Status
from headrace.workers.groups import plain_group
from headrace.workers.outbox import Outbox
from headrace.workers.pool import Pool
from headrace.workers.slot import Slot
from headrace.workers.work import Work

from .assignment import Assignment, BoundHandler
from .dispatcher import Dispatcher

#: How long jobs that are due wait here for a slot; then they wait in the pool, where `prefetch_ttl` holds for them.
HOLD_S: Final = 1.0


class BatchWork:
    """Several jobs of one handler, run by one call in one slot.

    Args:
        items: The jobs.
        came_s: Monotonic seconds when the first of them came; now, when it came just now.

    Attributes:
        items: The jobs; some may be withdrawn before it starts.
        came_s: As given.
        label: The handler's name.
        timeout_s: Seconds the call may run; 0 for no limit.
        offered_at_s: Monotonic seconds when the first of them was queued.
    """

    __slots__ = ("_refused", "came_s", "items", "label", "offered_at_s", "timeout_s")

    def __init__(self, items: Sequence[Assignment], came_s: float | None = None) -> None:
        self.items = items
        self.came_s = time.monotonic() if came_s is None else came_s
        self.label = items[0].label
        self.timeout_s = items[0].timeout_s
        self.offered_at_s = items[0].offered_at_s
        self._refused: dict[int, Failure] = {}

    def start(self, slot: Slot) -> Awaitable[Any]:
        """Run it; called by the slot that took it."""
        return self.items[0].bound.start_batch(self.items, self._refused, slot)

    def withdraw(self, chosen: Callable[[Assignment], bool]) -> list[Assignment]:
        """Take jobs out, and return them, before it starts; with none left it is not to be started."""
        taken, self.items = part(self.items, chosen)
        return taken

    def split(self, outcome: Outcome) -> list[Outcome]:
        """Return an outcome for each job, in order, of what became of the call."""
        values: list[Any] = []
        if outcome.status is Status.SUCCEEDED:
            try:
                values = self._values(outcome.value)
            except BaseException as error:  # noqa: BLE001 - a list of the handler's own class may raise anything
                outcome = msgspec.structs.replace(
                    outcome, status=Status.FAILED, value=None, failure=failure_of(error), exception=error
                )
        given = iter(values)
        return [
            _failed(outcome, work, self._refused[i], None)
            if i in self._refused
            else _one(outcome, work, next(given))
            if values
            else msgspec.structs.replace(outcome, work=work)
            for i, work in enumerate(self.items)
        ]

    def _values(self, value: Any) -> list[Any]:
        """Return what the handler returned as a list; what it raises fails all jobs."""
        wanted = len(self.items) - len(self._refused)
        rule = "a batch handler returns a list with one value or exception for each item, in order"
        if not issubclass(type(value), (list, tuple)):
            raise TypeError(f"{self.label}() returned {type(value).__name__} for {wanted} items; {rule}")
        values = list(value)
        if len(values) != wanted:
            raise ValueError(f"{self.label}() returned {len(values)} results for {wanted} items; {rule}")
        return values


def jobs_of(work: Work | None) -> Sequence[Work]:
    """Return the jobs that work is: one, or those of a batch; none for None."""
    if isinstance(work, BatchWork):
        return work.items
    return () if work is None else (work,)


class SplittingOutbox(Outbox):
    """An outbox that takes the outcome of a call apart: what is counted, bounded and settled are jobs."""

    __slots__ = ()

    def put(self, outcome: Outcome) -> None:
        """Leave an outcome, or those of a batch; never waits."""
        work = outcome.work
        if isinstance(work, BatchWork):
            for each in work.split(outcome):
                super().put(each)
        else:
            super().put(outcome)


class GatheringDispatcher(Dispatcher):
    """A Dispatcher for workers with batch handlers."""

    outbox_class = SplittingOutbox


class Gatherer:
    """Lets the jobs of one handler wait for each other.

    Args:
        bound: The handler.
        pool: Where its calls run.
        ttl_s: The longest that a job waits for company: where `batch_linger` is longer, a call starts then.
    """

    def __init__(self, bound: BoundHandler, pool: Pool, ttl_s: float = math.inf) -> None:
        self.bound = bound
        self._pool = pool
        self._rule = BatchRule(count=bound.batch, age_s=min(bound.batch_linger_s, ttl_s), count_max=bound.batch)
        self._items: list[Assignment] = []
        self._came_s: list[float] = []
        self._changed = anyio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, items: Sequence[Assignment]) -> None:
        """Take jobs; those that fill a call go at once."""
        self._items += items
        self._came_s += [time.monotonic()] * len(items)
        while len(self._items) >= self._rule.count_max:
            self._flush()
        self._changed.set()

    def on_room(self) -> None:
        """Say that a slot may be free."""
        if self._items:
            self._changed.set()

    def take_back(self) -> list[Assignment]:
        """Return the jobs that wait, and forget them."""
        items, self._items, self._came_s = self._items, [], []
        return items

    def withdraw(self, chosen: Callable[[Assignment], bool]) -> list[Assignment]:
        """Take jobs out that wait, and return them."""
        came_s = dict(zip(map(id, self._items), self._came_s, strict=True))
        taken, self._items = part(self._items, chosen)
        self._came_s = [came_s[id(item)] for item in self._items]
        return taken

    def take_old(self, before_s: float) -> list[Assignment]:
        """Take jobs out that came before a monotonic time and for which no slot is free; return them."""
        if self._pool.room(0) > 0:
            return []  # their call is about to start
        count = bisect_left(self._came_s, before_s)
        taken, self._items = self._items[:count], self._items[count:]
        del self._came_s[:count]
        return taken

    async def run(self) -> None:
        """Hand over what is due until cancelled."""
        while True:
            age_s = time.monotonic() - self._came_s[0] if self._items else 0.0
            wait_s = self._rule.wait_s(len(self._items), age_s, idle=False)
            if self._items and wait_s > 0:
                await anyio.sleep(wait_s)
            elif self._items and (self._pool.room(0) > 0 or age_s > self._rule.age_s + HOLD_S):
                self._flush()
            else:  # beyond its time only while no slot could take it: more company costs nothing then
                self._changed = anyio.Event()
                with anyio.move_on_after(HOLD_S if self._items else None):
                    await self._changed.wait()

    def _flush(self) -> None:
        count, came_s = self._rule.count_max, self._came_s[0]
        batch, self._items = self._items[:count], self._items[count:]
        del self._came_s[:count]
        self._pool.offer((BatchWork(batch, came_s),))


class Gathering:
    """The gatherers of one worker.

    Args:
        handlers: Its handlers.
        pools: Its pools, by name.
        ttl_s: The longest that a job waits for company.
    """

    def __init__(self, handlers: Iterable[BoundHandler], pools: Mapping[str, Pool], ttl_s: float = math.inf) -> None:
        self._gatherers: dict[BoundHandler, Gatherer] = {}
        self._of_queue: dict[str, list[Gatherer]] = {}
        self._mixed: set[str] = set()
        for bound in dict.fromkeys(handlers):
            if bound.batch:
                gatherer = self._gatherers[bound] = Gatherer(bound, pools[bound.pool], ttl_s)
                self._of_queue.setdefault(bound.plan.options.queue, []).append(gatherer)
            else:
                self._mixed.add(bound.plan.options.queue)

    @property
    def waiting(self) -> int:
        """Jobs that wait for company."""
        return sum(map(len, self._gatherers.values()))

    @property
    def waiting_max(self) -> int:
        """The bound of `waiting`: one more would fill a call, and it would go."""
        return sum(bound.batch - 1 for bound in self._gatherers)

    def sift(self, batch: Sequence[Assignment]) -> list[Work]:
        """Return what may start now; what waits for company stays here, leased."""
        now: list[Work] = []
        waiting: dict[Gatherer, list[Assignment]] = {}
        for assignment in batch:
            gatherer = self._gatherers.get(assignment.bound)
            if gatherer is None:
                now.append(assignment)
                self._mixed.add(assignment.queue)
            elif _runs_alone(assignment):
                now.append(BatchWork((assignment,)))
            else:
                waiting.setdefault(gatherer, []).append(assignment)
        for gatherer, found in waiting.items():
            gatherer.add(found)
        return now

    def widen(self, queue: str, room: int) -> int:
        """Return how many jobs to fetch from a queue whose pool has room for so many calls.

        Where other handlers' jobs come from the same queue, nobody knows what a fetch will bring: then a job counts as
        a call.
        """
        gatherers = self._of_queue.get(queue)
        if not gatherers or room <= 0:
            return room
        factor = 1 if queue in self._mixed else min(gatherer.bound.batch for gatherer in gatherers)
        return room * factor - sum(map(len, gatherers))

    def on_room(self) -> None:
        """Say that a slot may be free."""
        for gatherer in self._gatherers.values():
            gatherer.on_room()

    def take_back(self) -> list[Assignment]:
        """Return the jobs that wait for company, and forget them."""
        return [item for gatherer in self._gatherers.values() for item in gatherer.take_back()]

    def withdraw(self, chosen: Callable[[Assignment], bool]) -> list[Assignment]:
        """Take jobs out that wait for company, and return them."""
        return [item for gatherer in self._gatherers.values() for item in gatherer.withdraw(chosen)]

    def take_old(self, before_s: float) -> list[Assignment]:
        """Take jobs out that came before a monotonic time and for which no slot is free; return them."""
        return [item for gatherer in self._gatherers.values() for item in gatherer.take_old(before_s)]

    async def run(self) -> None:
        """Run the gatherers until cancelled."""
        async with plain_group() as group:
            for gatherer in self._gatherers.values():
                group.start_soon(gatherer.run)


def part(
    items: Sequence[Assignment], chosen: Callable[[Assignment], bool]
) -> tuple[list[Assignment], list[Assignment]]:
    """Return which jobs were chosen, and which were not, in order."""
    taken: list[Assignment] = []
    kept: list[Assignment] = []
    for item in items:
        (taken if chosen(item) else kept).append(item)
    return taken, kept


def _runs_alone(assignment: Assignment) -> bool:
    """Return whether a job gets a call of its own.

    One with a timeout of its own, which would be its neighbours' too; and one whose earlier start ended without an
    outcome, for it may be what kills workers.
    """
    options = assignment.envelope.options
    return (
        assignment.timeout_s != assignment.bound.timeout_s
        or assignment.lease.starts > 0
        or (options is not None and options.deliveries > 0)
    )


def _one(outcome: Outcome, work: Assignment, value: Any) -> Outcome:
    if issubclass(type(value), BaseException):
        return _failed(outcome, work, failure_of(value), value)
    return msgspec.structs.replace(outcome, work=work, value=value)


def _failed(outcome: Outcome, work: Assignment, failure: Failure, error: BaseException | None) -> Outcome:
    return Outcome(work, Status.FAILED, None, failure, error, outcome.started_at_s, outcome.run_s)
