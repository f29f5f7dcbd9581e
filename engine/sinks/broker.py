"""The broker sink: carries out what policy decides about each job, and is the only one that acknowledges.

It promises that a batch which it took is settled or refused for good before `write` returns: while the server is away
it waits and sends the same batch again, which changes nothing where the first one had arrived. That wait is what
stops the slots, and then the fetch. It decides nothing: jobs.disposition does.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio
import msgspec

from headrace.config.logs import logger
from headrace.jobs import codec
from headrace.jobs.disposition import Disposition, Ended, Kind, Rules, decide, keyed, succeed_plainly
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.outcome import Outcome, Status
from headrace.jobs.retry import Retry
from headrace.jobs.states import State
from headrace.jobs.unread import bury_unread

from ..broker.courier import Courier
from ..broker.port import Broker, Lease
from ..observe.seldom import Seldom
from .port import SinkStatistics

log = logger("headrace.settle")
seldom = Seldom(log)

#: Pauses between tries while the server is away.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
_ENDED_AS: Final = {Status.CANCELLED: State.CANCELLED, Status.EXPIRED: State.EXPIRED}


class Leased(Protocol):
    """Work that a lease stands behind; see headrace.engine.loops.assignment."""

    lease: Lease
    envelope: codec.Envelope
    label: str

    @property
    def ttl_ms(self) -> int:
        """How long the handler's records are kept."""

    @property
    def retry(self) -> Retry:
        """The handler's Retry."""

    @property
    def result_ttl_s(self) -> float | None:
        """The handler's own record time; None for the setting."""

    @property
    def max_deliveries(self) -> int:
        """Starts without an outcome after which the job is given up."""

    @property
    def on_crash_dead(self) -> bool:
        """Whether a crash ends the job at once."""


class Unread(Protocol):
    """A lease that no handler can be run for."""

    lease: Lease
    label: str
    reason: str
    error: str
    delay_ms: int
    body: bytes
    options: codec.EnvelopeOptions
    result_ttl_s: float | None


