"""The second port of a broker: read-only views, and the few verbs of an operator.

The one source of command line, API and library for everything that is not the way of a job itself.

Synchronous, as the first port is. Records are frozen; times are milliseconds since the epoch by the server's clock.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from headrace.jobs.codec import ResultRecord
from headrace.jobs.disposition import DeadLetter
from headrace.jobs.errors import InvalidArguments
from headrace.jobs.states import State

#: How long a worker that fell silent is remembered, from when its last report was over.
SILENT_KEPT_S: Final = 3600.0


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far a job says that it is.

    Attributes:
        done: How much is done, in whatever unit its handler counts.
        total: How much there is in all; None where the handler does not know.
    """

    done: float
    total: float | None = None


_progress = msgspec.msgpack.Decoder(Progress).decode


def pack_progress(progress: Progress) -> bytes:
    """Return its bytes."""
    return msgspec.msgpack.encode(progress)


def unpack_progress(packed: bytes | None) -> Progress | None:
    """Read it; None where there is none, or none that can be read."""
    try:
        return None if packed is None else _progress(packed)
    except msgspec.DecodeError:
        return None


def wrong_cursor(cursor: str) -> InvalidArguments:
    """Return the error for what no page gave as its cursor; the caller's fault."""
    return InvalidArguments(f"{cursor!r} is no cursor: give the one that the page before ended with, as it came")


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job.

    Attributes:
        id: The job's id.
        queue: Its queue.
        state: Where it is; None when it existed but nothing is kept of it any more.
        body: The packed envelope while it has not ended; empty after.
        record: The result record once it ended and while that is kept.
        due_at_ms: When a delayed or retrying job is due; 0 otherwise.
        deliveries: Deliveries of its present entry that started it, or may have, the present one included.
        interruptions: How many of them were stopped by the end of a drain.
        worker: The registration that has it, while it runs; empty otherwise.
        place: The cursor of a page that ended with it, in a page; empty otherwise.
    """

    id: str
    queue: str
    state: State | None
    body: bytes = b""
    record: ResultRecord | None = None
    due_at_ms: int = 0
    deliveries: int = 0
    interruptions: int = 0
    worker: str = ""
    place: str = ""


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """Depths of one queue.

    Attributes:
        name: The queue's name.
        delayed: Jobs that are due later, retries among them.
        queued: Jobs that wait for a worker.
        running: Jobs that a worker has.
        dead: Dead letters.
        oldest_age_s: Age of the oldest job that waits, in seconds; 0 when none does.
        workers: Registrations.
        submitted: Jobs ever submitted; 0 where the server cannot count them. Its growth is the rate of submission.
        paused: Whether workers leave it alone.
    """

    name: str
    delayed: int = 0
    queued: int = 0
    running: int = 0
    dead: int = 0
    oldest_age_s: float = 0.0
    workers: int = 0
    submitted: int = 0
    paused: bool = False


class PackedLetter(msgspec.Struct, frozen=True, gc=False):
    """A dead letter as it is kept, for whoever must not lose even one that it cannot read.

    Attributes:
        queue: Its queue.
        id: The job's id.
        data: The letter's bytes; empty, where letters are removed, for whatever they are by now.
    """

    queue: str
    id: str
    data: bytes


class BrokerViews(Protocol):
    """Read-only views of a broker, and an operator's verbs.

    Attributes:
        dead_ttl_s: Seconds for which dead letters are kept.
    """

    dead_ttl_s: float

    def lookup(self, job_ids: Sequence[str]) -> list[JobView | None]:
        """Return what is known of each job; None for ids that never were."""

    def records(self, job_ids: Sequence[str]) -> list[ResultRecord | None]:
        """Return the result records that are there, in one round trip; what a waiter asks again and again."""

    def alive(self, job_ids: Sequence[str]) -> list[bool]:
        """Return for each job whether it is there and has yet to end; of many at once, and without what they hold.

        A caller's own id is none of these.
        """

    def progress(self, job_ids: Sequence[str]) -> list[Progress | None]:
        """Return how far each job says that it is; None for those that said nothing, or not for long."""

    def queue_names(self) -> list[str]:
        """Return the queues that ever had a job, sorted."""

    def queues(self, names: Sequence[str]) -> list[QueueView]:
        """Return depths of the named queues."""

    def jobs(self, queue: str, state: State | None, cursor: str, limit: int) -> tuple[list[JobView], str]:
        """Return a page of jobs that have not ended, oldest first, and the next one's cursor; "" when there is none."""

    def dead(self, queue: str, cursor: str, limit: int) -> tuple[list[DeadLetter], str]:
        """Return a page of dead letters, newest first, and the cursor of the next; "" when there is none.

        Letters that cannot be read, as those of another version, say so and hold their bytes; they are not retried.
        """

    def dead_letter(self, job_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""

    def dead_edit(self, letter: DeadLetter) -> bool:
        """Put an edited letter in the place of the one that died at the same time; False when that is not there."""

    def dead_retry(self, job_ids: Sequence[str]) -> int:
        """Queue dead jobs again under their ids, with all their attempts; return how many were there."""

    def dead_drop(self, job_ids: Sequence[str]) -> int:
        """Forget dead letters; return how many were there."""

    def dead_beyond(self, queues: Sequence[str], keep: int, worker: str) -> list[PackedLetter]:
        """Return the oldest dead letters beyond the newest `keep` of each queue, the oldest first, a bounded number.

        They are for one worker to export: for DEAD_CLAIM_S after it has been told of some, others are told of none.
        """

    def dead_remove(self, letters: Sequence[PackedLetter]) -> list[bool]:
        """Forget letters, each if it still is the same; return for each whether it was there and unchanged."""

    def prepare(self) -> None:
        """See that the server is there and has what the other verbs need, its scripts; raises BrokerUnavailable."""

    def fleet_put(self, worker: str, report: bytes, ttl_s: float) -> None:
        """Publish what a worker says of itself, for `ttl_s`; empty bytes take it back."""

    def fleet(self) -> dict[str, bytes]:
        """Return what the workers that are there say of themselves."""

    def silent(self) -> dict[str, bytes]:
        """Return the last words of workers whose reports ended within SILENT_KEPT_S though none took them back."""
