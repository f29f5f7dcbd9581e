"""What the memory broker remembers: queues, leases, results, tokens, registrations, and the lock around all of it.

Plain data moved from container to container: a live job is in exactly one of a queue's `waiting`, `held` and `later`.
Every method expects the caller to hold `MemoryState.lock`; `verb` of memory_access.py is the only way in. Nothing here
reads a clock, and nothing outlives its time: what expires is dropped, a bounded number at each use.
"""

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import msgspec

from headrace.config import limits
from headrace.config.errors import ConfigError
from headrace.jobs.ids import JobId
from headrace.jobs.states import State

from .memory_events import EventLog
from .port import FirstId, HolderId, Lease, Source
from .views import Progress

SCHEME: Final = "memory://"
#: Expired values dropped at one use: twice what one settling call adds, and about 3 ms, so that no verb takes long.
_PURGE_COUNT: Final = 2 * limits.SETTLE_BATCH_MAX_COUNT
#: Tokens remembered at most, about 3 MB: a resend follows within seconds of its first sending.
_TOKENS_MAX_COUNT: Final = 10_000

Value = TypeVar("Value")


class Expiring(Generic[Value]):
    """Values that each stand until a given time; `count_max` drops those that would expire first, 0 drops none."""

    def __init__(self, count_max: int = 0) -> None:
        self._values: dict[str, tuple[int, Value]] = {}
        self._expiries: list[tuple[int, str]] = []
        self._count_max = count_max

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: str, value: Value, until_ms: int) -> None:
        """Remember a value; one of the same key is replaced and becomes the newest."""
        self._values.pop(key, None)
        self._values[key] = (until_ms, value)
        heapq.heappush(self._expiries, (until_ms, key))
        while self._count_max and len(self._values) > self._count_max:
            self._drop_first()

    def get(self, key: str, now_ms: int) -> Value | None:
        """Return the value while it stands."""
        until_ms, value = self._values.get(key, (0, None))
        return value if until_ms > now_ms else None

    def replace(self, key: str, value: Value) -> None:
        """Put another value where there is one; it keeps its place and its time."""
        self._values[key] = (self._values[key][0], value)

    def pop(self, key: str, now_ms: int) -> Value | None:
        """Forget the value and return it if it stood."""
        until_ms, value = self._values.pop(key, (0, None))
        return value if until_ms > now_ms else None

    def items(self, now_ms: int) -> Iterator[tuple[str, Value]]:
        """Yield what stands, the newest first."""
        for key, (until_ms, value) in reversed(self._values.items()):
            if until_ms > now_ms:
                yield key, value

    def purge(self, now_ms: int) -> None:
        """Drop what has expired, at most a bounded number."""
        for _ in range(_PURGE_COUNT):
            if not self._expiries or self._expiries[0][0] > now_ms:
                return
            self._drop_first()

    def _drop_first(self) -> None:
        until_ms, key = heapq.heappop(self._expiries)
        # A value that was replaced since, or forgotten, has left its old expiry here.
        if key in self._values and self._values[key][0] == until_ms:
            del self._values[key]


class Job(msgspec.Struct, eq=False, kw_only=True):
    """A job that has not ended; changed only under the lock."""

    id: str
    body: bytes
    state: State
    entry: bytes = b""
    moved: bool = False  #: whether `entry` is not the one in its id
    due_at_ms: int = 0
    deliveries: int = 0  #: starts of the present entry that a crash may have cut short
    interruptions: int = 0  #: starts of it that were stopped
    source: Source | None = None  #: the batch that it was leased in
    returned: bool = False  #: given back, and not taken since
    problem: str | None = None
    counted: bool = True  #: whether its bytes count; not those of entries past the port
    unique: str = ""
    caller_id: str = ""
    age: tuple[int, bool, int] | None = None  #: what sorts by submission, read off the id when it is first asked for


class Member(msgspec.Struct, frozen=True):
    """A registration."""

    queues: tuple[str, ...]
    lease_ms: int
    until_ms: int

    def is_over(self, now_ms: int) -> bool:
        """Return whether it has run out; also when it ends too late to be true, since then the clock was set back."""
        return self.until_ms <= now_ms or self.until_ms > now_ms + 2 * self.lease_ms


