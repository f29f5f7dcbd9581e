"""Results of many jobs over HTTP: asked for together, given out as the jobs end or in the order of their handles.

It promises what gathering.py does of the engine: each handle is given back once with what became of its job, a failure
ends nothing but its own job's wait, and of many handles no more than WINDOW_COUNT are held at a time. `Gathering`
decides and yields what is to be asked; a reader for loops and a generator for threads carry it out. Nothing is open
between two requests, so a reader may be left anywhere.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from itertools import islice
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from headrace.jobs.errors import BrokerUnavailable, HeadraceError, InvalidArguments, WaitTimeout

from ..gathering import JobResult, waited_for_many
from ..http.ends import IDS_MAX_COUNT, JobAnswers
from ..http.records import JobAnswer
from .calls import JSON, WAIT_S, understood
from .options import ClientOptions
from .patience import next_pause_s, patiently
from .replies import error_named, value_of
from .wire import Call, Pause, Request, body

#: Handles that are waited for at a time: as many as one request asks for.
WINDOW_COUNT: Final = IDS_MAX_COUNT
#: Seconds in which an answer of some 4 MiB begins to come, beside the wait.
MARGIN_S: Final = 5.0


class _Handle(Protocol):
    """What both kinds of handles have."""

    id: str


H = TypeVar("H", bound=_Handle)


class _Entry(Generic[H]):
    """The wait for one handle."""

    __slots__ = ("handle", "result")

    def __init__(self, handle: H) -> None:
        self.handle = handle
        self.result: JobResult[Any] | None = None


class Gathering(Generic[H]):
    """Says which result is next, and what to ask for more.

    Args:
        options: The client's.
        handles: Handles, or ids of jobs; read as far as there is room.
        handle_of: Makes the handle of an id.
        timeout_s: Seconds to wait for all; None waits as long as it takes.
        ordered: Whether results come in the order of the handles, and not as jobs end.

    Raises:
        InvalidArguments: one id was given in place of many.
    """

    def __init__(
        self,
        options: ClientOptions,
        handles: Iterable[H | str],
        handle_of: Callable[[str], H],
        timeout_s: float | None,
        ordered: bool,
    ) -> None:
        self._options = options
        self._coming = iter(many_of(handles))
        self._handle_of = handle_of
        self._timeout_s = timeout_s
        self._ordered = ordered
        self._ends_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._open: dict[str, list[_Entry[H]]] = {}  #: those not done by their ids, in their order
        self._ready: deque[_Entry[H]] = deque()  #: to be given out; where they are ordered, all that are held
        self._is_drained = False
        self._is_unasked = False  #: whether some of the open were not looked for yet
        self._tries_count = 0

    def next(self) -> tuple[H, JobResult[Any]] | None:
        """Return the next that can be given out now; None where there is none, see `is_over` and `ask`."""
        if self._ready and (result := self._ready[0].result) is not None:
            return self._ready.popleft().handle, result
        return None

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more, once `next` has nothing."""
        return self._is_drained and not self._ready and not self._open

    def ask(self) -> Call[None]:
        """Ask once for those that are held, through outages of the server, and take in what is answered.

        Raises:
            WaitTimeout: the time is over, and some had not ended.
        """
        self._fill()
        if not self._open:
            return
        began_s = time.monotonic()
        left_s = None if self._ends_s is None else max(0.0, self._ends_s - began_s)
        if left_s == 0 and not self._is_unasked:
            raise self._too_long(None)
        request = Request(
            method="POST", path="/v1/results", content=body({"ids": list(self._open)}), headers=JSON,
            wait_s=WAIT_S, margin_s=MARGIN_S,
        )  # fmt: skip
        try:
            reply = yield from patiently(request, self._options.url, left_s)
        except BrokerUnavailable as error:
            raise self._too_long(error) from error
        if self._take(understood(self._options, reply, JobAnswers)):
            self._tries_count = 0
            return
        if self._is_late:
            raise self._too_long(None)
        wait_s = WAIT_S if left_s is None else min(WAIT_S, left_s)
        if time.monotonic() - began_s < wait_s / 2:  # it does not wait, as when it is about to stop
            self._tries_count += 1
            yield Pause(min(wait_s, next_pause_s(self._tries_count)))

    def close(self) -> None:
        """Give out and ask for nothing more."""
        self._is_drained = True
        self._coming = iter(())
        self._ready.clear()
        self._open.clear()

    @property
    def _is_late(self) -> bool:
        return self._ends_s is not None and time.monotonic() >= self._ends_s

    def _fill(self) -> None:
        """Take in handles where there is room."""
        # Who is late takes in no more unless all those before were there: a wait of no time looks for each once.
        if self._is_drained or (self._open and self._is_late):
            return
        held_count = len(self._ready) if self._ordered else sum(map(len, self._open.values()))
        for handle in islice(self._coming, WINDOW_COUNT - held_count):
            entry = _Entry(self._handle_of(handle) if isinstance(handle, str) else handle)
            self._open.setdefault(entry.handle.id, []).append(entry)
            if self._ordered:
                self._ready.append(entry)
            self._is_unasked = True
            held_count += 1
        self._is_drained = held_count < WINDOW_COUNT

    def _take(self, answers: JobAnswers) -> int:
        """Take in an answer, and return for how many handles it has something."""
        count = sum(self._settle(each.id, _result_of(each)) for each in answers.results)
        for each in answers.unavailable:
            count += self._settle(each.id, JobResult(error=error_named(each.error_name, each.error)))
        self._is_unasked = bool(answers.omitted)
        return count

    def _settle(self, job_id: str, result: JobResult[Any]) -> int:
        entries = self._open.pop(job_id, [])
        for entry in entries:
            entry.result = result
        if not self._ordered:
            self._ready.extend(entries)
        return len(entries)

    def _too_long(self, away: BrokerUnavailable | None) -> WaitTimeout:
        count = sum(map(len, self._open.values()))
        return waited_for_many(count, next(iter(self._open)), self._timeout_s or 0.0, away)


