"""What every broker promises of pausing, cancelling, progress, and of the words that workers hear.

Runs with each adapter of conftest.py.
"""

from making import QUEUE, Join, bury, done, fetch, retry, states, submit, take
from places import FullBroker, Place, eventually

from headrace.engine import admin
from headrace.engine.broker.control import CANCEL, LOOK, PAUSE, RESUME, RETURNED, cancel_one
from headrace.engine.broker.views import Progress
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.results import error_of
from headrace.jobs.states import State


def listen(broker: FullBroker, queue: str = QUEUE) -> list[str]:
    """Hear the words for a queue, and be there before this returns."""
    words: list[str] = []
    broker.hear((queue,), lambda _, word: words.append(word))
    if broker.waits:
        eventually(lambda: LOOK in words)
        words.clear()
    return words


def test_a_queued_job_is_cancelled_at_once(broker: FullBroker, join: Join) -> None:
    """It is never delivered, its record says cancelled, and there is nothing more to cancel."""
    worker, job_ids = join("w1"), submit(broker, 3)
    assert cancel_one(broker, job_ids[1])
    assert [State.QUEUED, State.CANCELLED, State.QUEUED] == states(broker, job_ids)
    assert not cancel_one(broker, job_ids[1])
    (record,) = broker.records([job_ids[1]])
    assert record is not None
    assert ("add", 0, 0) == (record.name, record.attempt, record.started_at_ms)
    assert "was cancelled" in str(error_of(job_ids[1], record))
    assert [job_ids[0], job_ids[2]] == [lease.job_id for lease in fetch(worker)]
    assert 0 == broker.queues([QUEUE])[0].queued


def test_a_delayed_and_a_retrying_job_are_cancelled_at_once(broker: FullBroker, join: Join) -> None:
    """Jobs that wait for their time end at once and are never due; the record counts the tries that were made."""
    worker = join("w1")
    (tried,) = submit(broker, 1)
    worker.settle([retry(fetch(worker)[0], 50)])
    (later,) = submit(broker, 1, delay_ms=50)
    assert [True, True] == broker.cancel([view for view in broker.lookup([tried, later]) if view])
    assert [State.CANCELLED] * 2 == states(broker, [tried, later])
    assert [1, 0] == [record.attempt for record in broker.records([tried, later]) if record]
    assert (0, 0) == (broker.queues([QUEUE])[0].delayed, broker.queues([QUEUE])[0].queued)
    assert broker.promote([QUEUE]) is None


def test_a_job_that_was_given_back_is_cancelled_at_once(broker: FullBroker, join: Join) -> None:
    """What a worker handed back waits, so it ends here and no sweep finds it."""
    worker = join("w1")
    (job_id,) = submit(broker, 1)
    worker.settle([Disposition(fetch(worker)[0], Kind.RETURN)])
    assert cancel_one(broker, job_id)
    assert [State.CANCELLED] == states(broker, [job_id])
    assert [] == worker.recover({QUEUE: 5})
    assert [] == fetch(worker)


def test_a_running_job_is_marked_and_its_worker_told(broker: FullBroker, join: Join) -> None:
    """The job runs on until its worker ends it; the mark stands until then, and whoever listens hears of it."""
    worker = join("w1")
    words = listen(worker)
    (job_id,) = submit(broker, 1)
    (lease,) = fetch(worker)
    assert cancel_one(broker, job_id)
    assert [State.RUNNING] == states(broker, [job_id])
    assert [job_id] == broker.marks([QUEUE])
    eventually(lambda: f"{CANCEL} {job_id}" in words)
    worker.settle([done(lease, 7)])
    assert [State.SUCCEEDED] == states(broker, [job_id])
    assert not cancel_one(broker, job_id)
    assert [] == broker.marks([QUEUE])


def test_a_mark_follows_a_job_that_is_tried_again(broker: FullBroker, join: Join) -> None:
    """A marked job whose worker put it off waits, and so ends when its mark is looked at; the mark goes with it."""
    worker = join("w1")
    (job_id,) = submit(broker, 1)
    (lease,) = fetch(worker)
    cancel_one(broker, job_id)
    views = [view for view in broker.lookup([job_id]) if view]
    assert [False] == broker.cancel(views, only_waiting=True)
    assert [job_id] == broker.marks([QUEUE])
    worker.settle([retry(lease, 60_000)])
    assert [True] == broker.cancel(views, only_waiting=True)
    assert [State.CANCELLED] == states(broker, [job_id])
    assert [] == broker.marks([QUEUE])


def test_a_dead_job_is_not_cancelled(broker: FullBroker, join: Join) -> None:
    """What lies in the dead letters has ended, whether its record is kept or not."""
    worker = join("w1")
    job_ids = [*bury(broker, worker), *bury(broker, worker, ttl_ms=0)]
    assert [False, False] == [cancel_one(broker, job_id) for job_id in job_ids]
    assert [State.DEAD, State.DEAD] == states(broker, job_ids)


def test_a_job_without_a_kept_record_is_cancelled(broker: FullBroker) -> None:
    """Where records are kept for no time, a cancelled job leaves none."""
    broker.result_ttl_s = 0
    (job_id,) = submit(broker, 1)
    assert cancel_one(broker, job_id)
    assert [None] == broker.records([job_id])
    assert [None] == states(broker, [job_id])