class BrokerSink:
    """Settles jobs.

    Args:
        broker: Where they came from.
        rules: What policy needs to know of the settings.
        on_settled: Called with each batch and what was decided about it, once it stands.
    """

    name = "broker"

    def __init__(
        self,
        broker: Broker,
        rules: Rules,
        on_settled: Callable[[Sequence[Outcome], Sequence[Disposition]], None],
    ) -> None:
        self._broker = broker
        self._rules = rules
        self._on_settled = on_settled
        self._courier = Courier(broker.waits)
        self._written = 0
        self._errors = 0
        self._flushes = 0
        self._refused = 0
        self._pending = 0
        self.gives_up = False  # set by a worker that has to stop although the server is away
        self.on_refused: Callable[[], None] = _nothing  # set by a worker that wants to know at once
        self.on_let_go: Callable[[Sequence[Outcome]], None] = _let_go  # what was refused as a whole
        self.on_told: Callable[[Sequence[Disposition]], None] | None = None  # set by a worker with `on` handlers

    async def open(self) -> None:
        """Nothing to acquire: the broker is its owner's."""

    async def close(self) -> None:
        """Nothing to let go of; `write` returned only when all was settled."""

    async def write(self, outcomes: Sequence[Outcome]) -> None:
        """Settle a batch; returns when the server has answered for all of it."""
        dispositions = self._decide(outcomes)
        self._pending = len(dispositions)
        pause_s = FIRST_PAUSE_S
        refused = -1
        while refused < 0:
            try:
                refused = await self._courier.call(self._broker.settle, dispositions)
            except BrokerUnavailable as error:
                self._errors += 1
                if self.gives_up:
                    log.error("unsettled", jobs=len(dispositions), error=str(error))
                    self._pending = 0
                    return
                seldom.warning("server away", jobs=len(dispositions), retry_in_s=round(pause_s, 2), error=str(error))
                await anyio.sleep(pause_s * (0.5 + random.random() / 2))
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
        self._pending = 0
        self._flushes += 1
        self._written += len(dispositions) - refused
        if refused:
            self._refused += refused
            seldom.warning("refused", jobs=refused, why="this worker's registration was revoked meanwhile")
            self.on_refused()
        if refused < len(dispositions):
            self._on_settled(outcomes, dispositions)
        else:  # whoever has these jobs by now counts them
            self.on_let_go(outcomes)
        if self.on_told is not None and not refused:  # else nobody knows here which of them stand
            self.on_told(dispositions)

    def statistics(self) -> SinkStatistics:
        """Return the counters."""
        return SinkStatistics(
            name=self.name,
            written=self._written,
            pending=self._pending,
            pending_max=0,
            dropped=self._refused,
            errors=self._errors,
            flushes=self._flushes,
        )

    def _decide(self, outcomes: Sequence[Outcome]) -> list[Disposition]:
        now_ms = time.time_ns() // 1_000_000
        rules, succeeded, done = self._rules, Status.SUCCEEDED, Kind.DONE
        dispositions: list[Disposition] = []
        add = dispositions.append
        # Many a job returns the same object as the one before it, such as None: their records are the same bytes.
        twin: Disposition | None = None
        twin_value, twin_run_ms = None, -1
        for outcome in outcomes:
            work = outcome.work
            if (
                outcome.status is succeeded
                and ((options := work.envelope.options) is None or options.are_of_the_run)
                and not work.lease.interruptions
            ):
                lease, name, ttl_ms, value = work.lease, work.label, work.ttl_ms, outcome.value
                run_ms = int(outcome.run_s * 1000)
                if (
                    twin is not None
                    and value is twin_value
                    and run_ms == twin_run_ms
                    and ttl_ms == twin.ttl_ms
                    and name == twin.name
                    and not lease.starts
                ):
                    twins = Disposition(lease, done, twin.record, ttl_ms, name=name)
                    add(twins if options is None else keyed(twins, options))
                    continue
                disposition = succeed_plainly(lease, name, value, ttl_ms, rules, run_ms, lease.starts, now_ms)
                if disposition is not None:
                    add(disposition if options is None else keyed(disposition, options))
                    if not lease.starts:
                        twin, twin_value, twin_run_ms = disposition, value, run_ms
                    continue
            add(self._decide_one(outcome, now_ms))
        return dispositions

    def _decide_one(self, outcome: Outcome, now_ms: int) -> Disposition:
        work = outcome.work
        lease: Lease = work.lease
        if outcome.status is Status.UNREADABLE:
            return self._decide_unread(work, now_ms)
        if outcome.status is Status.INTERRUPTED and not outcome.started_at_s:
            return Disposition(lease, Kind.RETURN)
        ended = Ended(
            lease,
            lease.job_id,
            lease.source.queue,
            work.envelope,
            outcome,
            work.retry,
            work.result_ttl_s,
            lease.starts,
            work.max_deliveries,
            work.on_crash_dead,
            lease.interruptions,
        )
        disposition = decide(ended, self._rules, now_ms=now_ms, dice=random.random())
        options = work.envelope.options
        return msgspec.structs.replace(
            disposition,
            name=work.label,
            attempt=options.attempt if options is not None else 1,
            ended_as=_ENDED_AS.get(outcome.status, State.SUCCEEDED),
        )

    def _decide_unread(self, work: Unread, now_ms: int) -> Disposition:
        lease = work.lease
        if work.delay_ms:
            return Disposition(lease, Kind.RETRY, body=work.body, delay_ms=work.delay_ms, name=work.label, attempt=0)
        buried = bury_unread(
            lease,
            lease.job_id,
            lease.source.queue,
            self._rules,
            reason=work.reason,
            error=work.error,
            name=work.label,
            now_ms=now_ms,
            options=work.options,
            result_ttl_s=work.result_ttl_s,
        )
        return msgspec.structs.replace(buried, name=work.label, attempt=0)


def _nothing() -> None:
    """Do nothing."""


def _let_go(outcomes: Sequence[Outcome]) -> None:
    """Do nothing."""
