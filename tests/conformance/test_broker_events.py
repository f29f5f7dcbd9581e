"""What every broker promises of its streams of events: what was settled is told once, in order; readers miss none."""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from making import FREE, QUEUE, Join, body, dead, done, fetch, retry, submit
from places import FullBroker

from headrace.config import limits
from headrace.engine.broker.port import Submission
from headrace.engine.broker.views import JobView
from headrace.engine.broker.watch import Ear, watch_of
from headrace.jobs.codec import ResultRecord
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.events import Event, events_of, pack_notice, unpack


def events(broker: FullBroker, queue: str = QUEUE, after: str = "0-0") -> list[Event]:
    """Return all events of a queue."""
    entries = broker.events.read({queue: after}, 1000)
    return [event for each in entries for event in events_of(queue, each.id, unpack(each.data), skip=0, cursor=None)]


def test_what_was_settled_is_told(join: Join, broker: FullBroker) -> None:
    """Each settled job is one event, whatever became of it; what is given back is none."""
    job_ids = submit(broker, 4)
    worker = join("w1")
    leases = fetch(worker)
    worker.settle([done(leases[0]), retry(leases[1], 60_000), dead(leases[2]), Disposition(leases[3], Kind.RETURN)])
    told = {event.id: event.kind for event in events(broker)}
    assert {job_ids[0]: "job.succeeded", job_ids[1]: "job.retrying", job_ids[2]: "job.dead"} == told


def test_a_batch_is_one_entry(join: Join, broker: FullBroker) -> None:
    """Jobs that are settled together are told in one entry, in their order."""
    job_ids = submit(broker, 100)
    worker = join("w1")
    worker.settle([done(lease) for lease in fetch(worker)])
    assert 1 == len(broker.events.read({QUEUE: "0-0"}, 1000))
    assert job_ids == [event.id for event in events(broker)]


def test_a_resend_tells_nothing_more(join: Join, broker: FullBroker) -> None:
    """A batch that is settled again after a lost reply is told once."""
    submit(broker, 3)
    worker = join("w1")
    batch = [done(lease) for lease in fetch(worker)]
    worker.settle(batch)
    worker.settle(batch)
    assert 3 == len(events(broker))


def test_what_is_refused_is_not_told(join: Join, broker: FullBroker) -> None:
    """A worker that lost its registration tells nothing of what it could not settle."""
    submit(broker, 2)
    worker = join("w1")
    batch = [done(lease) for lease in fetch(worker)]
    worker.unregister()
    assert 2 == worker.settle(batch)
    assert [] == events(broker)


def test_a_cancelled_job_that_waited_is_told(broker: FullBroker) -> None:
    """A job that is cancelled where it waits is told by whoever cancelled it."""
    (job_id,) = submit(broker, 1)
    view = broker.lookup([job_id])[0]
    assert view is not None
    assert [True] == broker.cancel([view])
    assert [("job.cancelled", job_id)] == [(event.kind, event.id) for event in events(broker)]


def test_jobs_cancelled_together_are_told_together(join: Join, broker: FullBroker) -> None:
    """Of a batch over several queues each queue tells in one entry which of its jobs ended."""
    worker = join("w1")
    mine, others = submit(broker, 20), submit(broker, 2, "other")
    fetch(worker, 1)
    mixed = [mine[3], others[1], mine[0], "other:1-0", mine[19], others[0], mine[3]]
    views = [view or JobView(id=job_id, queue="other", state=None) for job_id, view in zip(
        mixed, broker.lookup(mixed), strict=True
    )]  # fmt: skip
    assert [True, True, True, False, True, True, False] == broker.cancel(views)
    assert {QUEUE: 1, "other": 1} == {queue: len(broker.events.read({queue: "0-0"}, 9)) for queue in (QUEUE, "other")}
    assert [mine[3], mine[19]] == [event.id for event in events(broker)]
    assert [others[1], others[0]] == [event.id for event in events(broker, "other")]


def test_pausing_is_told(broker: FullBroker) -> None:
    """A queue that is paused and resumed tells so."""
    broker.pause(QUEUE, True)
    broker.pause(QUEUE, False)
    assert ["queue.paused", "queue.resumed"] == [event.kind for event in events(broker)]


def test_reading_goes_on_behind_an_entry(broker: FullBroker) -> None:
    """A reader that names the entry it read last gets all behind it, a bounded number at a time, and nothing twice."""
    assert {"a": "0-0", "b": "0-0"} == broker.events.ends(["a", "b"])
    for _ in range(5):
        broker.events.announce(["a", "b"], pack_notice("queue.paused"))
    seen = [each.id for each in broker.events.read({"a": "0-0"}, 3)]
    rest = broker.events.read({"a": seen[-1], "b": "0-0"}, 3)
    assert {"a": 2, "b": 3} == {queue: sum(each.queue == queue for each in rest) for queue in "ab"}
    assert broker.events.ends(["a"])["a"] == [each.id for each in rest if each.queue == "a"][-1]
    assert [] == broker.events.read(broker.events.ends(["a", "b"]), 3)


def test_waiting_ends_when_something_comes(place, broker: FullBroker) -> None:  # type: ignore[no-untyped-def]
    """A wait returns what another broker wrote meanwhile."""
    other = place.connect()
    threading.Timer(0.02, other.events.announce, ([QUEUE], pack_notice("queue.paused"))).start()
    assert 1 == len(broker.events.wait({QUEUE: "0-0"}, 10, 10.0))


def test_waiting_ends_when_woken(broker: FullBroker) -> None:
    """A wait that is woken, even before it began, returns at once with nothing; the next one waits again."""
    broker.events.wake()
    assert [] == broker.events.wait({QUEUE: "0-0"}, 10, 10.0)
    threading.Timer(0.02, broker.events.wake).start()
    assert [] == broker.events.wait({QUEUE: "0-0"}, 10, 10.0)
    assert [] == broker.events.wait({QUEUE: "0-0"}, 10, 0.01)


def test_a_stream_is_bounded(broker: FullBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream drops its oldest entries above its bound in bytes."""
    monkeypatch.setattr(limits, "EVENTS_MAX_BYTES", 100_000)
    for _ in range(40):
        broker.events.announce([QUEUE], b"x" * 10_000)
    kept = broker.events.read({QUEUE: "0-0"}, 1000)
    assert 5 <= len(kept) <= 12


class Listener(NamedTuple):
    """Who waits for a job."""

    job_id: str
    rest: bytes


def test_the_watch_tells_each_waiter_once_its_job_has_ended(join: Join, broker: FullBroker) -> None:
    """Many waiters are told the records of their jobs by one thread, and those of other jobs hear nothing."""
    watch, told, all_told = watch_of(broker), {}, threading.Event()
    assert watch is watch_of(broker)
    job_ids = broker.publish(QUEUE, [Submission(body(n)) for n in range(20)], "", FREE)
    watch.follow([QUEUE])

    def hear(ended: Sequence[tuple[Ear, ResultRecord | None]]) -> None:
        told.update({ear.job_id: record for ear, record in ended})
        if len(told) == 10:
            all_told.set()

    watch.hear = hear
    watch.add(QUEUE, [Listener(job_id, job_id.partition(":")[2].encode()) for job_id in job_ids])
    worker = join("w1")
    worker.settle([done(lease) for lease in fetch(worker)][:10])
    assert all_told.wait(10)
    assert job_ids[:10] == list(told)
    assert broker.records(job_ids[:10]) == list(told.values())
    assert 1 == sum(thread.name == "headrace-watch" and thread is watch._thread for thread in threading.enumerate())