def test_a_pause_is_shown_and_said(broker: FullBroker, join: Join) -> None:
    """A paused queue is shown as such, takes jobs, and its workers hear of it; so of its end."""
    words = listen(join("w1"))
    assert admin.pause(broker, QUEUE).paused
    submit(broker, 1)
    assert [(True, 1)] == [(view.paused, view.queued) for view in broker.queues([QUEUE])]
    assert not admin.resume(broker, QUEUE).paused
    assert [PAUSE, RESUME] == eventually(lambda: words if len(words) > 1 else [])


def test_a_paused_queue_is_listed(broker: FullBroker) -> None:
    """A queue that never had a job and is paused has a name all the same, so that nobody forgets it."""
    admin.pause(broker, "quiet")
    assert ["quiet"] == broker.queue_names()


def test_a_queue_that_nobody_used_is_told_from_others(broker: FullBroker, join: Join) -> None:
    """It is paused all the same, and names that are near are told; a job, a worker or a handler makes it known."""
    join("w1", ("images",))
    submit(broker, 1, "mail")
    first = admin.pause(broker, "mial")
    assert (True, False, ("mail",)) == (first.paused, first.known, first.similar)
    again = admin.pause(broker, "mial")
    assert (True, False) == (again.paused, again.known)
    assert (False, False) == ((back := admin.resume(broker, "mial")).paused, back.known)
    assert [False] * 4 == [switch(broker, "mial").known for switch in (admin.pause, admin.resume) * 2]
    assert (True, ()) == ((had := admin.pause(broker, "mail")).known, had.similar)
    assert admin.resume(broker, "mail").known
    assert admin.pause(broker, "images").known
    assert admin.pause(broker, "later", named=["later"]).known


def test_what_a_queue_had_is_remembered(place: Place, broker: FullBroker, join: Join) -> None:
    """It is known also after its only job ended, delayed ones and those past the port too, or its worker left."""
    worker = join("w1", ("images",))
    submit(broker, 1, "images")
    worker.settle([done(lease) for lease in fetch(worker, queue="images")])
    join("w2", ("left",)).unregister()
    cancel_one(broker, submit(broker, 1, "later", delay_ms=60_000)[0])
    place.add_raw("foreign", {b"name": b"add"})
    for queue in ("images", "left", "later", "foreign"):
        assert [True] * 4 == [switch(broker, queue).known for switch in (admin.pause, admin.resume) * 2], queue


def test_a_queue_that_was_only_resumed_is_not_listed(broker: FullBroker) -> None:
    """Nothing came of it, so its name, which may be misspelt, is not kept."""
    assert not admin.resume(broker, "defualt").known
    assert [] == broker.queue_names()


def test_a_purge_ends_what_waits(broker: FullBroker, join: Join) -> None:
    """Queued and delayed jobs end as cancelled, so that nobody waits for them; running ones and other queues stay."""
    worker = join("w1")
    running = submit(broker, 3, token="running")
    leases = fetch(worker)
    given_back = submit(broker, 1, token="back")
    worker.settle([Disposition(fetch(worker)[0], Kind.RETURN)])
    queued, later = submit(broker, 600), submit(broker, 5, delay_ms=60_000)
    elsewhere = submit(broker, 1, "other")
    assert admin.Purged(QUEUE, 606) == admin.purge(broker, QUEUE)
    assert [State.CANCELLED] * 606 == states(broker, [*given_back, *queued, *later])
    assert [State.RUNNING] * 3 + [State.QUEUED] == states(broker, [*running, *elsewhere])
    record = broker.records([queued[-1]])[0]
    assert record is not None
    assert "purged" in str(record.failure)
    view = broker.queues([QUEUE])[0]
    assert (0, 0, 3) == (view.queued, view.delayed, view.running)
    assert 0 == worker.settle([done(lease) for lease in leases])
    assert admin.Purged(QUEUE, 0) == admin.purge(broker, QUEUE)
    assert [] == take_nothing(worker)


def take_nothing(worker: FullBroker) -> list[object]:
    """Return what a fetch and a sweep find."""
    return [*fetch(worker), *worker.recover({QUEUE: 10})]


def test_the_newest_progress_is_kept(broker: FullBroker, join: Join) -> None:
    """Progress is there for those that said something, newest only, and outlives the job's end."""
    worker, (job_id, silent) = join("w1"), submit(broker, 2)
    worker.progress_put({job_id: Progress(1, 10)})
    worker.progress_put({job_id: Progress(2.5)})
    assert [Progress(2.5, None), None, None] == broker.progress([job_id, silent, "nonsense"])
    worker.settle([done(lease) for lease in take(worker)])
    assert [Progress(2.5, None)] == broker.progress([job_id])


def test_workers_hear_of_what_was_given_back(broker: FullBroker, join: Join) -> None:
    """Another worker hears the word, or is woken, when jobs go back, and a sweep then finds them."""
    worker, other = join("w1"), join("w2")
    words, wakes = listen(other), []
    other.listen(lambda: wakes.append(1))
    (job_id,) = submit(broker, 1)
    (lease,) = fetch(worker)
    wakes.clear()
    worker.settle([Disposition(lease, Kind.RETURN)])
    eventually(lambda: RETURNED in words or wakes)
    assert [job_id] == [lease.job_id for lease in other.recover({QUEUE: 1})]


def test_nobody_hears_after_the_end(broker: FullBroker, join: Join) -> None:
    """Once told to stop, a listener hears nothing more; stopping twice is harmless."""
    worker = join("w1")
    words: list[str] = []
    stop = worker.hear((QUEUE,), lambda _, word: words.append(word))
    stop()
    stop()
    heard = listen(worker)
    admin.pause(broker, QUEUE)
    eventually(lambda: PAUSE in heard)
    assert PAUSE not in words
