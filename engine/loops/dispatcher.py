"""The Dispatcher: pools of slots, an outbox, and the sinks that outcomes go to. The engine is built on it.

It promises that each piece of work that it accepted ends in one outcome that reached every sink before the block is
left, that nothing in it grows without a bound, and that a full bound makes the submitter wait. Everything in it belongs
to one event loop. What it never does: decide about a job's next step, or talk to a server itself; sinks do.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import anyio
import anyio.abc
import anyio.lowlevel

from headrace.config import limits, units
from headrace.jobs.errors import ConfigError, QueueFull
from headrace.jobs.handler import HandlerOptions, HandlerPlan
from headrace.jobs.outcome import Outcome, Status
from headrace.workers.outbox import Outbox
from headrace.workers.pool import Pool
from headrace.workers.runner import Invocation, Runner
from headrace.workers.runners.coroutine import CoroutineRunner
from headrace.workers.runners.thread import ThreadRunner
from headrace.workers.work import Work

from ..observe.metrics import Recorder
from ..observe.statistics import Statistics
from ..observe.summary import summarize
from ..sinks.port import Sink
from .completer import RULE, Completer
from .gauges import dispatcher_report
from .line import Line
from .ticket import Bound, Ticket

P = ParamSpec("P")
R = TypeVar("R")

#: Functions whose binding is remembered, with all that they hold on to; making one anew costs some 20 us.
_BOUND_MAX = 256
#: How often submissions are counted into the statistics, at the most.
_COUNT_EVERY_S = 0.05


class Dispatcher:
    """A bounded pool with its writers, inside this process and without any server.

    ```python
    async with Dispatcher(slots=100, timeout=5, sinks=[FileSink("out.jsonl")]) as dispatcher:
        ticket = await dispatcher.submit(fetch, url)
        page = await ticket.result()
    ```

    Args:
        slots: Coroutine functions that run at the same time.
        timeout: Seconds (or a timedelta, or "5s") that each may run; None or 0 for no limit. A plain function is not
            stopped by it, for nobody can stop a thread: it keeps its slot, and has timed out when it ends.
        backlog: Work accepted beyond the free slots, of each kind; past it `submit` waits and `submit_nowait` raises
            QueueFull.
        sinks: Where outcomes are written. One that cannot keep up makes `submit` wait.
        thread_slots: Plain functions that run at the same time, each in a thread.

    Raises:
        ConfigError: an argument is out of its bounds.
    """

    #: What outcomes are left in; workers with batch handlers have one that takes a call's outcome apart.
    outbox_class: type[Outbox] = Outbox

    def __init__(
        self,
        slots: int = limits.SLOTS,
        *,
        timeout: float | str | timedelta | None = None,
        backlog: int = 1000,
        sinks: Sequence[Sink] = (),
        thread_slots: int = limits.THREAD_SLOTS,
    ) -> None:
        if slots < 1 or thread_slots < 1 or backlog < 0:
            raise ConfigError(
                f"Dispatcher(slots={slots}, backlog={backlog}, thread_slots={thread_slots}): "
                f"slots and thread_slots are at least 1, backlog at least 0"
            )
        names = [sink.name for sink in sinks]
        if len(set(names)) != len(names):
            raise ConfigError(f"two sinks have one name: {', '.join(names)}; give each its own name=")
        try:
            self._timeout_s = 0.0 if timeout is None else units.parse_duration(timeout)
        except ValueError as error:
            raise ConfigError(f"Dispatcher(timeout={timeout!r}): {error}") from None
        self._backlog = backlog
        self._sinks = tuple(sinks)
        self.outbox = self.outbox_class(bound=max(slots, backlog), count_due=RULE.count)
        self.recorder = Recorder(time.monotonic())
        self.pools: dict[str, Pool] = {}
        self._runners: dict[str, Runner] = {}
        self.completer = Completer(self.outbox, self._sinks, is_idle=self._is_idle, on_batch=self._pass_on)
        self._bound: dict[Any, Bound] = {}
        self._lines: dict[str, Line] = {}
        self._stack: AsyncExitStack | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._closed = False
        self._stopped = False
        self._number = 0
        self._refused = 0
        self._counted_at_s = 0.0
        #: Called when a pool may have room; a worker puts its fetcher's here.
        self.on_room: Callable[[], None] | None = None
        #: Called with each batch before the sinks are; fills tickets unless a worker puts its own here.
        self.on_batch: Callable[[Sequence[Outcome]], None] = self._fill
        self.add_runner(CoroutineRunner(), slots)
        self.add_runner(ThreadRunner(thread_slots), thread_slots)

    def add_runner(self, runner: Runner, slots: int) -> None:
        """Give it a further way to run work, with slots of its own; before the block is entered."""
        pool = Pool(
            runner.name,
            slots,
            self.outbox,
            stops_on_cancel=runner.stops_on_cancel,
            on_room=lambda: self._room_in(line),
            stack_of=getattr(runner, "stack_of", None),
        )
        line = self._lines[runner.name] = Line(pool, self._backlog)
        pool.low_water = self._backlog // 2
        self.pools[runner.name] = pool
        self._runners[runner.name] = runner

    def bind(self, plan: HandlerPlan) -> Invocation:
        """Return what a slot awaits for a handler, from the runner that its plan names."""
        return self._runners[plan.runner].bind(plan)

    def runner(self, name: str) -> Runner:
        """Return a runner."""
        return self._runners[name]

    async def __aenter__(self) -> Self:
        if self._stack is not None or self._closed:
            raise ConfigError("a Dispatcher is entered once; make a new one for a further block")
        async with AsyncExitStack() as stack:
            for sink in self._sinks:
                await sink.open()
                stack.push_async_callback(self._close_sink, sink)
            stack.push_async_callback(self._finish)
            for runner in self._runners.values():
                await stack.enter_async_context(runner)
            self._group = await stack.enter_async_context(anyio.create_task_group())
            for pool in self.pools.values():
                await self._group.start(pool.run)
            self._group.start_soon(self.completer.run)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        stack, self._stack = self._stack, None
        if stack is None:
            return False
        self._close_doors()
        cause = error
        if error is None:
            try:
                await self.drain()
            except BaseException as interrupted:  # noqa: BLE001 - a cancellation, perhaps because a sink has failed
                cause = interrupted
        self.stop()
        # The group sees only cancellations, which may be its own; whatever else the block raised stays as it was.
        passed = cause if isinstance(cause, anyio.get_cancelled_exc_class()) else None
        failure: BaseException | None = None
        handled: bool | None = False
        try:
            handled = await stack.__aexit__(type(passed) if passed else None, passed, None)
        except BaseExceptionGroup as group:
            failure = _only_one_of(group)
        if failure is not None:
            raise failure
        if passed is not None and handled:
            return True
        if cause is not None and cause is not error:
            raise cause
        return False

    async def drain(self) -> None:
        """Return once all work has ended and every outcome has reached every sink; accepts no work meanwhile."""
        for pool in self.pools.values():
            await pool.wait_quiet()
        await self.completer.wait_empty()

    def stop(self) -> None:
        """End the slots; what is unfinished gets the outcome "interrupted". The block's end waits for the sinks."""
        self._close_doors()
        if self._group is None or self._stopped:
            return
        self._stopped = True
        for pool in self.pools.values():
            for work in pool.take_back():
                self.outbox.put(Outcome(work, Status.INTERRUPTED))
            pool.cancel_all("drain")
        self._group.cancel_scope.cancel()
        self.completer.hurry(limits.DRAIN_TIMEOUT_S)

    def offer(self, runner: str, batch: Sequence[Work]) -> None:
        """Give a pool work that there is room for; for whoever asked `room` before."""
        self.pools[runner].offer(batch)

    @overload
    async def submit(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Ticket[R]: ...
    @overload
    async def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Ticket[R]: ...
    async def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Ticket[Any]:
        """Accept work; waits while the backlog is full.

        Args:
            function: A coroutine function runs in the loop, a plain one in a thread.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            ConfigError: the dispatcher is closed, or its block was not entered.
        """
        try:
            bound = self._bound[function]
        except (KeyError, TypeError):  # not seen before, or not hashable
            bound = self._bind(function)
        line = bound.line
        if line.waiting or bound.pool.room(self._backlog) <= line.promised:
            await line.wait()
        return self._accept(bound, args, kwargs)

    @overload
    def submit_nowait(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Ticket[R]: ...
    @overload
    def submit_nowait(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Ticket[R]: ...
    def submit_nowait(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Ticket[Any]:
        """Accept work as `submit` does, or refuse it at once.

        Raises:
            QueueFull: the backlog is full.
            ConfigError: the dispatcher is closed, or its block was not entered.
        """
        try:
            bound = self._bound[function]
        except (KeyError, TypeError):
            bound = self._bind(function)
        line = bound.line
        if (line.waiting or bound.pool.room(self._backlog) <= line.promised) and not self._closed:
            pool = bound.pool
            self._refused += 1
            raise QueueFull(
                f"the backlog is full: {len(pool.ready)} wait for {pool.slots} {pool.name} slots, backlog="
                f"{self._backlog}; await submit() to wait for room, or give it more slots",
                queue=pool.name,
                depth=len(pool.ready),
                bound=self._backlog,
                reason="backlog",
            )
        return self._accept(bound, args, kwargs)

    def resize(self, slots: int) -> None:
        """Have `slots` coroutine slots from now on; those above that end when their present work does.

        Raises:
            ValueError: fewer than one.
        """
        self.pools["async"].resize(slots)

    def statistics(self) -> Statistics:
        """Return the statistics record; never waits."""
        self._count_submitted(time.monotonic())
        bound = self._backlog * len(self.pools)
        return summarize(dispatcher_report(self, self._sinks, bound, self._refused))

    def _accept(self, bound: Bound, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Ticket[Any]:
        if self._closed or self._group is None:
            raise ConfigError("this Dispatcher takes no work: submit inside its `async with` block")
        self._number += 1
        bound.submitted += 1
        ticket: Ticket[Any] = Ticket(bound, args, kwargs, self._timeout_s, str(self._number))
        bound.pool.offer((ticket,))
        return ticket

    def _bind(self, function: Callable[..., Any]) -> Bound:
        label = _name_of(function)
        plan = HandlerPlan(function, HandlerOptions(name=label))
        bound = Bound(self._lines[plan.runner], self.bind(plan), label, wants_context=plan.wants_context)
        if len(self._bound) >= _BOUND_MAX:
            self._count_submitted(time.monotonic())
            del self._bound[next(iter(self._bound))]
        try:
            self._bound[function] = bound
        except TypeError:  # it cannot be hashed, so it is bound anew each time
            self.recorder.record_submitted(time.monotonic(), label)
        return bound

    def _close_doors(self) -> None:
        """Accept no more work, and tell those who wait for room."""
        self._closed = True
        for line in self._lines.values():
            line.close()

    def _room_in(self, line: Line) -> None:
        line.let_in()
        if self.on_room is not None:
            self.on_room()

    def _is_idle(self) -> bool:
        return all(pool.is_quiet for pool in self.pools.values())

    def _pass_on(self, batch: Sequence[Outcome]) -> None:
        self.on_batch(batch)

    def _fill(self, batch: Sequence[Outcome]) -> None:
        now_s = time.monotonic()
        if now_s - self._counted_at_s >= _COUNT_EVERY_S:
            self._count_submitted(now_s)
        waits_s = [outcome.started_at_s - outcome.work.offered_at_s for outcome in batch]
        self.recorder.record_batch(now_s, batch, waits_s)
        for outcome in batch:
            outcome.work.fill(outcome)

    def _count_submitted(self, now_s: float) -> None:
        self._counted_at_s = now_s
        for bound in self._bound.values():
            if bound.submitted:
                self.recorder.record_submitted(now_s, bound.label, bound.submitted)
                bound.submitted = 0

    async def _finish(self) -> None:
        """Hand the sinks what the slots left when they were stopped; bounded, since `stop` has told it to hurry."""
        with anyio.CancelScope(shield=True):
            await self.completer.finish()

    async def _close_sink(self, sink: Sink) -> None:
        with anyio.CancelScope(shield=True):
            await sink.close()


def _name_of(function: Callable[..., Any]) -> str:
    """Return the function's own name, seen through functools.partial; of a callable object, its class's."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", None) or type(function).__name__


def _only_one_of(group: BaseException) -> BaseException:
    """Return the exception in groups of one; a group that holds several as it is."""
    error = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