class MemoryQueue:
    """One queue. Entries are strictly increasing, as those of a Redis stream are, whatever the clock does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.jobs: dict[str, Job] = {}
        self.waiting: OrderedDict[bytes, Job] = OrderedDict()
        self.held: dict[bytes, Job] = {}
        self.later: dict[str, Job] = {}
        self.dead: Expiring[tuple[int, bytes]] = Expiring()
        self.dead_count = 0  #: letters ever; the number in each is its place in the listing
        self.exporter: tuple[str, int] = ("", 0)  #: who exports dead letters beyond the bound, and until when alone
        self.submitted_count = 0  #: jobs ever submitted
        self.paused = False
        self.had_worker = False  #: whether a worker ever read it
        self.marks: Expiring[bool] = Expiring()  #: running jobs that are to be cancelled
        self.ended_count = 0  #: jobs that ended; two refusals tell from it how fast the queue drains
        self.held_bytes = 0  #: of the bodies that count
        self.unique: dict[str, str] = {}  #: unique key -> job id, until that job ends
        self.live_callers: dict[str, str] = {}  #: caller's id -> job id, until that job ends
        self.callers: Expiring[str] = Expiring()  #: the same, as long as the record of an ended job is kept
        self.drain: tuple[int, int, float] = (0, 0, 0.0)  #: at a refusal: when, jobs ended, and how many a second
        self._due: list[tuple[int, int, str]] = []
        self._postponed_count = 0
        self._entry = (0, 0)
        self._delayed = (0, 0)

    def existed(self, job_id: JobId) -> bool:
        """Return whether a job of this id may have been here: ids are given out in order."""
        return (job_id.at_ms, job_id.number) <= (self._delayed if job_id.delayed else self._entry)

    @property
    def had_job(self) -> bool:
        """Whether the queue ever had a job."""
        return max(self._entry, self._delayed) > (0, 0)

    def add(self, body: bytes, now_ms: int, problem: str | None = None, *, counted: bool = True) -> str:
        """Append a job and return its id, which is its entry's."""
        self.submitted_count += 1
        entry = self._next_entry(now_ms)
        job = Job(id=f"{self.name}:{entry.decode()}", body=body, state=State.QUEUED, entry=entry, problem=problem)
        job.counted = counted
        self.held_bytes += len(body) if counted else 0
        self.jobs[job.id] = self.waiting[entry] = job
        return job.id

    def mark(self, job_id: str, unique: str, caller_id: str) -> None:
        """Give a job that was just added its keys."""
        job = self.jobs[job_id]
        job.unique, job.caller_id = unique, caller_id
        if unique:
            self.unique[unique] = job_id
        if caller_id:
            self.live_callers[caller_id] = job_id

    def first_of(self, unique: str, caller_id: str, now_ms: int) -> FirstId | None:
        """Return the id of the job that has this caller's id, else of the holder of the key; None when none has."""
        if caller_id and (first := self.called(caller_id, now_ms)) is not None:
            return FirstId(first)
        return HolderId(holder) if unique and (holder := self.unique.get(unique)) is not None else None

    def called(self, caller_id: str, now_ms: int) -> str | None:
        """Return the id of the job that its caller gave this one."""
        return self.live_callers.get(caller_id) or self.callers.get(caller_id, now_ms)

    def add_later(self, body: bytes, due_at_ms: int, now_ms: int) -> str:
        """Keep a job until it is due and return its id."""
        self.submitted_count += 1
        at_ms, number = self._delayed
        self._delayed = (now_ms, 0) if now_ms > at_ms else (at_ms, number + 1)
        job_id = f"{self.name}:{self._delayed[0]}-d{self._delayed[1]}"
        self.jobs[job_id] = job = Job(id=job_id, body=body, state=State.DELAYED)
        self.held_bytes += len(body)
        self._postpone(job, due_at_ms)
        return job_id

    def append_again(self, job_id: str, body: bytes, now_ms: int, before: Job | None = None) -> None:
        """Append a job that had an entry, or an id, before; `before` is what it was, unless it had ended."""
        entry = self._next_entry(now_ms)
        job = Job(id=job_id, body=body, state=State.QUEUED, entry=entry, moved=True)
        if before is not None:
            job.unique, job.caller_id = before.unique, before.caller_id
        else:
            self.held_bytes += len(body)
        self.jobs[job_id] = self.waiting[entry] = job

    def take(self, job: Job, source: Source) -> Lease:
        """Lease a job that waits, or that a revoked registration holds."""
        self.waiting.pop(job.entry, None)
        self.held[job.entry] = job
        job.state, job.source, job.returned = State.RUNNING, source, False
        lease = Lease(
            source, job.entry, job.body, job.id if job.moved else None, job.deliveries, job.problem,
            interruptions=job.interruptions,
        )  # fmt: skip
        job.deliveries += 1
        return lease

    def end(self, job: Job, now_ms: int, ttl_ms: int) -> None:
        """Forget a held job, and free its unique key."""
        del self.held[job.entry]
        self.forget(job, now_ms, ttl_ms)

    def forget(self, job: Job, now_ms: int, ttl_ms: int = 0) -> None:
        """Forget a job that no container has any more, and free its keys; its caller's id after `ttl_ms`."""
        del self.jobs[job.id]
        self.ended_count += 1
        self.held_bytes -= len(job.body) if job.counted else 0
        if self.unique.get(job.unique) == job.id:
            del self.unique[job.unique]
        if self.live_callers.get(job.caller_id) == job.id:
            del self.live_callers[job.caller_id]
            self.callers.purge(now_ms)
            if ttl_ms > 0:
                self.callers.put(job.caller_id, job.id, now_ms + ttl_ms)

    def withdraw(self, job: Job, now_ms: int, ttl_ms: int) -> None:
        """Forget a job that waits, for a worker or for its time; its caller's id after `ttl_ms`."""
        self.waiting.pop(job.entry, None)
        self.forget(job, now_ms, ttl_ms)
        if self.later.pop(job.id, None) is not None:
            self._due = [each for each in self._due if each[2] != job.id]
            heapq.heapify(self._due)

    def retry(self, job: Job, body: bytes, due_at_ms: int) -> None:
        """Keep a held job, with another body, until it is due."""
        del self.held[job.entry]
        self.held_bytes += len(body) - (len(job.body) if job.counted else 0)
        job.body, job.state, job.source, job.counted = body, State.RETRYING, None, True
        self._postpone(job, due_at_ms)

    def put_back(self, job: Job, *, was_started: bool = False) -> None:
        """Put a held job at the head, as if it had not been taken, or stopped where it was started."""
        del self.held[job.entry]
        job.state, job.source, job.returned = State.QUEUED, None, True
        job.deliveries -= 1
        job.interruptions += was_started
        self.waiting[job.entry] = job
        self.waiting.move_to_end(job.entry, last=False)

    def promote(self, now_ms: int, count: int) -> int:
        """Append at most `count` jobs that are due, in the order in which they are; return how many."""
        moved_count = 0
        while moved_count < count and self._due and self._due[0][0] <= now_ms:
            job_id = heapq.heappop(self._due)[2]
            job = self.later.pop(job_id)
            self.append_again(job_id, job.body, now_ms, job)
            moved_count += 1
        return moved_count

    def next_due_ms(self) -> int | None:
        """Return when the next job is due; None when none is."""
        return self._due[0][0] if self._due else None

    def bury(self, job_id: str, letter: bytes, now_ms: int, until_ms: int) -> None:
        """Keep a dead letter until then."""
        self.dead.purge(now_ms)
        self.dead_count += 1
        self.dead.put(job_id, (self.dead_count, letter), until_ms)

    def _postpone(self, job: Job, due_at_ms: int) -> None:
        job.due_at_ms = due_at_ms
        self.later[job.id] = job
        self._postponed_count += 1  # jobs due in one millisecond keep their order
        heapq.heappush(self._due, (due_at_ms, self._postponed_count, job.id))

    def _next_entry(self, now_ms: int) -> bytes:
        at_ms, number = self._entry
        self._entry = (now_ms, 0) if now_ms > at_ms else (at_ms, number + 1)
        return b"%d-%d" % self._entry


