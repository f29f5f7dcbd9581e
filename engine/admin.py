"""An operator's verbs: what changes jobs from outside their normal way. Blocking functions over a broker's second port.

Each says what it did; reading is in inspect. They decide nothing that the broker decides, and hold no state.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import msgspec

from headrace.jobs.disposition import DeadLetter
from headrace.jobs.editing import edited
from headrace.jobs.errors import JobNotFound
from headrace.jobs.events import pack_notice
from headrace.jobs.ids import check_queue
from headrace.jobs.letters import check_reason
from headrace.jobs.states import State
from headrace.jobs.submission import check_size

from .broker.control import QUIET, BrokerControl, OpenBroker
from .broker.events import tell
from .broker.views import BrokerViews, QueueView
from .observe.fleet import FleetRecord

#: Dead letters in one page, and in one call of a verb.
PAGE_COUNT = 500
#: Names that are shown for a queue that nobody knows.
SIMILAR_COUNT: Final = 3
#: How far apart the batches are that go at a rate.
TURN_S: Final = 0.1
#: A worker speaks of itself each second; told to stop, it may be gone before it does again.
TOLD_WITHIN_S: Final = 10.0
TOLD_PAUSE_S: Final = 0.25


class Handled(msgspec.Struct, frozen=True):
    """What a verb did.

    Attributes:
        count: Dead letters that it was done to.
        missing: Ids of which there was none.
    """

    count: int
    missing: tuple[str, ...] = ()


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters a verb is for; None for any.

    Attributes:
        queue: Those of this queue.
        reason: Those with this reason, such as "timed_out".
        name: Those of this handler.
        limit: The most.

    Raises:
        InvalidArguments: no letter has such a reason, or no queue such a name.
    """

    queue: str | None = None
    reason: str | None = None
    name: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would choose nothing, whatever there is."""
        if self.reason is not None:
            check_reason(self.reason)
        if self.queue is not None:
            check_queue(self.queue)

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether it is for a letter of its queue."""
        return self.reason in (None, letter.reason) and self.name in (None, letter.name)


EVERY: Final = Choice()


class Purged(msgspec.Struct, frozen=True):
    """What a purge did.

    Attributes:
        queue: The queue.
        purged: Jobs that it ended.
    """

    queue: str
    purged: int


class SwitchedQueue(QueueView, frozen=True, kw_only=True):
    """A queue that was paused or resumed.

    Attributes:
        known: Whether it had a job or a worker before, or a handler names it. A name that nobody used is none to
            refuse, since a queue may be paused before its first job; but it may be misspelt.
        similar: Where it is not known, names of queues that are, the nearest first.
    """

    known: bool
    similar: tuple[str, ...] = ()


def pause(control: BrokerControl, queue: str, named: Iterable[str] = ()) -> SwitchedQueue:
    """Have workers leave a queue alone within about a second: what runs goes on, and jobs may be submitted.

    Args:
        control: The broker's third port.
        queue: The queue; it need not have had a job yet.
        named: Queues that handlers at hand name.

    Raises:
        InvalidArguments: no queue can be called that.
    """
    return _switch(control, check_queue(queue), named, paused=True)


def resume(control: BrokerControl, queue: str, named: Iterable[str] = ()) -> SwitchedQueue:
    """Have workers take jobs of a queue again; arguments, and what it raises, as for `pause`."""
    return _switch(control, check_queue(queue), named, paused=False)


def purge(control: OpenBroker, queue: str) -> Purged:
    """End the jobs of a queue that wait now, for a worker or for their time, as cancelled; what runs goes on.

    Goes in batches of PAGE_COUNT, so that the server is never held up for long, and through as many jobs as there are
    at its start, so that it ends however fast others submit.

    Raises:
        InvalidArguments: no queue can be called that.
    """
    view = control.queues([check_queue(queue)])[0]
    count = 0
    for state, most in ((State.QUEUED, view.queued), (State.DELAYED, view.delayed), (State.RETRYING, view.delayed)):
        cursor, seen = "", 0
        while seen < most:
            jobs, cursor = control.jobs(queue, state, cursor, min(PAGE_COUNT, most - seen))
            seen += len(jobs)
            count += sum(control.cancel(jobs, only_waiting=True, why="purged by an operator")) if jobs else 0
            if not cursor:
                break
    tell(control.events, (queue,), pack_notice("queue.purged"))
    return Purged(queue, count)


def tell_worker(control: BrokerControl, record: FleetRecord, word: str, within_s: float = TOLD_WITHIN_S) -> bool:
    """Tell one worker to be quiet or to stop, until what it says of itself shows that it obeys.

    A stop is that of SIGTERM: it drains, and ends. Where a supervisor keeps it, another is started in its place.

    Args:
        control: The broker's third port.
        record: What the worker said of itself last.
        word: QUIET or STOP.
        within_s: How long to go on telling; words may be lost.

    Returns:
        False when it shows no sign of having heard.
    """
    ends_s = time.monotonic() + within_s
    while True:
        control.say(record.queues[:1], f"{word} {record.worker}")
        time.sleep(TOLD_PAUSE_S)
        data = control.fleet().get(record.worker)
        now = FleetRecord.from_bytes(data) if data is not None else None
        if now is None or now.stopping or (word == QUIET and now.quiet):
            return True
        if time.monotonic() > ends_s:
            return False


def dead_retry(views: BrokerViews, job_ids: Sequence[str]) -> Handled:
    """Queue dead jobs again under their ids, with all their attempts."""
    return _each(views.dead_retry, job_ids)


