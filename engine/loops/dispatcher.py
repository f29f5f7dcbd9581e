"""The Dispatcher: pools of slots, an outbox, and the sinks that outcomes go to. The heart of the engine, with or without
a server.

It promises that each piece of work that it accepted ends in one outcome that reached every sink before the block is
left, that nothing in it grows without a bound, and that a full bound makes the submitter wait. Everything in it belongs
to one event loop. What it never does: decide about a job's next step, or talk to a server itself; sinks do.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

import anyio
import anyio.abc

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
from .ticket import Ticket

P = ParamSpec("P")
R = TypeVar("R")

#: Functions whose binding is remembered; more than that are made anew, which costs some 20 us each.
_BOUND_MAX = 1000


class Dispatcher:
    """A bounded pool with its writers, inside this process and without any server.

    ```python
    async with Dispatcher(slots=100, timeout=5, sinks=[FileSink("out.jsonl")]) as dispatcher:
        ticket = await dispatcher.submit(fetch, url)
        page = await ticket.result()
    ```

    Args:
        slots: Coroutine functions that run at the same time.
        timeout: Seconds (or a timedelta, or "5s") that each may run; None or 0 for no limit.
        backlog: Work accepted beyond the free slots; past it `submit` waits and `submit_nowait` raises QueueFull.
        sinks: Where outcomes are written. One that cannot keep up makes `submit` wait.
        thread_slots: Plain functions that run at the same time, each in a thread.

    Raises:
        ConfigError: an argument is out of its bounds.
    """

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
        self.outbox = Outbox(bound=max(slots, backlog), count_due=RULE.count)
        self.recorder = Recorder(time.monotonic())
        self.pools: dict[str, Pool] = {}
        self._runners: dict[str, Runner] = {}
        self.completer = Completer(
            self.outbox, self._sinks, is_idle=self._is_idle, on_batch=lambda batch: self.on_batch(batch)
        )
        self._bound: dict[Any, tuple[Pool, Invocation, str]] = {}
        self._waiting: deque[anyio.Event] = deque()
        self._stack: AsyncExitStack | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._closed = False
        self._number = 0
        self._refused = 0
        #: What a worker puts its own functions into; here they serve `submit` and its tickets.
        self.on_room: Callable[[], None] = self._let_in
        self.on_batch: Callable[[Sequence[Outcome]], None] = self._fill
        self.add_runner(CoroutineRunner(), slots)
        self.add_runner(ThreadRunner(thread_slots), thread_slots)

    def add_runner(self, runner: Runner, slots: int) -> None:
        """Give it a further way to run work, with slots of its own; before the block is entered."""
        pool = Pool(
            runner.name, slots, self.outbox, stops_on_cancel=runner.stops_on_cancel, on_room=lambda: self.on_room()
        )
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
    ) -> None:
        stack, self._stack = self._stack, None
        if stack is None or self._group is None:
            return
        try:
            self._closed = True
            if kind is None:
                await self.drain()
        except BaseException:
            self.stop()
            raise
        finally:
            self.stop()
            await stack.__aexit__(None, None, None)

    async def drain(self) -> None:
        """Return once all work has ended and every outcome has reached every sink; accepts no work meanwhile."""
        for pool in self.pools.values():
            await pool.wait_quiet()
        await self.completer.wait_empty()

    def stop(self) -> None:
        """End the slots; what is unfinished gets the outcome "interrupted". The block's end waits for the sinks."""
        self._closed = True
        if self._group is None or self._group.cancel_scope.cancel_called:
            return
        for pool in self.pools.values():
            for work in pool.take_back():
                self.outbox.put(Outcome(work, Status.INTERRUPTED))
            pool.cancel_all("drain")
        self._group.cancel_scope.cancel()
        while self._waiting:
            self._waiting.popleft().set()

    def offer(self, runner: str, batch: Sequence[Work]) -> None:
        """Give a pool work that there is room for; for whoever asked `room` before."""
        self.pools[runner].offer(batch)

    @overload
    async def submit(self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> Ticket[R]: ...
    @overload
    async def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Ticket[R]: ...
    async def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Ticket[Any]:
        """Accept work; waits while the backlog is full.

        Args:
            function: A coroutine function runs in the loop, a plain one in a thread.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            ConfigError: the dispatcher is closed, or its block was not entered.
        """
        pool, invocation, label = self._bound.get(function) or self._bind(function)
        while pool.room(self._backlog) <= 0 and not self._closed:
            event = anyio.Event()
            self._waiting.append(event)
            await event.wait()
        return self._accept(pool, invocation, label, args, kwargs)

    @overload
    def submit_nowait(self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> Ticket[R]: ...
    @overload
    def submit_nowait(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Ticket[R]: ...
    def submit_nowait(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Ticket[Any]:
        """Accept work as `submit` does, or refuse it at once.

        Raises:
            QueueFull: the backlog is full.
            ConfigError: the dispatcher is closed, or its block was not entered.
        """
        pool, invocation, label = self._bound.get(function) or self._bind(function)
        if pool.room(self._backlog) <= 0:
            self._refused += 1
            raise QueueFull(
                f"the backlog is full: {len(pool.ready)} wait for {pool.slots} {pool.name} slots, backlog="
                f"{self._backlog}; await submit() to wait for room, or give it more slots",
                queue=pool.name,
                depth=len(pool.ready),
                bound=self._backlog,
                reason="backlog",
            )
        return self._accept(pool, invocation, label, args, kwargs)

    def resize(self, slots: int) -> None:
        """Have `slots` coroutine slots from now on; those above that end when their present work does.

        Raises:
            ValueError: fewer than one.
        """
        self.pools["async"].resize(slots)

    def statistics(self) -> Statistics:
        """Return the statistics record; never waits."""
        return summarize(dispatcher_report(self, self._sinks, self._backlog, self._refused))

    def _accept(
        self, pool: Pool, invocation: Invocation, label: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Ticket[Any]:
        if self._closed or self._group is None:
            raise ConfigError("this Dispatcher takes no work: submit inside its `async with` block")
        self._number += 1
        ticket: Ticket[Any] = Ticket(invocation, args, kwargs, label, self._timeout_s, str(self._number))
        pool.offer((ticket,))
        return ticket

    def _bind(self, function: Callable[..., Any]) -> tuple[Pool, Invocation, str]:
        label = getattr(function, "__name__", None) or type(function).__name__
        plan = HandlerPlan(function, HandlerOptions(name=label))
        if len(self._bound) >= _BOUND_MAX:
            self._bound.clear()
        bound = self._bound[function] = (self.pools[plan.runner], self.bind(plan), label)
        return bound

    def _let_in(self) -> None:
        if self._waiting:
            room = max(pool.room(self._backlog) for pool in self.pools.values())
            for _ in range(min(room, len(self._waiting))):
                self._waiting.popleft().set()

    def _is_idle(self) -> bool:
        return all(pool.is_quiet for pool in self.pools.values())

    def _fill(self, batch: Sequence[Outcome]) -> None:
        waits_s = [outcome.started_at_s - outcome.work.offered_at_s for outcome in batch]
        self.recorder.record_batch(time.monotonic(), batch, waits_s)
        for outcome in batch:
            outcome.work.fill(outcome)

    async def _finish(self) -> None:
        """Hand the sinks what the slots left when they were stopped; bounded, since a dead sink must not hang us."""
        with anyio.move_on_after(limits.DRAIN_TIMEOUT_S, shield=True):
            await self.completer.finish()

    async def _close_sink(self, sink: Sink) -> None:
        with anyio.CancelScope(shield=True):
            await sink.close()
