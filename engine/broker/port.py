"""The port that every broker fills: eight verbs, all in batches, all synchronous.

Synchronous, because a round trip serves a batch and a thread of its own carries it: the same adapter then serves
asyncio, trio, threads and scripts. `waits` tells callers whether a verb may wait for a server, so that an event loop
calls it from a thread; the memory broker never waits except in `fetch`, which has `listen` instead.
What a broker promises is in tests/conformance/test_broker.py; read-only views are in views.py.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from headrace.config import limits
from headrace.jobs.disposition import Disposition


class Source(msgspec.Struct, frozen=True, eq=False):
    """Where a batch of leases came from; one object shared by the batch, compared by identity.

    Attributes:
        queue: Name of the queue.
        member: The worker's registration there, worker id and epoch: settling is refused once it is gone.
    """

    queue: str
    member: str


class Lease(msgspec.Struct, frozen=True, gc=False):
    """One delivery of one job to this worker; stands as long as the registration in its source does.

    Attributes:
        source: Queue and registration.
        entry: The entry that is acknowledged.
        body: The packed envelope; the raw bytes where `problem` is set.
        moved_id: The job's id where the entry is not the one that it got first; None otherwise.
        starts: Earlier deliveries of this entry whose start a crash may have cut short.
        interruptions: Earlier deliveries of this entry that were started and then stopped by the end of a drain.
        problem: Why the entry cannot be read; None when it can.
        counted: Whether its bytes were counted when it was added; not those of plain fields.
    """

    source: Source
    entry: bytes
    body: bytes
    moved_id: str | None = None
    starts: int = 0
    problem: str | None = None
    counted: bool = True
    interruptions: int = 0

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self.moved_id or f"{self.source.queue}:{self.entry.decode()}"


class Submission(msgspec.Struct, frozen=True, gc=False):
    """A job to be added.

    Attributes:
        body: The packed envelope.
        delay_ms: Milliseconds from now, by the server's clock; 0 for at once.
        due_at_ms: Milliseconds since the epoch; 0 for none. Only one of the two is set.
        unique: Its unique key; empty for none. Only one job in a queue has it at a time.
        caller_id: Its caller's own id for it; empty for none. Unique as long as the job's record is kept.
        returns_first: Whether who submits it wants the first job of its caller's id instead; brokers need not look.
        returns_holder: The same of the job that holds its unique key.
    """

    body: bytes
    delay_ms: int = 0
    due_at_ms: int = 0
    unique: str = ""
    caller_id: str = ""
    returns_first: bool = False
    returns_holder: bool = False


class FirstId(str):
    """In the answer to `publish`: this job was not added, since another has its caller's id; the id is that other's."""

    __slots__ = ()


class HolderId(FirstId):
    """The same where the other job, which has another caller's id or none, holds its unique key."""

    __slots__ = ()


class Bound(msgspec.Struct, frozen=True):
    """How full a queue may become by submission.

    Attributes:
        length: Jobs queued and delayed; 0 for no bound.
        size_bytes: Bytes of the envelopes of jobs that have not ended; 0 for no bound. Plain XADDs are not counted.
        memory: Share of the server's maxmemory, 0 to 1; 0 for no bound. No bound either where it has no maxmemory.
    """

    length: int = 0
    size_bytes: int = 0
    memory: float = 0.0


class Registration(msgspec.Struct, frozen=True):
    """What a worker says of itself when it registers.

    Attributes:
        worker: Its id, unique for each run of a process.
        queues: The queues that it reads.
        lease_s: Seconds for which the registration stands without renewal.
    """

    worker: str
    queues: tuple[str, ...]
    lease_s: float


class Caution(msgspec.Struct, frozen=True):
    """How to take over jobs that may be what killed their workers.

    Attributes:
        starts: Starts without an outcome from which on a job counts as a suspect; 0 for no caution.
        room: The most suspects to take over of each queue.
        by_name: The same for jobs of some handlers, by name; at least `starts`.
    """

    starts: int = 0
    room: int = 0
    by_name: Mapping[str, int] = {}


NO_CAUTION: Final = Caution()


