"""The ends of many jobs for one request: those that are there, or the first that come, within a bound of bytes.

Jobs are looked for a few at a time, more where their results are small, so that little more is read than the answer
takes. While none has ended it waits; then it stays a moment for others, the longer the more are left, since each
further request has all of them looked for again. An Asking belongs to one request, which runs it once; it is told by
threads, decides in its loop, and leaves no waits.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import anyio
import msgspec
from msgspec import Meta

from headrace.jobs.codec import ResultRecord
from headrace.jobs.errors import BrokerUnavailable, HeadraceError, ResultUnavailable
from headrace.jobs.plain import plain
from headrace.jobs.states import State
from headrace.workers.runners.portal import Portal

from .. import inspect
from ..broker.looks import Looks, Wait, unavailable_again
from ..broker.views import JobView
from ..broker.watch import RECORDS_COUNT
from .records import JobAnswer, JobFault
from .wording import in_http

#: Jobs that one request may ask for; some 40 KB of ids.
IDS_MAX_COUNT: Final = 1_000
#: What the results of one answer may take, as they are kept; one that is larger comes alone.
RESULTS_BYTES: Final = 4 * 1024 * 1024
#: How many are looked for at first, when nobody knows how large their results are.
LOOK_FIRST_COUNT: Final = 16
#: How long to stay for others, for each that is left: five times the 20 us that it takes to have one looked for again.
STAY_S: Final = 0.0001
#: How long the first looks may take, however short the wait; a server that is up answers within milliseconds.
LOOKED_WITHIN_S: Final = 10.0
#: What a record takes beside its value and its traceback.
_RECORD_BYTES: Final = 200
#: Never raised: stands in the place of a record for which there was no room, so that it is not held.
_NO_ROOM: Final = ResultUnavailable("the answer had no room for it")


class JobsAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose results are asked for.

    Attributes:
        ids: The jobs' ids.
    """

    ids: Annotated[list[str], Meta(max_length=IDS_MAX_COUNT, description="The jobs' ids, each answered once.")]


class Unavailable(msgspec.Struct, frozen=True):
    """A job of which no result will come.

    Attributes:
        id: The id that was asked for.
        error: Why.
        error_name: The name of headrace's own error: JobNotFound, or ResultUnavailable where it ended and its value or
            its record was not kept.
    """

    id: str
    error: str
    error_name: str


class JobAnswers(msgspec.Struct, frozen=True):
    """What became of many jobs; each id that was asked for is in one of the lists.

    Attributes:
        results: How jobs ended, in the order in which that was seen.
        unavailable: Jobs of which no result will come.
        waiting: Those that have not ended.
        omitted: Those for which this answer had no room, whether or not they have ended: ask for them again.
    """

    results: list[JobAnswer]
    unavailable: list[Unavailable]
    waiting: list[str]
    omitted: list[str]