def dead_drop(views: BrokerViews, job_ids: Sequence[str]) -> Handled:
    """Forget dead letters for good."""
    return _each(views.dead_drop, job_ids)


def dead_edit(
    views: BrokerViews,
    letter: DeadLetter,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    now_ms: int,
    max_payload_bytes: int,
) -> DeadLetter:
    """Give a dead job other arguments and return its letter, which keeps those that it died with; it stays dead.

    Args:
        views: The broker's second port.
        letter: The letter, as it was read.
        args: The new positional arguments, checked against the handler's schema by the caller.
        kwargs: The new arguments by name.
        now_ms: Milliseconds since the epoch.
        max_payload_bytes: The setting.

    Raises:
        InvalidArguments: the letter holds no job that could be read, or the arguments are no plain data.
        PayloadTooLarge: they take more than `max_payload`.
        JobNotFound: the letter was retried or dropped meanwhile, or somebody else edited it in the same moment.
    """
    changed = edited(letter, args, kwargs, now_ms=now_ms)
    check_size(letter.name, changed.body, max_payload_bytes)
    if not views.dead_edit(changed):
        raise JobNotFound(
            f"dead letter {letter.id!r} was retried, dropped or changed in this moment; nothing was edited: look at it "
            f"again (`headrace dead show {letter.id}`)"
        )
    return changed


def dead_retry_all(views: BrokerViews, choice: Choice = EVERY, pace: "Pace | None" = None) -> Handled:
    """Queue dead jobs again, the newest first, in bounded batches.

    Whoever interrupts it may begin anew: the letters of jobs that are queued again are gone, so it goes on where it
    stopped. A job that dies again meanwhile is not met twice.

    Args:
        views: The broker's second port.
        choice: Which.
        pace: How fast; None for as fast as the server takes them.
    """
    return _handle_all(views.dead_retry, views, choice, pace or Pace())


def dead_drop_all(views: BrokerViews, choice: Choice = EVERY, pace: "Pace | None" = None) -> Handled:
    """Forget dead letters for good; arguments as for `dead_retry_all`."""
    return _handle_all(views.dead_drop, views, choice, pace or Pace())


class Pace:
    """How fast letters are handled: evenly, in batches of a tenth of a second.

    Args:
        rate_per_s: Letters a second; None for no limit.
        note: Called after each batch with the number handled so far.
        uncut: Around each batch and its `note`: what is not to be cut short by a Ctrl-C.
        sleep: Waits for seconds.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        rate_per_s: float | None = None,
        note: Callable[[int], None] = lambda _: None,
        *,
        uncut: Callable[[], AbstractContextManager[None]] = nullcontext,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.note = note
        self.uncut = uncut
        self._rate_per_s = rate_per_s
        self._sleep = sleep
        self._clock = clock
        self._next_s = clock()

    def batches(self, job_ids: Sequence[str]) -> Iterator[Sequence[str]]:
        """Yield parts of a page, each when its time has come."""
        rate = self._rate_per_s
        count = PAGE_COUNT if rate is None else max(1, min(PAGE_COUNT, int(rate * TURN_S)))
        for first in range(0, len(job_ids), count):
            batch = job_ids[first : first + count]
            if rate is not None:
                now_s = self._clock()
                if self._next_s > now_s:
                    self._sleep(self._next_s - now_s)
                # What took longer than its turn is not made up for: a burst is what a rate is to prevent.
                self._next_s = max(self._next_s, now_s) + len(batch) / rate
            yield batch


def _switch(control: BrokerControl, queue: str, named: Iterable[str], *, paused: bool) -> SwitchedQueue:
    was_used = control.pause(queue, paused)
    ours = {"default", *named}
    known = was_used or queue in ours
    similar = () if known else _similar(control, queue, ours.union(control.queue_names()))
    return SwitchedQueue(**msgspec.structs.asdict(control.queues([queue])[0]), known=known, similar=similar)


def _similar(control: BrokerControl, queue: str, named: set[str]) -> tuple[str, ...]:
    """Return names of queues like this one: of those that are named, and of those that workers read."""
    import difflib

    records = (FleetRecord.from_bytes(data) for data in control.fleet().values())
    read = {name for record in records if record is not None for name in record.queues}
    return tuple(difflib.get_close_matches(queue, sorted((named | read) - {queue}), n=SIMILAR_COUNT))


def _handle_all(verb: Callable[[Sequence[str]], int], views: BrokerViews, choice: Choice, pace: Pace) -> Handled:
    count = 0
    for page in _pages(views, choice):
        for batch in pace.batches(page):
            with pace.uncut():
                count += verb(batch)
                pace.note(count)
    return Handled(count)


def _each(verb: Callable[[Sequence[str]], int], job_ids: Sequence[str]) -> Handled:
    """Call a verb for each id alone, since only so it says which were not there."""
    wanted = list(dict.fromkeys(job_ids))
    missing = tuple(job_id for job_id in wanted if not verb([job_id]))
    return Handled(len(wanted) - len(missing), missing)


def _pages(views: BrokerViews, choice: Choice) -> Iterator[list[str]]:
    """Yield ids page by page, from new to old: a job that dies again meanwhile is newer, and is not met twice."""
    left = choice.limit
    for name in views.queue_names() if choice.queue is None else [choice.queue]:
        cursor = ""
        while left is None or left > 0:
            letters, cursor = views.dead(name, cursor, PAGE_COUNT)
            ids = [letter.id for letter in letters if choice.takes(letter)][:left]
            if ids:
                yield ids
            if left is not None:
                left -= len(ids)
            if not cursor:
                break
