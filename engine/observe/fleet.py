"""What a worker says of itself to everyone: who it is, what it can run, and how it is doing.

Records and their bytes; no state. Workers of different versions read each other's as far as they can.
"""

import msgspec

from .report import WorkerReport


class HandlerCard(msgspec.Struct, frozen=True):
    """A handler as others may know it.

    Attributes:
        queue: Where its jobs go by default.
        runner: "async", "thread" or "process".
        aliases: Further names that it answers to.
        schema: JSON schema of its arguments, as one object.
    """

    queue: str
    runner: str
    aliases: tuple[str, ...] = ()
    schema: msgspec.Raw = msgspec.Raw(b"\x80")


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


_decoder = msgspec.msgpack.Decoder(FleetRecord)
