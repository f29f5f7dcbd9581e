"""The broker of `memory://` and `memory://NAME`: the whole port inside this process, for tests and trials.

Brokers of one NAME share their jobs as long as the process lives; without a name they are the broker's own. Every verb
returns at once: `fetch` never waits, `listen` tells when to fetch again. Safe from any thread. Nothing outlives the
process. The state and its lock are in memory_state.py; `faults` makes verbs fail on purpose, for tests.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Final

import msgspec

from headrace.config import limits
from headrace.jobs import codec
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.events import pack_settled

from .memory_access import Access, Fault
from .memory_control import MemoryControl
from .memory_events import MemoryEvents
from .memory_publishing import add_all
from .memory_state import Job, Member, MemoryQueue, MemoryState, state_of
from .port import (
    NO_CAUTION,
    NO_PACE,
    NO_PACES,
    Bound,
    Caution,
    Lease,
    Pace,
    Registration,
    Source,
    Submission,
    tell_nobody,
)

__all__ = ["Fault", "MemoryBroker"]

#: How long a resent batch is recognised: callers give up resending long before.
_TOKEN_TTL_MS: Final = 120_000


def wall_ms() -> int:
    """Return the wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class MemoryBroker(MemoryControl):
    """Broker and BrokerViews in this process's memory.

    Args:
        url: memory:// or memory://NAME.
        now_ms: Returns milliseconds since the epoch; virtual time in tests.

    Attributes:
        faults: Failures to come, in order; see Fault.
    """

    max_payload_bytes: int = limits.MAX_PAYLOAD_BYTES

    def __init__(self, url: str = "memory://", *, now_ms: Callable[[], int] = wall_ms) -> None:
        super().__init__(Access(state_of(url), now_ms))
        self.url = url
        self.events = MemoryEvents(self._access)
        self.faults = self._access.faults
        self._registration: Registration | None = None
        self._member = ""
        self._lost: list[Lease] = []
        self._listeners: list[Callable[[], None]] = []
        self.on_queues_lost: Callable[[Sequence[str]], None] = tell_nobody  # never called: nobody empties it

    def publish(self, queue: str, jobs: Sequence[Submission], token: str, bound: Bound) -> list[str]:
        """Add a batch, all or none, and return the ids in order; see Broker."""
        token_key = f"{queue}:{token}"
        with self._access.verb("publish") as (state, now_ms):
            known = state.tokens.get(token_key, now_ms)
            if known is not None:
                return list(known)
            there = state.queue(queue)
            job_ids = add_all(there, jobs, bound, now_ms)
            if token:
                state.tokens.put(token_key, job_ids, now_ms + _TOKEN_TTL_MS)
            state.jobs_came = True
        return list(job_ids)

    def register(self, registration: Registration) -> None:
        """Enter this worker as a reader; called again, it starts a new epoch and what the old one holds is orphaned."""
        with self._access.verb("register") as (state, now_ms):
            state.members.pop(self._member, None)
            state.epoch_count += 1
            self._registration = registration
            self._member = f"{registration.worker}:{state.epoch_count}"
            lease_ms = round(registration.lease_s * 1000)
            state.members[self._member] = Member(registration.queues, lease_ms, now_ms + lease_ms)
            for queue in registration.queues:
                state.queue(queue).had_worker = True

    def renew(self) -> bool:
        """Keep the registration; False when it was revoked meanwhile."""
        with self._access.verb("renew") as (state, now_ms):
            member = state.members.get(self._member)
            if member is None:
                return False
            state.members[self._member] = msgspec.structs.replace(member, until_ms=now_ms + member.lease_ms)
        return True

    def unregister(self) -> None:
        """Leave; jobs that are still held are orphaned, for others to recover."""
        with self._access.verb("unregister") as (state, _):
            state.members.pop(self._member, None)

    def fetch(self, rooms: Mapping[str, int], wait_s: float) -> list[Lease]:  # noqa: ARG002 - the port has it
        """Return what is there, of the first queue that has any; never waits, whatever `wait_s` says."""
        return self._lease("fetch", rooms, _waiting)

    def interrupt(self) -> None:
        """Do nothing: no `fetch` waits."""

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake`, in the thread of whoever brings jobs, until this broker is closed; it never raises."""
        with self._access.verb("listen") as (state, _):
            state.listeners.append(wake)
            self._listeners.append(wake)

    def recover(self, rooms: Mapping[str, int], caution: Caution = NO_CAUTION) -> list[Lease]:
        """Take over what dead workers left and what was given back; first what a lost reply kept from this worker."""
        return self._lease("recover", rooms, partial(_orphaned, caution))

    def settle(self, dispositions: Sequence[Disposition]) -> int:
        """Carry out what was decided; return how many were refused as no longer ours."""
        refused_count = 0
        returned: list[tuple[MemoryQueue, Job, bool]] = []
        told: dict[Source, list[Disposition]] = {}
        with self._access.verb("settle") as (state, now_ms):
            for disposition in dispositions:
                lease: Lease = disposition.lease
                queue = state.queues.get(lease.source.queue)
                job = queue.held.get(lease.entry) if queue else None
                if lease.source.member not in state.members or (job and job.source is not lease.source):
                    refused_count += 1
                elif queue is not None and job is not None:  # else it was settled before: this is a resend
                    if disposition.kind is Kind.RETURN:
                        returned.append((queue, job, disposition.was_started))
                    else:
                        _settle(state, queue, job, disposition, now_ms, round(self.dead_ttl_s * 1000))
                        told.setdefault(lease.source, []).append(disposition)
            for queue, job, was_started in reversed(returned):  # each goes to the head, so the last must go first
                if job.entry in queue.held:
                    queue.put_back(job, was_started=was_started)
            for source, batch in told.items():
                state.events.add(source.queue, pack_settled(source.queue, source.member, batch), now_ms)
            state.jobs_came = bool(returned)
        return refused_count

    def promote(self, queues: Iterable[str], paces: Mapping[str, Pace] = NO_PACES) -> float | None:
        """Move jobs that are due to their queues; return when to call again; see Broker."""
        waits_s: list[float] = []
        with self._access.verb("promote") as (state, now_ms):
            moved_count = 0
            for name in [name for name in queues if name in state.queues]:
                queue, pace = state.queues[name], paces.get(name, NO_PACE)
                room = min(limits.PROMOTE_BATCH_MAX_COUNT, max(pace.least, pace.ahead - len(queue.waiting)))
                moved_count += queue.promote(now_ms, room)
                due_ms = queue.next_due_ms()
                if due_ms is not None:
                    is_held = due_ms <= now_ms and room < limits.PROMOTE_BATCH_MAX_COUNT
                    waits_s.append(pace.again_s if is_held else max(0, due_ms - now_ms) / 1000)
            state.jobs_came = moved_count > 0
        return min(waits_s, default=None)

    def close(self) -> None:
        """Stop waking the listeners of this broker; its registration and jobs stay. Safe to call twice."""
        self.events.close()
        with self._access.verb("close") as (state, _):
            for wake in self._listeners:
                state.listeners.remove(wake)
            self._listeners.clear()

    def add_raw(self, queue: str, fields: Mapping[bytes, bytes]) -> str:
        """Append an entry of any fields and return its id, as a plain XADD does; for tests of what others may send."""
        body, problem = _read_fields(fields)
        with self._access.verb("add_raw") as (state, now_ms):
            job_id = state.queue(queue).add(body, now_ms, problem, counted=False)
            state.jobs_came = True
        return job_id

    def _lease(self, verb: str, rooms: Mapping[str, int], choose: "_Choice") -> list[Lease]:
        """Lease the jobs of each queue that `choose` names, as many as there is room for."""
        if self._registration is None:
            raise RuntimeError(f"{verb} was called before register; register this worker first")
        leases: list[Lease] = []
        try:
            with self._access.verb(verb) as (state, now_ms):
                if self._member not in state.members:
                    return leases
                if verb == "recover":
                    self._revoke_expired(state, now_ms)
                    leases += self._found_again(state, rooms)
                for name, room in rooms.items():
                    taken_count = sum(lease.source.queue == name for lease in leases)
                    free_count = min(room - taken_count, limits.FETCH_BATCH_MAX_COUNT - len(leases))
                    queue = state.queues.get(name)
                    if queue is not None and free_count > 0 and (jobs := choose(state, queue, free_count)):
                        source = Source(name, self._member)
                        leases += [queue.take(job, source) for job in jobs]
                        if verb == "fetch":
                            break  # queues may share one room
        except BrokerUnavailable:
            self._lost += leases
            raise
        return leases

    def _revoke_expired(self, state: MemoryState, now_ms: int) -> None:
        """Revoke what ran out; not this worker's own registration, since it is plainly alive."""
        for name in [name for name, member in state.members.items() if member.is_over(now_ms)]:
            if name != self._member:
                del state.members[name]

    def _found_again(self, state: MemoryState, rooms: Mapping[str, int]) -> list[Lease]:
        """Return the leases that a lost reply kept from this worker, as they were then."""
        found: list[Lease] = []
        kept: list[Lease] = []
        for lease in self._lost:
            name = lease.source.queue
            job = state.queues[name].held.get(lease.entry)
            if job is None or job.source is not lease.source or job.source.member != self._member:
                continue  # another worker has it by now, or recovers it as an orphan
            has_room = sum(other.source.queue == name for other in found) < rooms.get(name, 0)
            (found if has_room else kept).append(lease)
        self._lost = kept
        return found


_Choice = Callable[[MemoryState, MemoryQueue, int], list[Job]]


def _waiting(_: MemoryState, queue: MemoryQueue, count: int) -> list[Job]:
    """Return the first jobs that wait."""
    return [job for job, _ in zip(queue.waiting.values(), range(count), strict=False)]


def _orphaned(caution: Caution, state: MemoryState, queue: MemoryQueue, count: int) -> list[Job]:
    """Return jobs held by registrations that are gone, then jobs that were given back; of suspects only so many."""
    held = (job for job in queue.held.values() if job.source and job.source.member not in state.members)
    returned = takewhile(lambda job: job.returned, queue.waiting.values())  # what was given back is at the head
    orphans: list[Job] = []
    room = caution.room
    for job in chain(held, returned):
        if len(orphans) >= count:
            break
        if caution.starts and job.deliveries >= caution.by_name.get(_name_of(job), caution.starts):
            if room <= 0:
                continue  # passed over, so that it hides nothing behind it
            room -= 1
        orphans.append(job)
    return orphans


def _name_of(job: Job) -> str:
    try:
        return codec.unpack_envelope(job.body).name
    except codec.Malformed:
        return ""


def _settle(
    state: MemoryState, queue: MemoryQueue, job: Job, disposition: Disposition, now_ms: int, dead_ttl_ms: int
) -> None:
    if disposition.kind is Kind.RETRY:
        queue.retry(job, disposition.body, now_ms + disposition.delay_ms)
        return
    queue.end(job, now_ms, disposition.ttl_ms if disposition.record else 0)
    if disposition.record and disposition.ttl_ms > 0:
        state.results.put(job.id, disposition.record, now_ms + disposition.ttl_ms)
    if disposition.kind is Kind.DEAD:
        queue.bury(job.id, disposition.letter, now_ms, now_ms + dead_ttl_ms)


def _read_fields(fields: Mapping[bytes, bytes]) -> tuple[bytes, str | None]:
    """Return an entry's body and what is wrong with it: an envelope in the field `m`, or plain fields."""
    if fields.keys() == {b"m"}:
        return fields[b"m"], None  # a worker finds out when it reads the envelope
    try:
        return codec.envelope_from_fields(fields), None
    except codec.Malformed as error:
        return msgspec.msgpack.encode(dict(fields)), str(error)


if TYPE_CHECKING:
    from .control import OpenBroker

    _fills_all_ports: type[OpenBroker] = MemoryBroker