class MemoryState:
    """All that brokers of one name share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.events = EventLog(self.lock)
        self.queues: dict[str, MemoryQueue] = {}
        self.members: dict[str, Member] = {}
        self.results: Expiring[bytes] = Expiring()
        self.tokens: Expiring[list[str]] = Expiring(_TOKENS_MAX_COUNT)
        self.fleet: Expiring[bytes] = Expiring()
        self.fleet_last: Expiring[bytes] = Expiring()  #: the same, kept for those that fall silent
        self.listeners: list[Callable[[], None]] = []
        self.ears: list[tuple[tuple[str, ...], Callable[[str, str], None]]] = []
        self.progress: Expiring[Progress] = Expiring()
        self.epoch_count = 0
        self.jobs_came = False  #: set by a verb that made jobs ready; `verb` wakes the listeners and clears it

    def queue(self, name: str) -> MemoryQueue:
        """Return the queue of this name, new if need be."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = MemoryQueue(name)
        return queue

    def purge(self, now_ms: int) -> None:
        """Drop what has expired, a bounded number."""
        self.results.purge(now_ms)
        self.tokens.purge(now_ms)
        self.fleet.purge(now_ms)
        self.fleet_last.purge(now_ms)
        self.progress.purge(now_ms)


_named: Final[dict[str, MemoryState]] = {}
_named_lock: Final = threading.Lock()


def state_of(url: str) -> MemoryState:
    """Return what a memory URL stands for: one state per name as long as the process lives, a new one without a name.

    Raises:
        ConfigError: the URL is not a memory broker's.
    """
    if not url.startswith(SCHEME):
        raise ConfigError(f"{url!r} is not the URL of a memory broker: write memory:// or memory://NAME")
    name = url.removeprefix(SCHEME).rstrip("/")
    if not name:
        return MemoryState()
    with _named_lock:
        return _named.setdefault(name, MemoryState())