def tell_nobody(queues: Sequence[str]) -> None:
    """Do nothing; what `on_queues_lost` is until somebody wants to know."""


class Pace(msgspec.Struct, frozen=True):
    """How far one `promote` moves the due jobs of a queue: until enough wait there, but some whatever waits.

    Attributes:
        ahead: Jobs that may wait in the queue, up to which due ones are moved.
        least: Due jobs that are moved however many wait.
        again_s: Seconds until it is worth calling again where due jobs were held back.
    """

    ahead: int = 0
    least: int = 0
    again_s: float = 0.0


#: As many due jobs as a call moves at most; for queues that have no pace.
NO_PACE: Final = Pace(least=limits.PROMOTE_BATCH_MAX_COUNT)
NO_PACES: Final[Mapping[str, Pace]] = {}


class Broker(Protocol):
    """Where jobs wait. Every verb raises BrokerUnavailable when the server is away, and may then be sent again.

    Attributes:
        waits: Whether verbs wait for a server, so that an event loop calls them from a thread.
        url: Where it is, without password.
        on_queues_lost: Called, from any thread, with queues that a registered worker found gone and made anew, as when
            the server was emptied; whoever is told must be short and must not raise.
        max_payload_bytes: The most that a job may take; far larger ones it need not read, and says so in the lease.
    """

    waits: bool
    url: str
    on_queues_lost: Callable[[Sequence[str]], None]
    max_payload_bytes: int

    def publish(self, queue: str, jobs: Sequence[Submission], token: str, bound: Bound) -> list[str]:
        """Add a batch, all or none, and return the ids in order.

        A job whose caller's id another job has is not added, and its id is that other's, as a FirstId; else, where its
        unique key is held, it is the holder's, as a HolderId.

        Args:
            queue: Name of the queue.
            jobs: At most `limits.SUBMIT_BATCH_COUNT`.
            token: The same token within minutes adds nothing and returns the same ids: resend after a lost reply.
            bound: Refuse the batch when it would pass this.

        Raises:
            QueueFull: the bound would be passed; nothing was added.
        """

    def register(self, registration: Registration) -> None:
        """Enter this worker as a reader; needed before `fetch`. Called again, it starts a new epoch."""

    def renew(self) -> bool:
        """Keep the registration; False when it was revoked meanwhile. May be called from any thread."""

    def unregister(self) -> None:
        """Leave, after everything was settled or given back."""

    def fetch(self, rooms: Mapping[str, int], wait_s: float) -> list[Lease]:
        """Return up to `rooms[queue]` jobs of the first queue that has any, `limits.FETCH_BATCH_MAX_COUNT` at most.

        Where several get jobs while all were waited for, they share the smallest of their rooms: it may be one and the
        same.

        Args:
            rooms: Queues to read, in the order of preference, and how many jobs there is room for (at least 1).
            wait_s: How long to wait while all of them are empty.
        """

    def interrupt(self) -> None:
        """End a waiting `fetch` early, from any thread; harmless when none waits."""

    def listen(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, when jobs may have come; for brokers that do not wait in `fetch`."""

    def recover(self, rooms: Mapping[str, int], caution: Caution = NO_CAUTION) -> list[Lease]:
        """Take over what dead workers left and what was given back, as many as there is room for.

        Args:
            rooms: Queues, and how many jobs of each could start at once.
            caution: How many suspects to take; the others stay where they are, their starts uncounted.
        """

    def settle(self, dispositions: Sequence[Disposition]) -> int:
        """Carry out what was decided, acknowledging each job; return how many were refused as no longer ours.

        Sending the same again changes nothing.
        """

    def promote(self, queues: Iterable[str], paces: Mapping[str, Pace] = NO_PACES) -> float | None:
        """Move jobs that are due to their queues, in the order of their times; return when to call again.

        Args:
            queues: Names of queues.
            paces: How many of each queue; at most `limits.PROMOTE_BATCH_MAX_COUNT`.

        Returns:
            Seconds: 0 while more may be moved, `again_s` of a pace that holds due jobs back, else until the next is
            due; the least of all queues. None when no job waits for its time.
        """

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
