"""What every broker promises of lookups, depths, pages, the fleet and dead letters.

Runs with each adapter of conftest.py.
"""

import re

import pytest
from making import QUEUE, Advance, Join, body, bury, dead, done, fetch, letter, record, retry, states, submit, take
from places import FullBroker

from headrace.engine.broker.views import SILENT_KEPT_S
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions, ResultRecord
from headrace.jobs.errors import InvalidArguments
from headrace.jobs.outcome import Failure
from headrace.jobs.states import State

# Views ---------------------------------------------------------------------------------------------------------------


def test_lookup_follows_a_job(broker: FullBroker, join: Join) -> None:
    """A lookup shows the body while a job waits and runs, who has it, and the record when it ended."""
    worker, job_ids = join("w1"), submit(broker, 1)
    (queued,) = broker.lookup(job_ids)
    (lease,) = fetch(worker)
    (running,) = broker.lookup(job_ids)
    worker.settle([done(lease, 9)])
    (ended,) = broker.lookup(job_ids)
    assert queued is not None
    assert running is not None
    assert ended is not None
    assert (State.QUEUED, body(0), "", 0) == (queued.state, queued.body, queued.worker, queued.deliveries)
    assert (State.RUNNING, body(0), 1) == (running.state, running.body, running.deliveries)
    assert "w1" in running.worker
    assert (State.SUCCEEDED, b"", record(9)) == (ended.state, ended.body, ended.record)
    assert {(job_ids[0], QUEUE)} == {(view.id, view.queue) for view in (queued, running, ended)}


def test_lookup_of_what_never_was(broker: FullBroker) -> None:
    """Ids that never were give None, in their place among others."""
    (job_id,) = submit(broker, 1)
    unknown = ["default:9999999999999-0", "default:9999999999999-d0", "nobody:1795406593154-0", "nonsense", ""]
    assert [None, None, None, None, None, job_id] == [view and view.id for view in broker.lookup([*unknown, job_id])]
    assert [None] * 5 == broker.records(unknown)