class Room:
    """How much of the results is held. Threads share it: at worst two that come together pass the bound by one.

    Args:
        max_bytes: How much may be.

    Attributes:
        count: How many there are.
        size_bytes: What they take.
        is_full: Whether one found no room.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.count = self.size_bytes = 0
        self.is_full = False

    def take(self, record: ResultRecord) -> bool:
        """Return whether there is room for a record, and if so count it; there always is for the first."""
        size_bytes = _size_bytes(record)
        if self.is_full or (self.count and self.size_bytes + size_bytes > self._max_bytes):
            self.is_full = True
            return False
        self.count += 1
        self.size_bytes += size_bytes
        return True

    def next_count(self, count: int) -> int:
        """Return for how many to look now, after a look for `count`: as many as would fit, by those that have come."""
        if self.count:
            left_bytes = self._max_bytes - self.size_bytes
            count = max(LOOK_FIRST_COUNT, left_bytes * self.count // self.size_bytes)
        else:
            count *= 2
        return min(RECORDS_COUNT, count)


class _Ask(Wait, kw_only=True, eq=False):
    """The wait for one job."""

    asked_id: str
    room: Room

    def answer(self, record: ResultRecord | None = None, error: Exception | None = None) -> None:
        """Take what was found, as far as there is room."""
        if record is not None and not self.done and not self.room.take(record):
            record, error = None, _NO_ROOM
        super().answer(record, error)


class Asking:
    """Asks for many jobs.

    Args:
        looks: What looks for them.
        job_ids: The jobs; each is asked for once.
    """

    def __init__(self, looks: Looks, job_ids: Sequence[str]) -> None:
        self._looks = looks
        self._room = Room(RESULTS_BYTES)
        room = self._room
        self._coming = deque(_Ask(each, self, asked_id=each, room=room) for each in dict.fromkeys(job_ids))
        self._unlooked: dict[_Ask, None] = {}  #: those of the look that is under way
        self._waiting: dict[_Ask, None] = {}  #: those that were put, and have not ended, in their order
        self._ended: list[_Ask] = []
        self._omitted: list[_Ask] = []
        self._lasting: BrokerUnavailable | None = None
        self._has_left = False
        self._told: deque[Sequence[Wait]] = deque()
        self._portal = Portal.open()
        self._news = anyio.Event()

    @property
    def size_bytes(self) -> int:
        """What the results take."""
        return self._room.size_bytes

    async def run(self, wait_s: float) -> None:
        """Look for the jobs, and wait until one has ended.

        Args:
            wait_s: Seconds to wait at most; 0 only looks.

        Raises:
            BrokerUnavailable: nothing is known, since the server is away, or refuses us.
        """
        ends_s = time.monotonic() + wait_s
        try:
            with anyio.move_on_after(max(wait_s, LOOKED_WITHIN_S)):
                await self._look()
            await self._until(lambda: bool(self._ended or self._is_over), ends_s)
            stays_s = time.monotonic() + STAY_S * len(self._waiting)
            await self._until(lambda: self._is_over, min(ends_s, stays_s))
        except GeneratorExit:  # the coroutine is thrown away, perhaps by the garbage collector
            self._looks.leave_later(tuple(self._waiting))
            raise
        finally:
            self._has_left = True
            here = [wait for wait in self._waiting if not wait.has_left]
            if here:
                self._looks.leave(here)
        if not self._ended:
            self._raise_outage()

    def hear(self, waits: Sequence[Wait]) -> None:
        """Take what was told, from any thread; what an inbox does."""
        self._told.append(waits)
        self._portal.post(self._take_told)

    def answers(self) -> JobAnswers:
        """Return what was found; takes some time where it is much."""
        results, unavailable = [], []
        for wait in self._ended:
            found = wait.error if wait.record is None else _found(wait.asked_id, wait.record)
            if isinstance(found, JobAnswer):
                results.append(found)
            else:
                unavailable.append(Unavailable(wait.asked_id, in_http(str(found)), type(found).__name__))
        unlooked = [wait for wait in self._waiting if not wait.was_answered]
        waiting = [wait.asked_id for wait in self._waiting if wait.was_answered]
        omitted = [wait.asked_id for wait in (*self._omitted, *unlooked, *self._coming)]
        return JobAnswers(results, unavailable, waiting, omitted)

    async def _look(self) -> None:
        """Look for each once, as long as there is room for more."""
        count = LOOK_FIRST_COUNT
        while self._coming and not self._room.is_full:
            if self._looks.away is not None:  # all wait for its return together
                count = len(self._coming)
            new = [self._coming.popleft() for _ in range(min(count, len(self._coming)))]
            self._waiting.update(dict.fromkeys(new))
            self._unlooked = dict.fromkeys(new)
            self._looks.put(new)
            while self._unlooked:
                await self._hear_news()
            count = self._room.next_count(count)

    async def _until(self, is_there: Callable[[], bool], ends_s: float) -> None:
        with anyio.move_on_after(ends_s - time.monotonic()):
            while not is_there():
                await self._hear_news()

    async def _hear_news(self) -> None:
        self._news = anyio.Event()  # what is told is taken in by this loop, so none falls in between
        await self._news.wait()

    @property
    def _is_over(self) -> bool:
        return self._room.is_full or not self._waiting

    def _take_told(self) -> None:
        if self._has_left:  # a look was under way; a thread may be writing the answer by now
            self._told.clear()
        while self._told:
            for wait in self._told.popleft():
                assert isinstance(wait, _Ask)
                self._unlooked.pop(wait, None)
                if wait.done and wait in self._waiting:
                    del self._waiting[wait]
                    self._sort(wait)
        self._news.set()

    def _sort(self, wait: _Ask) -> None:
        if isinstance(wait.error, BrokerUnavailable):
            self._lasting = wait.error
        if wait.error is _NO_ROOM or isinstance(wait.error, BrokerUnavailable):
            self._omitted.append(wait)
        else:
            self._ended.append(wait)

    def _raise_outage(self) -> None:
        away = self._lasting or self._looks.away
        if away is not None:
            raise unavailable_again(away) from away
        if self._unlooked:
            raise BrokerUnavailable(
                f"the server gave no answer within {LOOKED_WITHIN_S:g} s; see that it is up, and ask again"
            )


def answer_of(view: JobView) -> JobAnswer:
    """Return how a job ended; raises ResultUnavailable where its value was not kept or is too deep."""
    record = view.record
    status = str(view.state)
    if record is None:
        return JobAnswer(view.id, status)
    if record.status == State.SUCCEEDED and record.note is not None:
        raise ResultUnavailable(f"job {view.id} ({record.name}) succeeded, but {record.note}")
    try:
        fields: dict[str, Any] = inspect.outcome_fields(view)
        if "error" in fields:
            return JobAnswer(view.id, status, error=JobFault(**fields["error"]))
        return JobAnswer(view.id, status, value=plain(fields["result"]))
    except RecursionError:
        raise ResultUnavailable(
            f"job {view.id} ({record.name}) succeeded, but its value is nested too deeply to be written as JSON; have "
            f"the handler return flatter data"
        ) from None


def _found(job_id: str, record: ResultRecord) -> JobAnswer | HeadraceError:
    """Return how a job ended, or why that is not known: what is wrong with one must not end what is said of others."""
    try:
        return answer_of(JobView(id=job_id, queue="", state=State(record.status), record=record))
    except HeadraceError as error:
        return error
    except (msgspec.DecodeError, ValueError) as error:
        return ResultUnavailable(f"job {job_id} ({record.name}) has ended, but its result cannot be read here: {error}")


def _size_bytes(record: ResultRecord) -> int:
    failure = record.failure
    said_bytes = 0 if failure is None else len(failure.message) + len(failure.traceback)
    return memoryview(record.value).nbytes + said_bytes + _RECORD_BYTES
