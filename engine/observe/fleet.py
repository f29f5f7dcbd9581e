"""What a worker says of itself to everyone: who it is, what it can run, and how it is doing.

Records, their bytes, and the form in which people see them; no state. Workers of different versions read each other's
as far as they can.
"""

from typing import Any, Final, Literal

import msgspec

from headrace.jobs.unique import OnDuplicate, Unique

from .report import RunnerGauge, WorkerReport

#: What a worker is about: "quiet" runs what it has and fetches nothing; "stopping" does so and then ends; "stalled" has
#: room and has not asked for jobs for STALLED_S.
WorkerState = Literal["working", "quiet", "stopping", "stalled"]
#: A worker that has not asked for jobs for so long, with room for them, is not consuming: it asks every few seconds.
STALLED_S: Final = 30.0


class HandlerCard(msgspec.Struct, frozen=True):
    """A handler as others may know it.

    Attributes:
        queue: Where its jobs go by default.
        runner: "async", "thread" or "process".
        aliases: Further names that it answers to.
        schema: JSON schema of its arguments, as one object.
        unique: The key of its jobs, true for one made of the arguments; false for none.
        on_duplicate: What a second submission of that key gets.
    """

    queue: str
    runner: str
    aliases: tuple[str, ...] = ()
    schema: msgspec.Raw = msgspec.Raw(b"\x80")
    unique: str | bool = False
    on_duplicate: OnDuplicate = "reject"

    @property
    def rule(self) -> Unique | None:
        """What makes two of its jobs the same one; None for nothing."""
        return Unique(self.unique or True, self.on_duplicate) if self.unique else None


class FleetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker.

    Attributes:
        worker: Its id.
        host: The machine's name.
        pid: The process.
        started_at_ms: Milliseconds since the epoch.
        version: headrace's version.
        queues: The queues that it reads.
        handlers: What it can run, by name.
        stuck: Labels of jobs that go on although they were told to stop.
        report: How it is doing.
        fetch_age_s: Seconds since it last asked a queue for jobs, or was last held back by full pools.
        stopping: Whether it has been told to stop.
        quiet: Whether it has been told to fetch no more.
    """

    worker: str
    host: str
    pid: int
    started_at_ms: int
    version: str
    queues: tuple[str, ...]
    handlers: dict[str, HandlerCard]
    stuck: tuple[str, ...] = ()
    report: WorkerReport = WorkerReport()
    fetch_age_s: float = 0.0
    stopping: bool = False
    quiet: bool = False

    @property
    def state(self) -> WorkerState:
        """What it is about."""
        if self.stopping:
            return "stopping"
        if self.quiet:
            return "quiet"
        return "stalled" if self.fetch_age_s >= STALLED_S else "working"

    def to_bytes(self) -> bytes:
        """Return the record as msgpack."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FleetRecord | None":
        """Return the record; None for one that this version cannot read, as in a rolling upgrade."""
        try:
            return _decoder.decode(data)
        except msgspec.DecodeError:
            return None


class HandlerView(msgspec.Struct, frozen=True):
    """A handler as people see it.

    Attributes:
        queue: Where its jobs go by default.
        runner: "async", "thread" or "process".
        aliases: Further names that it answers to.
        schema: JSON schema of its arguments.
    """

    queue: str
    runner: str
    aliases: tuple[str, ...]
    schema: dict[str, Any]


class WorkerView(msgspec.Struct, frozen=True):
    """A worker as people see it.

    Attributes:
        id: Its id.
        host: The machine's name.
        pid: The process.
        version: headrace's version.
        state: "working", "quiet", "stopping" or "stalled".
        started_at_ms: Milliseconds since the epoch.
        queues: The queues that it reads.
        runners: Its pools by runner: slots, busy, stuck.
        stuck: Labels of jobs that go on although they were told to stop.
        fetch_age_s: Seconds since it last asked a queue for jobs, or was last held back by full pools.
        handlers: What it can run, by name.
    """

    id: str
    host: str
    pid: int
    version: str
    state: str
    started_at_ms: int
    queues: tuple[str, ...]
    runners: dict[str, RunnerGauge]
    stuck: tuple[str, ...]
    fetch_age_s: float
    handlers: dict[str, HandlerView]


def view_of(record: FleetRecord) -> WorkerView:
    """Return a worker's record as people see it."""
    handlers = {
        name: HandlerView(card.queue, card.runner, card.aliases, msgspec.msgpack.decode(card.schema))
        for name, card in record.handlers.items()
    }
    return WorkerView(
        record.worker,
        record.host,
        record.pid,
        record.version,
        record.state,
        record.started_at_ms,
        record.queues,
        record.report.gauges.runners,
        record.stuck,
        record.fetch_age_s,
        handlers,
    )


_decoder = msgspec.msgpack.Decoder(FleetRecord)