def test_alive_is_what_has_yet_to_end(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A job is alive while it waits, runs, or is to run again or later, and not once it ended or when it never was."""
    worker, job_ids = join("w1"), submit(broker, 251)
    (later,), (elsewhere,) = submit(broker, 1, delay_ms=60_000), submit(broker, 1, "b")
    leases = fetch(worker, 5)
    worker.settle([done(leases[0]), dead(leases[1]), retry(leases[2], 60_000), retry(leases[3], 1)])
    unknown = ["default:9999999999999-0", "default:9999999999999-d0", "nobody:1795406593154-0", "nonsense", ""]
    assert [False] * 5 + [True, False, False] + [True] * 250 == broker.alive([*unknown, later, *job_ids, elsewhere])
    advance(0.05)
    worker.promote([QUEUE])  # moved: under another entry than its id says
    assert [True, True, False] == broker.alive([job_ids[3], job_ids[2], job_ids[0]])
    assert [] == broker.alive([])


def test_queue_names_are_those_that_had_jobs(broker: FullBroker, join: Join) -> None:
    """A queue is named once it had a job, also when it is empty again; the names are sorted."""
    assert [] == broker.queue_names()
    worker = join("w1", ("b",))
    submit(broker, 1, "b")
    submit(broker, 1, "a", delay_ms=60_000)
    worker.settle([done(fetch(worker, queue="b")[0])])
    assert ["a", "b"] == broker.queue_names()


def test_depths_add_up(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A queue's view counts each job once, where it is, and knows how old the oldest that waits is."""
    worker = join("w1")
    submit(broker, 6)
    submit(broker, 2, delay_ms=60_000)
    leases = fetch(worker, 3)
    worker.settle([dead(leases[0]), retry(leases[1], 60_000)])
    advance(0.05)
    view = broker.queues([QUEUE])[0]
    assert (QUEUE, 3, 3, 1, 1) == (view.name, view.delayed, view.queued, view.running, view.dead)
    assert 0.04 <= view.oldest_age_s < 60.0


def test_an_empty_queue_has_no_depth(broker: FullBroker) -> None:
    """The view of a queue that nobody used is all zeros."""
    (view,) = broker.queues(["nobody"])
    assert (0, 0, 0, 0, 0.0, 0) == (
        view.delayed, view.queued, view.running, view.dead, view.oldest_age_s, view.workers,
    )  # fmt: skip
    assert ([], "") == broker.jobs("nobody", None, "", 10)


def pages(broker: FullBroker, state: State | None, limit: int) -> list[tuple[str, State | None]]:
    seen: list[tuple[str, State | None]] = []
    cursor = ""
    for _ in range(100):
        views, cursor = broker.jobs(QUEUE, state, cursor, limit)
        assert len(views) <= limit
        seen += [(view.id, view.state) for view in views]
        if not cursor:
            return seen
    raise AssertionError("the pages do not end")


def test_jobs_are_listed_in_pages(broker: FullBroker, join: Join) -> None:
    """Paging through the jobs shows each that has not ended once, with its state; each state has a list of its own."""
    worker, job_ids = join("w1"), submit(broker, 23)
    delayed = submit(broker, 3, delay_ms=60_000)
    leases = fetch(worker, 6)
    worker.settle([done(leases[0]), retry(leases[1], 60_000)])
    everything = pages(broker, None, 7)
    assert 25 == len(everything)
    assert {*job_ids[1:], *delayed} == {job_id for job_id, _ in everything}
    assert [(job_id, State.QUEUED) for job_id in job_ids[6:]] == pages(broker, State.QUEUED, 5)
    assert [(job_id, State.RUNNING) for job_id in job_ids[2:6]] == pages(broker, State.RUNNING, 3)
    assert {(job_id, State.DELAYED) for job_id in delayed} == set(pages(broker, State.DELAYED, 2))
    assert [(job_ids[1], State.RETRYING)] == pages(broker, State.RETRYING, 2)
    assert [] == pages(broker, State.SUCCEEDED, 2)


def test_the_fleet_says_who_is_there(broker: FullBroker, advance: Advance) -> None:
    """A report is there until its time is over, is replaced by the next, and can be taken back."""
    broker.fleet_put("w1", b"one", 60.0)
    broker.fleet_put("w2", b"two", 60.0)
    broker.fleet_put("w1", b"more", 60.0)
    assert {"w1": b"more", "w2": b"two"} == broker.fleet()
    broker.fleet_put("w2", b"", 60.0)
    broker.fleet_put("w3", b"three", 0.05)
    advance(0.1)
    assert {"w1": b"more"} == broker.fleet()


def test_a_worker_that_fell_silent_is_remembered(broker: FullBroker, advance: Advance) -> None:
    """A report that nobody took back is among the silent ones once its time is over; a new one ends that."""
    for worker in ("w1", "w2", "w3"):
        broker.fleet_put(worker, worker.encode(), 0.05)
    assert {} == broker.silent()
    broker.fleet_put("w3", b"", 0.0)
    advance(0.1)
    assert {"w1": b"w1", "w2": b"w2"} == broker.silent()
    broker.fleet_put("w2", b"back", 60.0)
    broker.fleet_put("w4", b"old", -SILENT_KEPT_S)
    advance(0.1)
    assert ({"w1": b"w1"}, {"w2": b"back"}) == (broker.silent(), broker.fleet())


def test_a_broker_is_prepared(broker: FullBroker) -> None:
    """prepare() can be called at any time, and again."""
    broker.prepare()
    broker.prepare()


# Dead letters --------------------------------------------------------------------------------------------------------


def test_a_dead_letter_can_be_read(broker: FullBroker, join: Join) -> None:
    """A buried job is dead, and its letter says all that was written."""
    (job_id,) = bury(broker, join("w1"))
    assert [State.DEAD] == states(broker, [job_id])
    assert letter(job_id, body(0)) == broker.dead_letter(job_id)
    assert broker.dead_letter("default:9999999999999-0") is None
    assert broker.dead_letter("nonsense") is None


def test_a_dead_letter_outlives_the_record(broker: FullBroker, join: Join) -> None:
    """A job is dead as long as its letter is kept, also without a record."""
    job_ids = bury(broker, join("w1"), ttl_ms=0)
    assert [None] == broker.records(job_ids)
    assert [State.DEAD] == states(broker, job_ids)


def test_a_dead_job_without_a_record_says_why_it_died(broker: FullBroker, join: Join, advance: Advance) -> None:
    """Where its record was never kept, or has expired, a dead job's view has one that its letter makes."""
    worker = join("w1")
    job_ids = [*bury(broker, worker, ttl_ms=0), *bury(broker, worker, ttl_ms=50)]
    advance(0.1)
    assert [None, None] == broker.records(job_ids)
    told = [view and view.record for view in broker.lookup(job_ids)]
    failure = Failure("ValueError", "no", "")
    assert [ResultRecord(codec.VERSION, State.DEAD, codec.NIL, failure, "add", 3, 3, 0, 7, "failed")] * 2 == told


def test_dead_letters_are_listed_in_pages(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A hundred letters in pages of seven: each once, those buried last first."""
    worker = join("w1")
    older = bury(broker, worker, 60)
    advance(0.02)
    newer = bury(broker, worker, 40)
    seen: list[str] = []
    cursor, page_count = "", 0
    while page_count == 0 or cursor:
        letters, cursor = broker.dead(QUEUE, cursor, 7)
        page_count += 1
        seen += [dead_letter.id for dead_letter in letters]
    assert 15 == page_count
    assert sorted(newer) == sorted(seen[:40])
    assert sorted(older) == sorted(seen[40:])
    assert ([], "") == broker.dead("nobody", "", 7)


def test_a_dead_job_can_be_queued_again(broker: FullBroker, join: Join) -> None:
    """A retried dead letter is a queued job with the same id, body and all its attempts; letter and record are gone."""
    worker = join("w1")
    (job_id,) = submit(broker, 1)
    (lease,) = fetch(worker)
    counters = {"attempt": 3, "deliveries": 2, "interruptions": 4, "starts": 5, "unknown_since_ms": 6}
    used = body(0, EnvelopeOptions(timeout_s=9.0, **counters))
    worker.settle([dead(lease, packed=used)])
    assert 1 == broker.dead_retry([job_id, "default:9999999999999-0", "nonsense"])
    assert 0 == broker.dead_retry([job_id])
    assert [State.QUEUED] == states(broker, [job_id])
    assert [None] == broker.records([job_id])
    assert (None, 0) == (broker.dead_letter(job_id), broker.queues([QUEUE])[0].dead)
    (again,) = fetch(worker)
    options = codec.unpack_envelope(again.body).options
    assert (job_id, 0) == (again.job_id, again.starts)
    assert options is not None
    assert EnvelopeOptions(timeout_s=9.0) == options
    assert 0 == worker.settle([done(again, 1)])
    assert [State.SUCCEEDED] == states(broker, [job_id])


def test_a_job_can_die_twice(broker: FullBroker, join: Join) -> None:
    """A job that is retried and dies again has one letter."""
    worker = join("w1")
    (job_id,) = bury(broker, worker)
    broker.dead_retry([job_id])
    worker.settle([dead(take(worker)[0])])
    assert [job_id] == [dead_letter.id for dead_letter in broker.dead(QUEUE, "", 10)[0]]
    assert 1 == broker.queues([QUEUE])[0].dead


def test_dead_letters_can_be_dropped(broker: FullBroker, join: Join) -> None:
    """Dropped letters are gone for good; the others stay."""
    job_ids = bury(broker, join("w1"), 3)
    assert 2 == broker.dead_drop([*job_ids[:2], "default:9999999999999-0"])
    assert 0 == broker.dead_drop(job_ids[:2])
    assert [job_ids[2]] == [dead_letter.id for dead_letter in broker.dead(QUEUE, "", 10)[0]]
    assert broker.dead_letter(job_ids[0]) is None
    assert 0 == broker.dead_retry(job_ids[:2])


def test_submissions_are_counted_once_each(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A queue counts the jobs ever submitted; a delayed job that falls due and a retried one are no new ones."""
    worker = join("w1")
    submit(broker, 3)
    submit(broker, 1, delay_ms=50)
    advance(0.1)
    worker.promote([QUEUE])
    worker.settle([retry(lease, 10) for lease in fetch(worker)])
    advance(0.05)
    worker.promote([QUEUE])
    assert 4 == len(fetch(worker))
    assert 4 == broker.queues([QUEUE])[0].submitted


@pytest.mark.parametrize(
    "cursor", ["garbage", "12 ", "abc default:1-0", "nan x", "e x", "e 1-x", "l 1", "l x y", "-", " "]
)
def test_what_is_no_cursor_is_refused(broker: FullBroker, join: Join, cursor: str) -> None:
    """A cursor that no page gave is the caller's fault, and is named, for dead letters and jobs alike."""
    bury(broker, join("w1"))
    submit(broker, 2)
    for listing in (lambda: broker.dead(QUEUE, cursor, 5), lambda: broker.jobs(QUEUE, None, cursor, 5)):
        with pytest.raises(InvalidArguments, match=re.escape(repr(cursor))):
            listing()
