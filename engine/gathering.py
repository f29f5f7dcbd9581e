"""Gathering: the results of many jobs, as they end or in the order of their handles, with no coroutine for each.

It promises that each handle is given back once with what became of its job, that a failure ends nothing but its own
job's wait, and that of many handles no more than WINDOW_COUNT are held at a time. `Window` decides and does not wait; a
reader for loops and a generator for threads wait. A reader that is left half-way leaves no waits.
"""

import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeVar, overload

import anyio.lowlevel

from headrace.config import units
from headrace.jobs.codec import ResultRecord
from headrace.jobs.errors import BrokerUnavailable, HeadraceError, WaitTimeout
from headrace.workers import native
from headrace.workers.runners.portal import Portal

from .broker.control import OpenBroker
from .broker.looks import Looks, Wait, looks_of, unavailable_again
from .handles import JobHandle, Span, SyncJobHandle
from .results import FIRST_LOOK_S, Bell, Results, is_unanswered

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: Handles that are waited for at a time: ten looks' worth, some 3 MB.
WINDOW_COUNT: Final = 5000
#: So many are taken in together: one by one they would be looked for one by one.
FILL_COUNT: Final = 500
#: Results that a reader gives out before it lets the loop's others have a turn.
TURN_COUNT: Final = 100


class _Handle(Protocol):
    """What both kinds of handles have."""

    id: str

    def unwrap(self, record: ResultRecord) -> Any:
        """Return the value in a record, or raise what became of the job."""


H = TypeVar("H", bound=_Handle)


class JobResult(Generic[R_co]):
    """What became of a job.

    Attributes:
        error: Why there is no value: what `handle.result()` would raise, such as JobFailed; None when it succeeded.
    """

    __slots__ = ("_value", "error")

    def __init__(self, value: R_co | None = None, error: HeadraceError | None = None) -> None:
        self._value: Any = value
        self.error = error

    def __repr__(self) -> str:
        return f"JobResult({self._value!r})" if self.error is None else f"JobResult(error={self.error!r})"

    @property
    def value(self) -> R_co:
        """What the handler returned; raises `error` where the job did not succeed."""
        if self.error is not None:
            raise self.error
        value: R_co = self._value
        return value


class _Entry(Wait, Generic[H], kw_only=True, eq=False):
    """The wait for one handle."""

    handle: H

    def result(self) -> JobResult[Any]:
        """Return what became of the job; raises BrokerUnavailable, which is about all of them."""
        try:
            if self.record is not None:
                return JobResult(self.handle.unwrap(self.record))
            assert self.error is not None
            raise self.error
        except BrokerUnavailable:
            raise
        except HeadraceError as error:
            return JobResult(error=error.with_traceback(None))


