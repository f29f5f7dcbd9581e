"""The pool: a fixed set of slots, which is the bounded semaphore of the engine.

A slot is a loop that lives as long as the pool: it takes work from `ready`, awaits it, and leaves one Outcome in the
outbox. There is no coroutine, event or cancel scope for each job: a slot keeps one scope and writes its deadline into a
field, and the watchdog cancels the overdue. The pool promises that each piece of work that it took ends in exactly one
Outcome, whatever the handler does, and that no handler sees another's context variables.
It knows no queue and no server. All of its state belongs to one event loop.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context as ContextVariables
from contextvars import copy_context

import anyio
import anyio.abc
import anyio.lowlevel
import msgspec

from headrace.config.logs import logger
from headrace.jobs.outcome import Outcome, Status

from .outbox import Outbox
from .slot import Slot, failed, stopped
from .work import Work

#: A slot whose handlers never suspend lets others run this often.
TURN_S = 0.005
#: How often deadlines are looked at: half of the promised precision of 20 ms.
WATCH_S = 0.01
#: Work that goes on this long after it was told to stop is listed as stuck.
STUCK_AFTER_S = 1.0

log = logger("headrace.pool")


class PoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A look at a pool.

    Attributes:
        runner: Name of its runner.
        slots: Slots that it has.
        busy: Slots that run something.
        ready: Work taken in, not yet started.
        busy_s: Seconds of work done in all slots since the start; its growth over slots x time is the utilization.
        stuck: Labels of work that goes on although it was told to stop.
    """

    runner: str
    slots: int
    busy: int
    ready: int
    busy_s: float
    stuck: tuple[str, ...] = ()


