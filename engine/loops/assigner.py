"""The assigner: turns a batch of leases into assignments for the pools, in one pass. Policy only, no I/O.

What no handler here can run goes to the outbox at once: malformed entries and expired jobs to their end; jobs of
unknown handlers round again, with growing pauses, until `unknown_handler_grace` is over since a worker first met
them, since in a rolling deploy another worker may know them.
"""

import time
from collections.abc import Callable, Sequence

import msgspec

from headrace.jobs.codec import NO_OPTIONS, Envelope, Malformed, repack, unpack_envelope
from headrace.jobs.outcome import Outcome, Status

from ..broker.port import Lease
from .assignment import Assignment, BoundHandler, Unread, carried

#: Pauses of a job whose handler is unknown: as long as it has been, within these bounds.
UNKNOWN_FIRST_S, UNKNOWN_LONGEST_S = 1.0, 60.0


class Assigner:
    """Turns leases into assignments.

    Args:
        handlers: The worker's handlers by name and alias.
        unknown_handler_grace_s: Seconds for which a job of an unknown handler goes round.
        put: Takes the outcomes of what cannot be run.
    """

    def __init__(
        self, handlers: dict[str, BoundHandler], unknown_handler_grace_s: float, put: Callable[[Outcome], None]
    ) -> None:
        self._handlers = handlers
        self._grace_s = unknown_handler_grace_s
        self._put = put

    def assign(self, leases: Sequence[Lease]) -> dict[str, list[Assignment]]:
        """Return the assignments by pool, in the order of the leases."""
        now_s = time.time()
        # Adding this to a wall-clock second gives its monotonic second.
        skew_s = time.monotonic() - now_s
        now_ms = int(now_s * 1000)
        batches: dict[str, list[Assignment]] = {}
        get = self._handlers.get
        entered_ms, entered_at_s = b"", 0.0  # of the lease before, which is of the same millisecond more often than not
        for lease in leases:
            if lease.problem is not None:
                self._bury(lease, "", lease.problem)
                continue
            try:
                envelope = unpack_envelope(lease.body)
            except Malformed as error:
                self._bury(lease, "", str(error))
                continue
            bound = get(envelope.name)
            if bound is None:
                self._unknown(lease, envelope, now_ms)
                continue
            options = envelope.options
            timeout_s = bound.timeout_s
            if options is not None:
                if options.timeout_s is not None:
                    timeout_s = options.timeout_s
                if options.expires_at_ms is not None and options.expires_at_ms <= now_ms:
                    self._expire(lease, envelope, bound)
                    continue
            if (lease.starts or (options is not None and options.deliveries)) and self._is_dead(lease, envelope, bound):
                continue
            at_ms = lease.entry.partition(b"-")[0]
            if at_ms != entered_ms:
                entered_ms, entered_at_s = at_ms, int(at_ms) / 1000
            if bound.expires_s is not None and now_s - entered_at_s > bound.expires_s:
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

    def _bury(self, lease: Lease, name: str, error: str, reason: str = "malformed", starts_before: int = 0) -> None:
        unread = Unread(lease, name, reason, error, starts_before=starts_before)
        self._put(Outcome(unread, Status.UNREADABLE))

    def _expire(self, lease: Lease, envelope: Envelope, bound: BoundHandler) -> None:
        self._put(Outcome(Assignment(lease, envelope, bound, envelope.name, 0.0, 0.0), Status.EXPIRED))

    def _is_dead(self, lease: Lease, envelope: Envelope, bound: BoundHandler) -> bool:
        """Give up on a job that was started before without an outcome and may not be started again."""
        options = envelope.options or NO_OPTIONS
        starts = lease.starts + options.deliveries
        if bound.plan.options.on_crash == "dead":
            why = 'its handler says on_crash="dead"'
        elif starts >= bound.max_deliveries:
            why = f"max_deliveries is {bound.max_deliveries}"
        else:
            return False
        error = f"started {starts} times, and its worker died each time; {why}"
        self._bury(lease, envelope.name, error, "crashed", options.starts_before)
        return True

    def _unknown(self, lease: Lease, envelope: Envelope, now_ms: int) -> None:
        known = ", ".join(sorted(self._handlers)) or "none"
        error = f"no handler is called {envelope.name!r}; this worker has: {known}"
        options = envelope.options or NO_OPTIONS
        # A time to come was set by a clock that is ahead of this one, and would let the job go round for ever.
        since_ms = now_ms if options.unknown_since_ms is None else min(now_ms, options.unknown_since_ms)
        age_s = (now_ms - since_ms) / 1000
        if age_s >= self._grace_s:
            self._bury(lease, envelope.name, error, "unknown_handler", options.starts_before)
            return
        pause_s = min(UNKNOWN_LONGEST_S, max(UNKNOWN_FIRST_S, age_s))
        again = msgspec.structs.replace(carried(lease, envelope), unknown_since_ms=since_ms)
        body, delay_ms = repack(envelope, again), round(pause_s * 1000)
        unread = Unread(lease, envelope.name, "unknown_handler", error, delay_ms=delay_ms, body=body)
        self._put(Outcome(unread, Status.UNREADABLE))