class RemoteResults(Generic[H]):
    """Results of many jobs; what `AsyncClient.results` returns. Read with `async for`, by one coroutine.

    Args:
        call: Carries out a call.
        gathering: What is asked, and comes.
    """

    def __init__(self, call: Callable[[Call[None]], Awaitable[None]], gathering: Gathering[H]) -> None:
        self._call = call
        self._gathering = gathering

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[H, JobResult[Any]]:
        while (found := self._gathering.next()) is None:
            if self._gathering.is_over:
                raise StopAsyncIteration
            await self._call(self._gathering.ask())
        return found

    async def aclose(self) -> None:
        """Ask for no more results; a reader that is dropped holds nothing either."""
        self._gathering.close()


def reading(
    call: Callable[[Call[None]], None], gathering: Gathering[H]
) -> Generator[tuple[H, JobResult[Any]], None, None]:
    """Do what `RemoteResults` does, for a thread."""
    while True:
        found = gathering.next()
        if found is not None:
            yield found
        elif gathering.is_over:
            return
        else:
            call(gathering.ask())


def many_of(handles: Iterable[H | str]) -> Iterable[H | str]:
    """Return the handles; raises InvalidArguments where they are one id, whose letters would be taken for ids."""
    if isinstance(handles, str):
        raise InvalidArguments(f"results of many jobs: {handles!r} is one id; give a list of handles or ids")
    return handles


def id_of(handle: _Handle | str) -> str:
    """Return the id of what may be one already."""
    return handle if isinstance(handle, str) else handle.id


def _result_of(ended: JobAnswer) -> JobResult[Any]:
    try:
        return JobResult(value_of(ended))
    except HeadraceError as error:
        return JobResult(error=error.with_traceback(None))
