"""Dead letters as a workflow: chosen, edited, and handled at a rate; on the memory broker."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headrace import Engine, InvalidArguments, JobNotFound, PayloadTooLarge
from headrace.engine import admin, inspect
from headrace.engine.admin import Choice, Pace
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.port import Bound, Registration, Submission
from headrace.jobs import codec
from headrace.jobs.disposition import DeadLetter, Disposition, Kind, pack_letter
from headrace.jobs.editing import edited
from headrace.jobs.letters import dead_item

_numbers = itertools.count()


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    """A broker with a worker."""
    broker = MemoryBroker(f"memory://letters-{next(_numbers)}")
    broker.register(Registration("w", ("default", "mail"), 30.0))
    yield broker
    broker.close()


def bury(
    broker: MemoryBroker, count: int, queue: str = "default", *, name: str = "add", reason: str = "failed"
) -> list[str]:
    """Have jobs die; return their ids, the oldest first."""
    body = codec.pack_foreign(name, [1], {"b": 2})
    ids = broker.publish(queue, [Submission(body)] * count, "", Bound())
    for lease in broker.fetch({queue: count}, 0):
        letter = DeadLetter(
            id=lease.job_id, queue=queue, name=name, reason=reason, error="E: no", traceback="", attempts=3,
            deliveries=3, died_at_ms=7, body=lease.body,
        )  # fmt: skip
        broker.settle([Disposition(lease, Kind.DEAD, letter=pack_letter(letter))])
    return ids


def left(broker: MemoryBroker) -> list[str]:
    """Return the ids of the letters that are there."""
    return [letter.id for letter in inspect.dead(broker, None, "", 1000)[0]]


def test_a_choice_is_by_queue_reason_name_and_number(broker: MemoryBroker) -> None:
    """Each of the four narrows what a verb is for; the newest come first."""
    plain, mail = bury(broker, 3), bury(broker, 2, "mail")
    other, late = bury(broker, 2, name="send"), bury(broker, 2, reason="timed_out")
    assert 2 == admin.dead_drop_all(broker, Choice(queue="mail")).count
    assert 2 == admin.dead_drop_all(broker, Choice(name="send")).count
    assert 2 == admin.dead_drop_all(broker, Choice(reason="timed_out")).count
    assert {*plain} == {*left(broker)}
    assert 1 == admin.dead_retry_all(broker, Choice(limit=1)).count
    assert plain[:2] == sorted(left(broker))
    assert 7 == len({*mail, *other, *late, plain[2]})


def test_a_rate_is_kept_evenly(broker: MemoryBroker) -> None:
    """At 100/s thirty letters go in batches of ten, each a tenth of a second after the one before."""
    bury(broker, 30)
    slept: list[float] = []
    seen: list[int] = []
    pace = Pace(100, seen.append, sleep=slept.append, clock=lambda: 5.0 + sum(slept))
    assert 30 == admin.dead_retry_all(broker, pace=pace).count
    assert [10, 20, 30] == seen
    assert [0.1, 0.1] == [round(pause_s, 6) for pause_s in slept]


def test_a_slow_rate_goes_one_by_one(broker: MemoryBroker) -> None:
    """At one in two seconds each letter has its own turn."""
    bury(broker, 3)
    slept: list[float] = []
    pace = Pace(0.5, sleep=slept.append, clock=lambda: sum(slept))
    assert 3 == admin.dead_drop_all(broker, pace=pace).count
    assert [2.0, 2.0] == slept


def test_what_is_interrupted_goes_on_where_it_stopped(broker: MemoryBroker) -> None:
    """Whoever stops between two batches finds exactly the others left, and the same call finishes them."""
    bury(broker, 25)

    def stop(count: int) -> None:
        if count == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        admin.dead_retry_all(broker, pace=Pace(100, stop, sleep=lambda _: None))
    assert 5 == len(left(broker))
    assert 5 == admin.dead_retry_all(broker).count
    assert 25 == broker.queues(["default"])[0].queued


def test_a_batch_and_its_count_are_not_cut_apart(broker: MemoryBroker) -> None:
    """What keeps interrupts away stands around each batch together with the note of it."""
    bury(broker, 25)
    said: list[object] = []

    @contextmanager
    def uncut() -> Iterator[None]:
        said.append("in")
        yield
        said.append("out")

    admin.dead_retry_all(broker, pace=Pace(100, said.append, sleep=lambda _: None, uncut=uncut))
    assert ["in", 10, "out", "in", 20, "out", "in", 25, "out"] == said


def test_editing_keeps_the_arguments_that_died(broker: MemoryBroker) -> None:
    """An edited letter shows the new arguments, when it was edited, and the arguments that it died with."""
    (job_id,) = bury(broker, 1)
    letter = inspect.dead_letter(broker, job_id)
    assert dead_item(letter)["edited"] is None
    admin.dead_edit(broker, letter, [5], {"b": 6}, now_ms=99, max_payload_bytes=1000)
    item = dead_item(inspect.dead_letter(broker, job_id))
    assert ([5], {"b": 6}, "failed") == (item["args"], item["kwargs"], item["reason"])
    assert {"at_ms": 99, "args": [1], "kwargs": {"b": 2}} == item["edited"]


def test_editing_what_is_too_large_or_gone_is_refused(broker: MemoryBroker) -> None:
    """Neither changes anything."""
    (job_id,) = bury(broker, 1)
    letter = inspect.dead_letter(broker, job_id)
    with pytest.raises(PayloadTooLarge):
        admin.dead_edit(broker, letter, ["x" * 1000], {}, now_ms=99, max_payload_bytes=1000)
    assert letter == broker.dead_letter(job_id)
    admin.dead_drop(broker, [job_id])
    with pytest.raises(JobNotFound, match="nothing was edited"):
        admin.dead_edit(broker, letter, [], {}, now_ms=99, max_payload_bytes=1000)


def test_bytes_that_are_no_job_cannot_be_edited() -> None:
    """A malformed entry has no arguments; the message says what to do instead."""
    letter = DeadLetter(
        id="default:1-0", queue="default", name="", reason="malformed", error="", traceback="", attempts=0,
        deliveries=0, died_at_ms=7, body=b"not a job",
    )  # fmt: skip
    with pytest.raises(InvalidArguments, match="submit the job anew"):
        edited(letter, [], {}, now_ms=1)


def test_the_engine_gives_the_broker_its_setting() -> None:
    """dead_ttl reaches the broker that the engine opens."""
    engine = Engine(f"memory://letters-{next(_numbers)}", dead_ttl="1h")
    try:
        assert 3600 == engine.connection.open().dead_ttl_s
    finally:
        engine.connection.close()