class Pool:
    """Slots of one runner.

    Args:
        name: The runner's name, for statistics and logs.
        slots: How many run at the same time.
        outbox: Where outcomes go; shared by the pools of one dispatcher.
        stops_on_cancel: Whether cancelling a slot stops its work; see Runner.
        on_room: Called, in the loop, when there may be room for more work.
    """

    def __init__(
        self,
        name: str,
        slots: int,
        outbox: Outbox,
        *,
        stops_on_cancel: bool = True,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.ready: deque[Work] = deque()
        #: `on_room` is called when `ready` has sunk to this many, and whenever a slot finds nothing to do.
        self.low_water = 0
        self.busy = 0
        self.done_count = 0
        self._target = slots
        self._outbox = outbox
        self._stops_on_cancel = stops_on_cancel
        self._on_room = on_room
        self._slots: dict[int, Slot] = {}
        self._next_number = 0
        self._parked: deque[anyio.Event] = deque()
        self._group: anyio.abc.TaskGroup | None = None
        self._clean: ContextVariables | None = None
        self._watch: anyio.Event | None = None
        self._quiet: list[anyio.Event] = []
        self._busy_s = 0.0

    @property
    def slots(self) -> int:
        """How many slots it is meant to have."""
        return self._target

    @property
    def is_quiet(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self.busy and not self.ready

    def room(self, depth: int) -> int:
        """Return how many pieces of work could be taken in, when `depth` may wait beyond the free slots."""
        return self._target - self.busy + depth - len(self.ready)

    def offer(self, batch: Iterable[Work]) -> None:
        """Take work in; the caller has made sure of the room."""
        self.ready.extend(batch)
        if self._watch is not None:
            self._watch.set()
        self._wake()

    def take_back(self) -> list[Work]:
        """Return the work that has not started, and forget it."""
        unstarted = list(self.ready)
        self.ready.clear()
        return unstarted

    def cancel_all(self, reason: str) -> int:
        """Tell everything that runs to stop; return how much that was. Threads are abandoned."""
        busy = [slot for slot in self._slots.values() if slot.work is not None]
        for slot in busy:
            slot.cancel(reason)
        return len(busy)

    def running(self) -> list[Slot]:
        """Return the slots that run something."""
        return [slot for slot in self._slots.values() if slot.work is not None]

    def resize(self, slots: int) -> None:
        """Have `slots` slots from now on; slots above that end when their present work does.

        Raises:
            ValueError: fewer than one.
        """
        if slots < 1:
            raise ValueError(f"a pool needs at least one slot, got {slots}")
        self._target = slots
        if self._group is None:
            return
        live = [slot for slot in self._slots.values() if not slot.retired]
        for _ in range(slots - len(live)):
            self._spawn()
        # Free slots go first, so that a shrunk pool is down to size at once where it can be.
        for slot in sorted(live, key=lambda slot: slot.work is not None)[: max(0, len(live) - slots)]:
            slot.retired = True
        if len(live) > slots:
            while self._parked:
                self._parked.popleft().set()
        self._on_room()

    def statistics(self) -> PoolStatistics:
        """Return a look at the pool; never waits."""
        now_s = time.monotonic()
        running = self.running()
        return PoolStatistics(
            runner=self.name,
            slots=self._target,
            busy=self.busy,
            ready=len(self.ready),
            busy_s=self._busy_s + sum(now_s - slot.started_at_s for slot in running),
            stuck=tuple(slot.work.label for slot in running if slot.stuck and slot.work is not None),
        )

    async def wait_quiet(self) -> None:
        """Return once nothing runs and nothing waits."""
        while not self.is_quiet:
            event = anyio.Event()
            self._quiet.append(event)
            await event.wait()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the slots and the watchdog until cancelled."""
        self._clean = copy_context()
        async with anyio.create_task_group() as group:
            self._group = group
            try:
                self.resize(self._target)
                task_status.started()
                await self._watch_deadlines()
            finally:
                self._group = None

    def _spawn(self) -> None:
        if self._group is None or self._clean is None:
            return
        slot = Slot(self._next_number)
        self._next_number += 1
        self._slots[slot.number] = slot
        # Started in the pool's own context: a slot that is replaced because a handler left a variable behind must
        # not hand that variable on.
        self._clean.copy().run(self._group.start_soon, self._live, slot)

    async def _live(self, slot: Slot) -> None:
        """A slot's life: one cancel scope after another until it is retired."""
        try:
            while not slot.retired:
                with anyio.CancelScope() as scope:
                    slot.scope = scope
                    await self._turns(slot, copy_context())
                if slot.work is not None:  # the scope was cancelled, by us, and the work is gone
                    self._finish(slot, stopped(slot, slot.work, time.monotonic()))
        finally:
            if slot.work is not None:  # the whole pool is being cancelled from above
                self._finish(slot, stopped(slot, slot.work, time.monotonic()))
            slot.scope = None
            del self._slots[slot.number]
        if sum(not other.retired for other in self._slots.values()) < self._target:
            self._spawn()

    async def _turns(self, slot: Slot, base: ContextVariables) -> None:
        """Take and run work until the slot's scope is used up or the slot is retired."""
        clock, ready, outbox = time.monotonic, self.ready, self._outbox
        turn_ends_s = 0.0
        while not slot.retired:
            if not ready:
                await self._park()
                turn_ends_s = 0.0
                continue
            if outbox.is_full:
                await outbox.wait_room()
                continue
            now_s = clock()
            if not turn_ends_s:
                turn_ends_s = now_s + TURN_S
                # Whoever wakes, wakes two more while there is work: all slots are up after a few rounds, and none is
                # woken for nothing when handlers never suspend.
                if len(ready) > 1:
                    self._wake(2)
            work = ready.popleft()
            if len(ready) == self.low_water:
                self._on_room()
            slot.started_at_s = now_s
            slot.work = work
            if work.timeout_s:
                slot.deadline_s = now_s + work.timeout_s
            self.busy += 1
            try:
                value = await work.start(slot)
            except BaseException as error:  # everything that a handler raises is its job's outcome, and nobody else's
                if not self._handler_raised(slot, error):
                    raise
                now_s = clock()
                self._finish(slot, failed(slot, work, error, now_s))
                if isinstance(error, anyio.get_cancelled_exc_class()):
                    slot.retired = True  # a task that cancelled itself stays marked; a fresh one takes its place
            else:
                now_s = clock()
                if slot.cancel_reason is None:
                    # The common path, written out: one call less for each job.
                    started_at_s = slot.started_at_s
                    slot.work = None
                    slot.deadline_s = math.inf
                    self.busy -= 1
                    self.done_count += 1
                    run_s = now_s - started_at_s
                    self._busy_s += run_s
                    outbox.put(Outcome(work, Status.SUCCEEDED, value, None, None, started_at_s, run_s))
                else:
                    self._finish(slot, self._late(slot, work, value, now_s))
                    return  # the scope is cancelled, or about to be: the next work needs a fresh one
            if copy_context() != base:
                slot.retired = True  # the handler left a context variable behind; `_live` starts a fresh slot
            if now_s > turn_ends_s:
                await anyio.lowlevel.checkpoint()
                turn_ends_s = 0.0
        self._on_room()

    def _late(self, slot: Slot, work: Work, value: object, now_s: float) -> Outcome:
        """Return the outcome of work that returned although it was told to stop.

        A coroutine that returned before the cancellation reached it has done its work. A thread that ran past its
        deadline has broken its promise, whatever it returned.
        """
        if self._stops_on_cancel or slot.cancel_reason != "timeout":
            return Outcome(work, Status.SUCCEEDED, value, None, None, slot.started_at_s, now_s - slot.started_at_s)
        return stopped(slot, work, now_s)

    def _handler_raised(self, slot: Slot, error: BaseException) -> bool:
        """Return whether an exception came from the handler, and not from a cancellation by us or above us."""
        if not isinstance(error, anyio.get_cancelled_exc_class()):
            return True
        if slot.cancel_reason is not None and slot.scope is not None and slot.scope.cancel_called:
            return False
        return anyio.current_effective_deadline() != -math.inf

    def _finish(self, slot: Slot, outcome: Outcome) -> None:
        slot.work = None
        slot.deadline_s = math.inf
        slot.cancel_reason = None
        slot.stuck = False
        self.busy -= 1
        self.done_count += 1
        self._busy_s += outcome.run_s
        self._outbox.put(outcome)

    async def _park(self) -> None:
        """Wait for work; say first that there is room."""
        self._on_room()
        if self.ready:
            return
        if not self.busy:
            self._outbox.nudge()
            for event in self._quiet:
                event.set()
            self._quiet.clear()
        event = anyio.Event()
        self._parked.append(event)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self._wake()  # the wake-up that was meant for this slot goes on to the next
            else:
                self._parked.remove(event)
            raise

    def _wake(self, count: int = 1) -> None:
        for _ in range(min(count, len(self._parked))):
            self._parked.popleft().set()

    async def _watch_deadlines(self) -> None:
        """Cancel what is overdue; list what goes on all the same."""
        while True:
            if self.is_quiet:
                self._watch = anyio.Event()
                await self._watch.wait()
                self._watch = None
            await anyio.sleep(WATCH_S)
            now_s = time.monotonic()
            for slot in list(self._slots.values()):
                if slot.deadline_s <= now_s and slot.work is not None:
                    self._overdue(slot, now_s)

    def _overdue(self, slot: Slot, now_s: float) -> None:
        if slot.cancel_reason is None:
            slot.cancel("timeout", stop=self._stops_on_cancel)
            slot.stuck = not self._stops_on_cancel
        elif not slot.stuck and now_s > slot.deadline_s + STUCK_AFTER_S:
            slot.stuck = True
        else:
            return
        if slot.stuck and slot.work is not None:
            log.warning("stuck", handler=slot.work.label, runner=self.name, running_s=round(now_s - slot.started_at_s, 1))
