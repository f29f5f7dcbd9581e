"""What the tests of the server's adapter submit, settle and look for."""

from collections.abc import Callable

from headrace.engine.broker.port import Bound, Lease, Submission
from headrace.engine.broker.redis import RedisBroker
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions, ResultRecord
from headrace.jobs.disposition import DeadLetter, Disposition, Kind, pack_letter
from headrace.jobs.states import State

#: Opens another broker on the server, registered where a worker is named; see the fixture `opened`.
Open = Callable[..., RedisBroker]
BODY = codec.pack_envelope("add")
AGAIN = codec.pack_envelope("add", options=EnvelopeOptions(attempt=2))
RECORD = codec.pack_record(ResultRecord(codec.VERSION, State.SUCCEEDED, codec.NIL, None, "add", 1, 1, 0, 9))
DEAD_RECORD = codec.pack_record(ResultRecord(codec.VERSION, State.DEAD, codec.NIL, None, "add", 1, 1, 0, 9))
FREE = Bound()


def submit(broker: RedisBroker, count: int = 1, *, delay_ms: int = 0, token: str = "t", queue: str = "q") -> list[str]:
    return broker.publish(queue, [Submission(BODY, delay_ms)] * count, token, FREE)


def fetch(broker: RedisBroker, room: int = 100) -> list[Lease]:
    return broker.fetch({"q": room}, 0.0)


def recover(broker: RedisBroker, room: int = 100) -> list[Lease]:
    return broker.recover({"q": room})


def done(lease: Lease) -> Disposition:
    return Disposition(lease, Kind.DONE, RECORD, 60_000)


def retry(lease: Lease, delay_ms: int = 60_000) -> Disposition:
    return Disposition(lease, Kind.RETRY, body=AGAIN, delay_ms=delay_ms)


def give_back(lease: Lease) -> Disposition:
    return Disposition(lease, Kind.RETURN)


def dead(lease: Lease) -> Disposition:
    letter = DeadLetter(
        id=lease.job_id, queue="q", name="add", reason="failed", error="ValueError: no", traceback="", attempts=1,
        deliveries=1, died_at_ms=7, body=lease.body,
    )  # fmt: skip
    return Disposition(lease, Kind.DEAD, DEAD_RECORD, 60_000, letter=pack_letter(letter))


def ids_of(leases: list[Lease]) -> list[str]:
    return [lease.job_id for lease in leases]
