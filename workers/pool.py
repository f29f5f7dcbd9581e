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

from . import native
from .outbox import Outbox
from .slot import Slot, failed, stopped
from .watchdog import WATCH_S, Watchdog
from .work import Work

log = logger("headrace.pool")

#: A slot whose handlers never suspend lets others run this often.
TURN_S = 0.005


class PoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A look at a pool.

    Attributes:
        runner: Name of its runner.
        slots: Slots that it has.
        busy: Slots that run something.
        ready: Work taken in, not yet started.
        busy_s: Seconds of work done in all slots since the start; its growth over slots x time is the utilization.
        stuck: Labels of work that goes on although it was told to stop.
        stacks: Where each of them is now, as traceback text; empty where that cannot be told.
    """

    runner: str
    slots: int
    busy: int
    ready: int
    busy_s: float
    stuck: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()


class Pool:
    """Slots of one runner.

    Args:
        name: The runner's name, for statistics and logs.
        slots: How many run at the same time.
        outbox: Where outcomes go; shared by the pools of one dispatcher.
        stops_on_cancel: Whether cancelling a slot stops its work; see Runner.
        on_room: Called, in the loop, when there may be room for more work.
        stack_of: Returns where the job of a slot is now, for runners whose work is not in the loop.
    """

    def __init__(
        self,
        name: str,
        slots: int,
        outbox: Outbox,
        *,
        stops_on_cancel: bool = True,
        on_room: Callable[[], None] = lambda: None,
        stack_of: Callable[[int], str] | None = None,
    ) -> None:
        self.name = name
        self.ready: deque[Work] = deque()
        #: `on_room` is called when `ready` has sunk to this many, and whenever a slot finds nothing to do.
        self.low_water = 0
        self.busy = 0
        self.done_count = 0
        self._target = slots
        self._outbox = outbox
        self.stops_on_cancel = stops_on_cancel
        self._on_room = on_room
        self._slots: dict[int, Slot] = {}
        self._watchdog = Watchdog(name, self._slots, stops_on_cancel=stops_on_cancel, stack_of=stack_of)
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
        self._rest_if_quiet()
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
        live = [slot for slot in self._slots.values() if not slot.surplus]
        kept = [slot for slot in self._slots.values() if slot.surplus and slot.work is not None]
        for slot in kept[: max(0, slots - len(live))]:
            slot.surplus = slot.retired = False
            live.append(slot)
        for _ in range(slots - len(live)):
            self._spawn()
        # Free slots go first, so that a shrunk pool is down to size at once where it can be.
        for slot in sorted(live, key=lambda slot: slot.work is not None)[: max(0, len(live) - slots)]:
            slot.surplus = slot.retired = True
        if len(live) > slots:
            while self._parked:
                self._parked.popleft().set()
        self._on_room()

    def statistics(self) -> PoolStatistics:
        """Return a look at the pool; never waits."""
        now_s = time.monotonic()
        running = self.running()
        stuck = [slot for slot in running if slot.stuck]
        return PoolStatistics(
            runner=self.name,
            slots=self._target,
            busy=self.busy,
            ready=len(self.ready),
            busy_s=self._busy_s + sum(now_s - slot.started_at_s for slot in running),
            stuck=tuple(slot.work.label for slot in stuck if slot.work is not None),
            stacks=tuple(self._watchdog.stack(slot) for slot in stuck),
        )

    async def wait_quiet(self) -> None:
        """Return once nothing runs and nothing waits."""
        while not self.is_quiet:
            event = anyio.Event()
            self._quiet.append(event)
            await event.wait()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the slots and the watchdog until cancelled."""
        native.keep_ctrl_c_out(Pool._live)
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
        clean = copy_context()
        slot.token = anyio.get_current_task().id
        slot.coroutine = native.own_coroutine()
        is_ours = is_broken = False
        try:
            while not slot.retired:
                with anyio.CancelScope() as scope:
                    slot.scope = scope
                    try:
                        await self._turns(slot, clean, native.cancel_counter())
                    except RuntimeError:
                        is_ours = True
                        raise
                    finally:
                        if native.close_left_scopes(scope):
                            log.error("a handler left a cancel scope open", runner=self.name)
                if native.is_cancelled():
                    break
                slot.retired = slot.retired or _differs(clean)
        except anyio.get_cancelled_exc_class():
            if native.is_cancelled():
                raise
            # A handler told asyncio to cancel this coroutine, and had returned when that came: the slot goes, alone.
        except RuntimeError as error:
            if is_ours:
                raise
            is_broken = True  # the scopes cannot be left in order, and what they say of this coroutine is worth nothing
            log.error("a handler left a cancel scope open", runner=self.name, error=str(error).partition("\n")[0])
        finally:
            slot.scope = slot.coroutine = None
            del self._slots[slot.number]
            self._rest_if_quiet()
            if is_broken or not native.is_cancelled():
                await native.absorb_cancellation()
                if not slot.surplus:
                    self._spawn()

    async def _turns(self, slot: Slot, clean: ContextVariables, cancel_count: Callable[[], int] | None) -> None:  # noqa: C901, PLR0912 - the hot loop: a call more for each job costs 2 %
        """Take and run work until the slot's scope is used up or the slot is retired."""
        clock, ready, outbox, watchdog = time.monotonic, self.ready, self._outbox, self._watchdog
        succeeded, never_s = Status.SUCCEEDED, math.inf  # asked of its class, a member of an Enum costs 0.1 us on 3.11
        now_s = turn_ends_s = 0.0
        while not slot.retired:
            if not ready:
                await self._park()
                turn_ends_s = 0.0
                continue
            if len(outbox.items) + outbox.in_hand >= outbox.bound:  # is_full, written out
                await outbox.wait_room()
                turn_ends_s = 0.0
                continue
            if not turn_ends_s:  # else it is still the moment at which the work before ended
                now_s = clock()
                turn_ends_s = now_s + TURN_S
                # Whoever wakes, wakes two more while there is work: all slots are up after a few rounds, and none is
                # woken for nothing when handlers never suspend.
                if len(ready) > 1:
                    self._wake(2)
            work = ready.popleft()
            slot.started_at_s = now_s
            slot.work = work
            if work.timeout_s:
                slot.deadline_s = deadline_s = now_s + work.timeout_s
                if deadline_s < watchdog.soonest_s:  # noqa: PLR1730 - a call to min costs twice as much
                    watchdog.soonest_s = deadline_s
            self.busy += 1
            if len(ready) == self.low_water:
                self._on_room()
            try:
                value = await work.start(slot)
            except BaseException as error:  # noqa: BLE001 - what a handler raises is its job's outcome, nobody else's
                if self._fail(slot, work, error):
                    return
                now_s = clock()
            else:
                now_s = clock()
                if slot.cancel_reason is not None:
                    self._finish(slot, self._late(slot, work, value, now_s))
                    return  # the scope is cancelled, or about to be: the next work needs a fresh one
                started_at_s = slot.started_at_s
                slot.work, slot.deadline_s = None, never_s  # `_finish`, written out: one call less for each job
                self.busy -= 1
                self.done_count += 1
                run_s = now_s - started_at_s
                self._busy_s += run_s
                outbox.put(Outcome(work, succeeded, value, None, None, started_at_s, run_s))
            try:
                marked = copy_context() != clean or (cancel_count is not None and cancel_count())
            except Exception:  # noqa: BLE001 - a value in a context variable is compared, and refuses to be
                marked = True
            if marked:
                slot.retired = True  # what the handler left behind goes with the slot; a fresh one takes its place
            elif now_s > turn_ends_s:
                await anyio.lowlevel.checkpoint()
                turn_ends_s = 0.0
        self._on_room()

    def _late(self, slot: Slot, work: Work, value: object, now_s: float) -> Outcome:
        """Return the outcome of work that returned although it was told to stop.

        A coroutine that returned before the cancellation reached it, or that answered it with a value, has done its
        work. What was listed as stuck, and a thread that ran past its deadline, have broken their promise.
        """
        if slot.cancel_reason != "timeout" or not slot.stuck:
            return Outcome(work, Status.SUCCEEDED, value, None, None, slot.started_at_s, now_s - slot.started_at_s)
        return stopped(slot, work, now_s)

    def _fail(self, slot: Slot, work: Work, error: BaseException) -> bool:
        """Finish work that raised; return whether the slot's scope is used up.

        A cancellation ends here too, and is not raised further: on asyncio a handler may have put a CancelledError of
        its own in its place, which no scope would recognise. What comes from above is delivered again.
        """
        now_s = time.monotonic()
        is_cancelled = native.is_cancelled()
        if is_cancelled and slot.cancel_reason is None:
            slot.cancel("drain", stop=False)
        if is_cancelled and issubclass(type(error), anyio.get_cancelled_exc_class()):
            outcome = stopped(slot, work, now_s)
        else:
            outcome = failed(slot, work, error, now_s)
        is_used_up = is_cancelled or slot.cancel_reason is not None
        self._finish(slot, outcome)
        return is_used_up

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
        self._rest_if_quiet()
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

    def _rest_if_quiet(self) -> None:
        """Tell who waits for it that nothing runs and nothing waits."""
        if not self.busy and not self.ready:
            self._outbox.nudge()
            for event in self._quiet:
                event.set()
            self._quiet.clear()

    async def _watch_deadlines(self) -> None:
        """Have the watchdog look at the slots while there is work."""
        while True:
            if self.is_quiet:
                self._watch = anyio.Event()
                await self._watch.wait()
                self._watch = None
            await anyio.sleep(WATCH_S)
            self._watchdog.look(time.monotonic())
            # For those who wait for room while handlers are slow: `ready` sinks to the low water only much later.
            self._on_room()


def _differs(clean: ContextVariables) -> bool:
    """Return whether a handler left a context variable behind."""
    try:
        return copy_context() != clean
    except Exception:  # noqa: BLE001 - a value is compared, and refuses to be
        return True
