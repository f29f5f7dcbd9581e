"""What the broker suite submits, settles and looks for: jobs whose one argument is their number in the batch.

Every name takes the brokers through the two ports alone.
"""

from collections.abc import Callable, Sequence

import msgspec
from places import FullBroker, eventually

from headrace.engine.broker.port import Bound, Lease, Submission
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions, ResultRecord
from headrace.jobs.disposition import DeadLetter, Disposition, Kind, pack_letter
from headrace.jobs.states import State

QUEUE = "default"
FREE = Bound()
HOUR_MS = 3_600_000

Join = Callable[..., FullBroker]
Advance = Callable[[float], None]


def body(number: int = 0, options: EnvelopeOptions | None = None) -> bytes:
    return codec.pack_envelope("add", msgspec.msgpack.encode([number]), options=options)


def number_of(packed: bytes) -> int:
    numbers: list[int] = msgspec.msgpack.decode(codec.unpack_envelope(packed).args)
    return numbers[0]


def submit(broker: FullBroker, count: int, queue: str = QUEUE, *, delay_ms: int = 0, token: str = "") -> list[str]:
    jobs = [Submission(body(number), delay_ms) for number in range(count)]
    return broker.publish(queue, jobs, token or f"token-{queue}-{count}-{delay_ms}", FREE)


def fetch(worker: FullBroker, room: int = 100, queue: str = QUEUE) -> list[Lease]:
    return worker.fetch({queue: room}, 0.0)


def take(worker: FullBroker, room: int = 100, queue: str = QUEUE) -> list[Lease]:
    """Wait for jobs, new or left behind."""
    return eventually(lambda: worker.fetch({queue: room}, 0.0) or worker.recover({queue: room}))


def record(value: object = None, state: State = State.SUCCEEDED) -> ResultRecord:
    return ResultRecord(codec.VERSION, state, msgspec.Raw(msgspec.msgpack.encode(value)), None, "add", 1, 1, 5, 9)


def done(lease: Lease, value: object = None, ttl_ms: int = HOUR_MS) -> Disposition:
    return Disposition(lease, Kind.DONE, codec.pack_record(record(value)), ttl_ms)


def retry(lease: Lease, delay_ms: int) -> Disposition:
    again = body(number_of(lease.body), EnvelopeOptions(attempt=2))
    return Disposition(lease, Kind.RETRY, body=again, delay_ms=delay_ms)


def dead(lease: Lease, *, ttl_ms: int = HOUR_MS, packed: bytes | None = None) -> Disposition:
    return Disposition(
        lease,
        Kind.DEAD,
        codec.pack_record(record(state=State.DEAD)) if ttl_ms else b"",
        ttl_ms,
        letter=pack_letter(letter(lease.job_id, lease.body if packed is None else packed)),
    )


def letter(job_id: str, packed: bytes) -> DeadLetter:
    return DeadLetter(
        id=job_id, queue=QUEUE, name="add", reason="failed", error="ValueError: no", traceback="", attempts=3,
        deliveries=3, died_at_ms=7, body=packed,
    )  # fmt: skip


def states(broker: FullBroker, job_ids: Sequence[str]) -> list[State | str | None]:
    return [view.state if view else "unknown" for view in broker.lookup(job_ids)]


def bury(broker: FullBroker, worker: FullBroker, count: int = 1, **options: int) -> list[str]:
    job_ids = submit(broker, count, token=f"bury-{count}-{options}")
    assert 0 == worker.settle([dead(lease, **options) for lease in take(worker, count)])
    return job_ids