class _Inbox:
    """Where the waits of one reader are told of; not the reader itself, so that it can be dropped.

    Args:
        wake: Has the reader see what came; from any thread.
    """

    __slots__ = ("told", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.told: deque[Sequence[Wait]] = deque()
        self.wake = wake

    def hear(self, waits: Sequence[Wait]) -> None:
        """Take what was told."""
        self.told.append(waits)
        self.wake()


class Window(Generic[H]):
    """Says which result is next, for which handles to wait now, and for how long.

    Args:
        handles: Read as far as there is room.
        inbox: Where its waits are told of.
        looks: What looks for them.
        timeout_s: Seconds to wait for all; None waits as long as it takes.
        ordered: Whether results come in the order of the handles, and not as jobs end.
    """

    def __init__(
        self, handles: Iterable[H], inbox: _Inbox, looks: Looks, timeout_s: float | None, ordered: bool
    ) -> None:
        self._coming = iter(handles)
        self._inbox = inbox
        self._looks = looks
        self._timeout_s = timeout_s
        self._ordered = ordered
        self._ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._last_s: float | None = None  #: how long to wait for first looks, once it is late
        self._open: dict[Wait, None] = {}  #: those not done, in their order
        self._ready: deque[_Entry[H]] = deque()  #: to be given out; where they are ordered, all that are held
        self._is_drained = False

    def next(self) -> tuple[H, JobResult[Any]] | None:
        """Return the next that can be given out now; None where there is none, see `is_over` and `left_s`."""
        if self._inbox.told:
            self._hear()
            self._fill()
        ready = self._ready
        if not ready or (self._ordered and not ready[0].done):
            self._fill()
            if not ready or not ready[0].done:
                return None
        entry = ready.popleft()
        if self._ordered:
            self._open.pop(entry, None)  # done, and perhaps not told of yet
        return entry.handle, entry.result()

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more, once `next` has nothing."""
        return self._is_drained and not self._ready and not self._open

    def left_s(self) -> float | None:
        """Return how long to wait for more, None for as long as it takes; raises WaitTimeout when that is over."""
        now_s = time.monotonic()
        if self._ends_s is None or now_s < self._ends_s:
            return None if self._ends_s is None else self._ends_s - now_s
        # What is done is told of in a moment.
        if any(wait.done or is_unanswered(wait, self._looks) for wait in self._open):
            if self._last_s is None:
                self._last_s = now_s + FIRST_LOOK_S
            if now_s < self._last_s:
                return self._last_s - now_s
        raise waited_for_many(len(self._open), next(iter(self._open)).job_id, self._timeout_s or 0.0, self._looks.away)

    def close(self) -> None:
        """Wait for nobody any more."""
        self._let_go()
        left = tuple(self._open)
        self._open.clear()
        if left:
            self._looks.leave(left)

    def drop(self) -> None:
        """Do what `close` does, from wherever a generator or an object may end."""
        self._let_go()
        _drop(self._looks, self._open)

    def to_drop(self) -> Callable[[], None]:
        """Return what does `drop`, and holds neither this nor the handles that are to come."""
        return partial(_drop, self._looks, self._open)

    def _let_go(self) -> None:
        self._is_drained = True
        self._coming = iter(())
        self._ready.clear()

    def _hear(self) -> None:
        told, still_open = self._inbox.told, self._open
        while told:
            for wait in told.popleft():
                if (wait.record is not None or wait.error is not None) and wait in still_open:
                    del still_open[wait]
                    if not self._ordered and isinstance(wait, _Entry):
                        self._ready.append(wait)

    def _fill(self) -> None:
        """Take in handles once there is room for as many as are looked for together."""
        held = len(self._ready) if self._ordered else len(self._ready) + len(self._open)
        is_full = held > max(WINDOW_COUNT // 2, WINDOW_COUNT - FILL_COUNT)
        # Who is late takes in no more unless all those before were there: a wait of no time looks for each once.
        if self._is_drained or is_full or (self._open and self._is_late()):
            return
        inbox = self._inbox
        coming = islice(self._coming, WINDOW_COUNT - held)
        new: list[_Entry[H]] = [_Entry(handle.id, inbox, handle=handle) for handle in coming]
        self._is_drained = held + len(new) < WINDOW_COUNT
        self._last_s = None
        self._open.update(dict.fromkeys(new))
        if self._ordered:
            self._ready.extend(new)
        self._looks.put(new)

    def _is_late(self) -> bool:
        return self._ends_s is not None and time.monotonic() >= self._ends_s


def _drop(looks: Looks, still_open: dict[Wait, None]) -> None:
    looks.leave_later(still_open)
    still_open.clear()


def waited_for_many(count: int, job_id: str, waited_s: float, away: BrokerUnavailable | None) -> WaitTimeout:
    """Return the error of a wait that ended before so many jobs did, one of which is named, as far as is known."""
    what = f"{count:,} of the jobs waited for, {job_id} among them,"
    if away is None:
        return WaitTimeout(
            f"{what} had not ended after {waited_s:g} s; only the wait ended, the jobs go on: wait again for those "
            f"that are left, wait longer, or see that workers read their queues (`headrace queues list`)"
        )
    error = WaitTimeout(
        f"whether {what} have ended is not known after {waited_s:g} s: the server could not be asked; only the "
        f"wait ended: ask again when the server is back ({away})"
    )
    error.__cause__ = unavailable_again(away)
    return error


class _Came:
    """Wakes the coroutine that waits for something to be told; in its loop."""

    __slots__ = ("_call_later", "_parking", "_place")

    def __init__(self) -> None:
        self._call_later = native.timers()
        self._parking = native.parking()
        self._place: Any = None

    def note(self) -> None:
        """Wake it, if it waits."""
        if self._place is not None:
            self._parking.wake(self._place)

    async def wait(self, left_s: float | None) -> None:
        """Wait for a note, for so many seconds at most."""
        self._place = self._parking.place()
        call_off = None if left_s is None else self._call_later(left_s, self.note)
        try:
            await self._parking.park(self._place)
        finally:
            self._place = None
            if call_off is not None:
                call_off()


class ResultReader(Generic[R]):
    """Results of many jobs; what `engine.results` returns. Read with `async for`, by one coroutine."""

    def __init__(
        self, results: Results, handles: Iterable[JobHandle[R]], timeout_s: float | None, ordered: bool
    ) -> None:
        came, portal = _Came(), Portal.open()
        self._came = came
        self._inbox = _Inbox(lambda: portal.post(came.note))
        self._window: Window[JobHandle[R]] = Window(handles, self._inbox, results.looks, timeout_s, ordered)
        self._given_count = 0
        weakref.finalize(self, self._window.to_drop()).atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[JobHandle[R], JobResult[R]]:
        window = self._window
        self._given_count += 1
        if self._given_count >= TURN_COUNT:
            self._given_count = 0
            await anyio.lowlevel.checkpoint()
        while (found := window.next()) is None:
            if window.is_over:
                raise StopAsyncIteration
            left_s = window.left_s()
            if not self._inbox.told:
                self._given_count = 0
                await self._came.wait(left_s)
        return found

    async def aclose(self) -> None:
        """Wait for no more results; a reader that is dropped does so by itself."""
        self._window.close()


class ResultSource:
    """What an engine has of many results: `results` and `gather`."""

    def results(
        self, handles: Iterable[JobHandle[R]], *, timeout: Span | None = None, ordered: bool = False
    ) -> ResultReader[R]:
        """Return an async iterator over `(handle, result)`, as the jobs end; one that failed ends nothing.

        `result.value` is what the handler returned and raises where the job failed; `result.error` says why. Of a long
        or endless iterable of handles, 4,500 to 5,000 are held at a time.

        Args:
            handles: Of jobs of this engine.
            timeout: Seconds (or a timedelta, or "30s") to wait for all of them; None waits as long as it takes.
            ordered: Give results in the order of the handles.

        Raises:
            WaitTimeout: while reading, when some of those held had not ended in time; of these, what was known to have
                is given out before, or where they are ordered what stood before the first that had not.
            BrokerUnavailable: while reading, when the server refuses us until somebody mends the settings, or the
                engine was closed. An outage is waited out.
            ConfigError: the engine is not open.
        """
        timeout_s = None if timeout is None else units.parse_duration(timeout)
        return ResultReader(self._open()[1], handles, timeout_s, ordered)

    @overload
    async def gather(
        self, handles: Iterable[JobHandle[R]], *, timeout: Span | None = None, return_exceptions: Literal[False] = False
    ) -> list[R]: ...
    @overload
    async def gather(
        self, handles: Iterable[JobHandle[R]], *, timeout: Span | None = None, return_exceptions: bool
    ) -> list[R | HeadraceError]: ...
    async def gather(
        self, handles: Iterable[JobHandle[R]], *, timeout: Span | None = None, return_exceptions: bool = False
    ) -> Any:
        """Return the values of all these jobs, in the order of the handles.

        Args:
            handles: Of jobs of this engine.
            timeout: As for `results`.
            return_exceptions: Give the errors of jobs that failed in place of their values, instead of raising the
                first that there is; the other jobs go on either way.

        Raises:
            what `handle.result()` does, and what `results` does.
        """
        every, found = list(handles), {}
        reader = self.results(every, timeout=timeout)
        try:
            async for handle, result in reader:
                found[handle.id] = value_or_error(result) if return_exceptions else result.value
        finally:
            await reader.aclose()  # at once: an error's traceback would hold the reader
        return [found[handle.id] for handle in every]

    def _open(self) -> tuple[object, Results]:
        raise NotImplementedError


def value_or_error(result: JobResult[R]) -> R | HeadraceError:
    """Return whichever there is."""
    return result.value if result.error is None else result.error


def results_blocking(
    broker: OpenBroker, handles: Iterable[SyncJobHandle[R]], timeout_s: float | None, ordered: bool
) -> Generator[tuple[SyncJobHandle[R], JobResult[R]]]:
    """Do what `ResultSource.results` does, for a thread."""
    bell = Bell()
    window: Window[SyncJobHandle[R]] = Window(handles, _Inbox(bell.ring), looks_of(broker), timeout_s, ordered)
    try:
        while True:
            found = window.next()
            if found is not None:
                yield found
            elif window.is_over:
                return
            else:
                left_s = window.left_s()
                bell.wait(None if left_s is None else time.monotonic() + left_s)
    except GeneratorExit:  # it is thrown away, perhaps by the garbage collector
        window.drop()
        raise
    finally:
        window.close()
