"""Telling: runs the functions that `engine.on` declared, in the worker that settled, and announces the worker itself.

One event after the other; best effort, and never in the way of the pool: what cannot be told in time is dropped and
counted. A function that fails or takes too long is logged and counted, whatever it raises or cancels; the next event
goes on. Owned by the worker's event loop.
"""

import asyncio
import inspect
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, cast

import anyio
import anyio.to_thread

from headrace.config import limits
from headrace.config.logs import logger
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.events import Event, event_of, pack_notice
from headrace.workers import native

from ..broker.courier import Courier
from ..broker.events import EventStreams
from ..sinks.port import SinkStatistics

log = logger("headrace.events")

#: What `engine.on` takes: a plain function is called in a thread of its own.
OnEvent = Callable[[Event], Any]
#: How long a stopping worker goes on telling what has happened already.
LAST_S: Final = 1.0


class Telling:
    """Tells events to functions.

    Args:
        functions: Kind -> what to call, in order.
        streams: Where the worker is announced.
        courier: The way there.
    """

    name = "on"

    def __init__(self, functions: Mapping[str, Sequence[OnEvent]], streams: EventStreams, courier: Courier) -> None:
        self._functions = functions
        self._streams = streams
        self._courier = courier
        self._waiting: deque[Event] = deque()
        self._came = anyio.Event()
        self._idle = anyio.Event()
        self._limiter: anyio.CapacityLimiter | None = None
        self._left: list[threading.Event] = []  # one for each thread that outlived its time, set when it has ended
        self._told = 0
        self._dropped = 0
        self._errors = 0

    def settled(self, dispositions: Sequence[Disposition]) -> None:
        """Take what was carried out; returns at once."""
        at_ms = time.time_ns() // 1_000_000
        for disposition in dispositions:
            if disposition.kind is not Kind.RETURN:
                self.offer(event_of(disposition, at_ms))

    def offer(self, event: Event) -> None:
        """Take one event, or drop it when too many wait; returns at once."""
        if event.kind not in self._functions:
            return
        if len(self._waiting) >= limits.EVENT_HANDLERS_BACKLOG_COUNT:
            self._dropped += 1
            return
        self._waiting.append(event)
        self._came.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        native.keep_ctrl_c_out(Telling._guarded)
        while True:
            if not self._waiting:
                self._idle.set()
                self._came = anyio.Event()
                await self._came.wait()
                self._idle = anyio.Event()
            event = self._waiting[0]  # taken away after it was told, so that it counts as pending meanwhile
            for function in self._functions[event.kind]:
                await self._call(function, event)
            self._waiting.popleft()
            self._told += 1

    async def announce(self, kind: str, worker: str, queues: Sequence[str]) -> None:
        """Tell of the worker itself, here and in the streams of its queues; a server that is away hears nothing."""
        try:
            await self._courier.call(self._streams.announce, queues, pack_notice(kind, worker))
        except BrokerUnavailable as error:
            log.warning("not announced", kind=kind, error=str(error))
        for queue in queues:
            self.offer(Event(kind=kind, queue=queue, at_ms=time.time_ns() // 1_000_000, worker=worker))

    def lost(self, queues: Sequence[str]) -> None:
        """Tell here of queues that were found gone; the broker has told their streams."""
        for queue in queues:
            self.offer(Event(kind="queue.lost", queue=queue, at_ms=time.time_ns() // 1_000_000))

    async def finish(self) -> None:
        """Wait until all is told, for LAST_S at most."""
        with anyio.move_on_after(LAST_S):
            while self._waiting:
                await self._idle.wait()

    async def open(self) -> None:
        """Nothing to acquire."""

    async def write(self, outcomes: Sequence[Any]) -> None:
        """Nothing is written here."""

    async def close(self) -> None:
        """Nothing to let go of."""

    def statistics(self) -> SinkStatistics:
        """Return the counters; they are shown among the sinks."""
        return SinkStatistics(
            name=self.name,
            written=self._told,
            pending=len(self._waiting),
            pending_max=limits.EVENT_HANDLERS_BACKLOG_COUNT,
            dropped=self._dropped,
            errors=self._errors,
        )

    async def _call(self, function: OnEvent, event: Event) -> None:
        """Call one function; whatever becomes of it, only a cancellation from above is raised."""
        met: list[BaseException] = []
        try:
            # A coroutine of its own, in a group of its own: what the function does to either ends there.
            async with anyio.create_task_group() as group:
                group.start_soon(self._guarded, function, event, met)
        except BaseException as error:
            if issubclass(type(error), anyio.get_cancelled_exc_class()) or native.is_cancelled():
                raise
            met.append(error)
        if met:  # the first is the function's own, the others what it left behind
            self._errors += 1
            log.error("on failed", function=_name(function), kind=event.kind, job=event.id, exc_info=met[0])

    async def _guarded(self, function: OnEvent, event: Event, met: list[BaseException]) -> None:
        count = native.cancel_counter()
        try:
            await self._run_one(function, event)
            if count is not None and count():
                raise asyncio.CancelledError("it told asyncio to cancel the coroutine that it ran in")
        except BaseException as error:
            if native.is_cancelled() and issubclass(type(error), anyio.get_cancelled_exc_class()):
                raise
            met.append(error)
        finally:
            if not native.is_cancelled():
                await native.absorb_cancellation()

    async def _run_one(self, function: OnEvent, event: Event) -> None:
        if inspect.iscoroutinefunction(function):
            with anyio.move_on_after(limits.EVENT_HANDLER_TIMEOUT_S) as scope:
                await cast(Awaitable[Any], function(event))
            if scope.cancelled_caught:
                raise TimeoutError(f"took longer than {limits.EVENT_HANDLER_TIMEOUT_S:g} s")
        else:
            await self._run_plain(function, event)

    async def _run_plain(self, function: OnEvent, event: Event) -> None:
        """Call a function in a thread that is left behind past its time; while too many such run, drop the event."""
        self._left = [over for over in self._left if not over.is_set()]
        if len(self._left) >= limits.EVENT_HANDLERS_LEFT_COUNT:
            self._dropped += 1
            return
        begun, over = threading.Event(), threading.Event()

        def call() -> None:
            begun.set()
            try:
                function(event)
            finally:
                over.set()

        if self._limiter is None:
            # Trio's threads hold their places when they are left behind, asyncio's do not; so they are counted above.
            self._limiter = anyio.CapacityLimiter(limits.EVENT_HANDLERS_LEFT_COUNT)
        # Left behind when the worker stops, too: such a thread is a daemon.
        with anyio.move_on_after(limits.EVENT_HANDLER_TIMEOUT_S) as scope:
            await anyio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)
        if scope.cancelled_caught:
            if begun.is_set():  # else asyncio never begins it
                self._left.append(over)
            raise TimeoutError(
                f"took longer than {limits.EVENT_HANDLER_TIMEOUT_S:g} s; its thread runs on, and no plain function is "
                f"called while {limits.EVENT_HANDLERS_LEFT_COUNT} such do: give it a time limit of its own"
            )


def _name(function: OnEvent) -> str:
    return str(getattr(function, "__qualname__", function))
