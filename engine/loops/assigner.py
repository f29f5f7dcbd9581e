"""The assigner: turns a batch of leases into assignments for the pools, in one pass. Policy only, no I/O.

What no handler here can run goes to the outbox at once: too large or malformed entries and expired jobs to their end;
jobs of unknown handlers round again, with growing pauses, until `unknown_handler_grace` is over since a worker first
met them, since in a rolling deploy another worker may know them.
"""

import contextlib
import time
from collections.abc import Callable, Sequence

import msgspec

from headrace.config import limits
from headrace.jobs.codec import NO_OPTIONS, Envelope, EnvelopeOptions, Malformed, repack, unpack_envelope
from headrace.jobs.failures import EXPIRED
from headrace.jobs.outcome import Outcome, Status

from ..broker.port import Lease
from .assignment import Assignment, BoundHandler, Late, Unread, carried

#: Pauses of a job whose handler is unknown: as long as it has been, within these bounds.
UNKNOWN_FIRST_S, UNKNOWN_LONGEST_S = 1.0, 60.0


class Assigner:
    """Turns leases into assignments.

    Args:
        handlers: The worker's handlers by name and alias.
        unknown_handler_grace_s: Seconds for which a job of an unknown handler goes round.
        max_payload_bytes: The most that a job may take, headrace's own counters aside.
        put: Takes the outcomes of what cannot be run.
    """

    def __init__(
        self,
        handlers: dict[str, BoundHandler],
        unknown_handler_grace_s: float,
        max_payload_bytes: int,
        put: Callable[[Outcome], None],
    ) -> None:
        self._handlers = handlers
        self._max_payload_bytes = max_payload_bytes
        self._grace_s = unknown_handler_grace_s
        self._put = put

    def assign(self, leases: Sequence[Lease]) -> dict[str, list[Assignment]]:  # noqa: C901, PLR0912 - a call more costs each job
        """Return the assignments by pool, in the order of the leases."""
        now_s = time.time()
        # Adding this to a wall-clock second gives its monotonic second.
        skew_s = time.monotonic() - now_s
        now_ms = int(now_s * 1000)
        batches: dict[str, list[Assignment]] = {}
        get = self._handlers.get
        max_bytes = self._max_payload_bytes + limits.COUNTERS_MAX_BYTES
        entered_ms, entered_at_s = b"", 0.0  # of the lease before, which is of the same millisecond more often than not
        for lease in leases:
            if len(lease.body) > max_bytes:
                self._refuse(lease)
                continue
            if lease.problem is not None:
                self._bury(lease, "", lease.problem)
                continue
            try:
                envelope = unpack_envelope(lease.body)
            except Malformed as error:
                self._bury(lease, "", str(error))
                continue
            bound = get(envelope.name)
            options = envelope.options
            if bound is None:
                if options is not None and _is_late(lease, options, now_ms):
                    self._put(Outcome(Late(lease, envelope), Status.EXPIRED, None, EXPIRED))
                else:
                    self._unknown(lease, envelope, now_ms)
                continue
            timeout_s = bound.timeout_s
            if options is not None:
                if options.timeout_s is not None:
                    timeout_s = options.timeout_s
                if options.expires_at_ms is not None and _is_late(lease, options, now_ms):
                    self._expire(lease, envelope, bound)
                    continue
            at_ms = lease.entry.partition(b"-")[0]
            if at_ms != entered_ms:
                entered_ms, entered_at_s = at_ms, int(at_ms) / 1000
            if lease.starts or lease.interruptions or (options is not None and options.deliveries):  # `_was_started`
                if self._is_dead(lease, envelope, bound):
                    continue
            elif bound.expires_s is not None and now_s - entered_at_s > bound.expires_s:
                self._expire(lease, envelope, bound)
                continue
            offered_at_s = entered_at_s + skew_s
            assignment = Assignment(lease, envelope, bound, envelope.name, timeout_s, offered_at_s)
            batch = batches.get(bound.pool)
            if batch is None:
                batches[bound.pool] = [assignment]
            else:
                batch.append(assignment)
        return batches

    def _refuse(self, lease: Lease) -> None:
        """Give up on an entry that no submission here would have let in."""
        name, options = "", NO_OPTIONS
        with contextlib.suppress(Malformed):
            envelope = unpack_envelope(lease.body)
            name, options = envelope.name, envelope.options or NO_OPTIONS
        error = (
            f"the entry takes {len(lease.body):,} bytes, this worker's max_payload is {self._max_payload_bytes:,}; "
            f"raise that and retry the dead letter, or submit the job anew with a reference to its data"
        )
        self._bury(lease, name, error, "too_large", options)

    def _bury(
        self,
        lease: Lease,
        name: str,
        error: str,
        reason: str = "malformed",
        options: EnvelopeOptions = NO_OPTIONS,
        result_ttl_s: float | None = None,
    ) -> None:
        unread = Unread(lease, name, reason, error, options=options, result_ttl_s=result_ttl_s)
        self._put(Outcome(unread, Status.UNREADABLE))

    def _expire(self, lease: Lease, envelope: Envelope, bound: BoundHandler) -> None:
        self._put(Outcome(Assignment(lease, envelope, bound, envelope.name, 0.0, 0.0), Status.EXPIRED, None, EXPIRED))

    def _is_dead(self, lease: Lease, envelope: Envelope, bound: BoundHandler) -> bool:
        """Give up on a job that was started before without an outcome and may not be started again."""
        options = envelope.options or NO_OPTIONS
        starts = lease.starts + options.deliveries
        if not starts:  # it was stopped only
            return False
        if bound.plan.options.on_crash == "dead":
            why = 'its handler says on_crash="dead"'
        elif starts >= bound.max_deliveries:
            why = f"max_deliveries is {bound.max_deliveries}"
        else:
            return False
        # What a worker had taken and not come to looks the same from here.
        error = f"{_times(starts)} a worker died that had started this job, or was about to; {why}"
        self._bury(lease, envelope.name, error, "crashed", options, bound.plan.options.result_ttl_s)
        return True

    def _unknown(self, lease: Lease, envelope: Envelope, now_ms: int) -> None:
        known = ", ".join(sorted(self._handlers)) or "none"
        error = f"no handler is called {envelope.name!r}; this worker has: {known}"
        options = envelope.options or NO_OPTIONS
        # A time to come was set by a clock that is ahead of this one, and would let the job go round for ever.
        since_ms = now_ms if options.unknown_since_ms is None else min(now_ms, options.unknown_since_ms)
        age_s = (now_ms - since_ms) / 1000
        if age_s >= self._grace_s:
            self._bury(lease, envelope.name, error, "unknown_handler", options)
            return
        pause_s = min(UNKNOWN_LONGEST_S, max(UNKNOWN_FIRST_S, age_s))
        again = msgspec.structs.replace(carried(lease, envelope), unknown_since_ms=since_ms)
        body, delay_ms = repack(envelope, again), round(pause_s * 1000)
        unread = Unread(lease, envelope.name, "unknown_handler", error, delay_ms=delay_ms, body=body)
        self._put(Outcome(unread, Status.UNREADABLE))


def _is_late(lease: Lease, options: EnvelopeOptions, now_ms: int) -> bool:
    """Return whether a job's own time is over, and no worker has started this try of it."""
    at_ms = options.expires_at_ms
    return at_ms is not None and at_ms <= now_ms and not _was_started(lease, options)


def _was_started(lease: Lease, options: EnvelopeOptions | None) -> bool:
    """Return whether a try was begun that came to no end: then it was not too late, and its work would be lost."""
    if lease.starts or lease.interruptions:
        return True
    return options is not None and options.deliveries > 0


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
