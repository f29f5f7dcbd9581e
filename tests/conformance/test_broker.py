"""What every broker promises of submitting, fetching and settling; beside it, of delays and leases, and of its views.

Each test of the three files runs with each adapter of conftest.py, and sees it through the two ports alone.
"""

import re
import threading

import msgspec
import pytest
from making import (
    FREE,
    QUEUE,
    Advance,
    Join,
    body,
    dead,
    done,
    fetch,
    number_of,
    retry,
    states,
    submit,
    take,
)
from places import FullBroker, Place, eventually

from headrace.config import limits
from headrace.engine.broker.port import Bound, Lease, Submission
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.errors import QueueFull
from headrace.jobs.states import State

# Submitting ----------------------------------------------------------------------------------------------------------


def test_ids_are_entries_in_order(broker: FullBroker) -> None:
    """The ids of a batch are QUEUE:MS-SEQ, strictly increasing, over batches too."""
    job_ids = submit(broker, 20, "mail") + submit(broker, 5, "mail")
    matches = [re.fullmatch(r"mail:(\d+)-(\d+)", job_id) for job_id in job_ids]
    entries = [(int(match[1]), int(match[2])) for match in matches if match]
    assert 25 == len(set(entries))
    assert sorted(entries) == entries


def test_ids_of_delayed_jobs_are_marked(broker: FullBroker) -> None:
    """A job that is delayed from the start has the id QUEUE:MS-dN, and no other job has it."""
    job_ids = submit(broker, 3, delay_ms=60_000) + submit(broker, 3, delay_ms=70_000)
    assert all(re.fullmatch(r"default:\d+-d\d+", job_id) for job_id in job_ids)
    assert 6 == len(set(job_ids))


def test_a_mixed_batch_answers_in_order(broker: FullBroker) -> None:
    """Delayed and ready jobs may share a batch; the ids come in the batch's order."""
    jobs = [Submission(body(1)), Submission(body(2), delay_ms=60_000), Submission(body(3))]
    views = broker.lookup(broker.publish(QUEUE, jobs, "mixed", FREE))
    assert [1, 2, 3] == [number_of(view.body) for view in views if view]
    assert [State.QUEUED, State.DELAYED, State.QUEUED] == [view.state for view in views if view]


def test_a_token_adds_once(broker: FullBroker) -> None:
    """A batch sent again with its token adds nothing and answers the same ids."""
    first = submit(broker, 3, token="one")
    assert first == submit(broker, 3, token="one")
    assert 3 == broker.queues([QUEUE])[0].queued
    assert set(first).isdisjoint(submit(broker, 3, token="two"))


def test_a_token_of_a_delayed_batch_adds_once(broker: FullBroker) -> None:
    """A delayed batch sent again with its token adds nothing and answers the same ids."""
    assert submit(broker, 3, delay_ms=60_000, token="one") == submit(broker, 3, delay_ms=60_000, token="one")
    assert 3 == broker.queues([QUEUE])[0].delayed


def test_the_bound_refuses_the_whole_batch(broker: FullBroker) -> None:
    """A batch that would pass the bound raises QueueFull with the numbers, and none of it is added."""
    broker.publish(QUEUE, [Submission(body())] * 2, "a", Bound(4))
    broker.publish(QUEUE, [Submission(body(), delay_ms=60_000)], "b", Bound(4))
    with pytest.raises(QueueFull, match=r"'default'.*3 .*4") as refusal:
        broker.publish(QUEUE, [Submission(body())] * 2, "c", Bound(4))
    full = refusal.value
    assert (QUEUE, 3, 4, "length") == (full.queue, full.depth, full.bound, full.reason)
    assert 2 == broker.queues([QUEUE])[0].queued
    assert 1 == len(broker.publish(QUEUE, [Submission(body())], "d", Bound(4)))


def test_a_resend_passes_a_reached_bound(broker: FullBroker) -> None:
    """The batch that filled the queue may be sent again: the answer is its ids, not QueueFull."""
    jobs = [Submission(body())] * 2
    assert broker.publish(QUEUE, jobs, "a", Bound(2)) == broker.publish(QUEUE, jobs, "a", Bound(2))


def test_jobs_that_run_do_not_count_for_the_bound(broker: FullBroker, join: Join) -> None:
    """The bound counts what waits: fetched jobs make room."""
    worker = join("w1")
    broker.publish(QUEUE, [Submission(body())] * 2, "a", Bound(2))
    fetch(worker)
    assert 2 == len(broker.publish(QUEUE, [Submission(body())] * 2, "b", Bound(2)))


# Fetching ------------------------------------------------------------------------------------------------------------


def test_fetch_respects_the_room(broker: FullBroker, join: Join) -> None:
    """Fetch returns at most what there is room for, first come first served, and each job once."""
    worker, job_ids = join("w1"), submit(broker, 10)
    assert job_ids[:4] == [lease.job_id for lease in fetch(worker, 4)]
    assert job_ids[4:] == [lease.job_id for lease in fetch(worker, 100)]
    assert [] == fetch(worker)


def test_a_lease_says_what_it_is(broker: FullBroker, join: Join) -> None:
    """A lease carries queue, registration, entry and body; the leases of a batch share one source."""
    worker, job_ids = join("w1"), submit(broker, 2)
    first, second = fetch(worker)
    assert (QUEUE, True) == (first.source.queue, "w1" in first.source.member)
    assert first.source is second.source
    assert job_ids[1].partition(":")[2].encode() == second.entry
    assert (body(1), 0, None, None) == (second.body, second.starts, second.problem, second.moved_id)


def test_fetch_reads_several_queues(broker: FullBroker, join: Join) -> None:
    """Each queue has a room of its own, and a queue that is not asked for is left alone."""
    worker = join("w1", ("high", "low", "other"))
    for queue in ("high", "low", "other"):
        submit(broker, 5, queue)
    leases: list[Lease] = []
    eventually(lambda: leases.extend(worker.fetch({"high": 2, "low": 3}, 0.0)) or len(leases) >= 10)
    assert {"high", "low"} == {lease.source.queue for lease in leases}
    assert 5 == broker.queues(["other"])[0].queued


def test_rooms_hold_for_each_queue(broker: FullBroker, join: Join) -> None:
    """One fetch returns jobs of the first queue that has any, and no more than there is room for in it."""
    worker = join("w1", ("high", "low"))
    submit(broker, 5, "high")
    submit(broker, 5, "low")
    assert ["high"] == [lease.source.queue for lease in worker.fetch({"high": 1, "low": 2}, 0.0)]
    assert ["low"] * 2 == [lease.source.queue for lease in worker.fetch({"low": 2, "high": 1}, 0.0)]
    assert 4 == len(worker.fetch({"high": 9, "low": 2}, 0.0))
    assert ["low"] * 3 == [lease.source.queue for lease in worker.fetch({"high": 9, "low": 9}, 0.0)]


def test_two_workers_share_the_jobs(broker: FullBroker, join: Join) -> None:
    """Workers that fetch at the same time get each job once."""
    job_ids = submit(broker, 300)
    taken: list[str] = []

    def work(worker: FullBroker) -> None:
        while leases := fetch(worker, 7):
            taken.extend(lease.job_id for lease in leases)

    threads = [threading.Thread(target=work, args=(join(name),)) for name in ("w1", "w2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job_ids) == sorted(taken)


def test_fetch_is_bounded(broker: FullBroker, join: Join) -> None:
    """One fetch returns at most FETCH_BATCH_MAX_COUNT jobs, however much room there is."""
    worker = join("w1")
    for batch in range(2):
        submit(broker, 500, token=f"batch-{batch}")
    assert limits.FETCH_BATCH_MAX_COUNT == len(fetch(worker, 5_000))


def test_interrupt_ends_a_wait(join: Join) -> None:
    """A fetch that waits returns soon after interrupt, and interrupt is harmless when none waits."""
    worker = join("w1")
    worker.interrupt()
    got: list[list[Lease]] = []
    thread = threading.Thread(target=lambda: got.append(worker.fetch({QUEUE: 1}, 60.0)))
    thread.start()
    eventually(lambda: worker.interrupt() or not thread.is_alive())
    assert [[]] == got


def test_a_wait_ends_when_a_job_comes(broker: FullBroker, join: Join) -> None:
    """A fetch that waits, or is called again after the wake, returns a job that comes meanwhile."""
    worker = join("w1")
    got: list[Lease] = []
    woken = threading.Event()
    worker.listen(woken.set)

    def wait() -> None:
        got.extend(worker.fetch({QUEUE: 1}, 30.0))
        if not got and not worker.waits and woken.wait(30.0):
            got.extend(worker.fetch({QUEUE: 1}, 0.0))

    thread = threading.Thread(target=wait)
    thread.start()
    job_ids = submit(broker, 1)
    thread.join(20.0)
    assert job_ids == [lease.job_id for lease in got]


def test_plain_fields_are_a_job(place: Place, broker: FullBroker, join: Join) -> None:
    """An entry of plain fields with JSON arguments is delivered as an envelope, under the id that adding it gave."""
    worker = join("w1")
    job_id = place.add_raw(QUEUE, {b"name": b"add", b"args": b"[1, 2]", b"attempts": b"7"})
    (lease,) = take(worker)
    envelope = codec.unpack_envelope(lease.body)
    assert (job_id, None) == (lease.job_id, lease.problem)
    assert ("add", [1, 2]) == (envelope.name, msgspec.msgpack.decode(envelope.args))
    assert envelope.options is not None
    assert 7 == envelope.options.attempts


def test_unknown_fields_are_a_problem(place: Place, broker: FullBroker, join: Join) -> None:
    """An entry whose fields make no job is delivered with the problem and with its fields, packed."""
    worker = join("w1")
    job_id = place.add_raw(QUEUE, {b"nonsense": b"\xff\x00"})
    (lease,) = take(worker)
    assert job_id == lease.job_id
    assert "nonsense" in (lease.problem or "")
    assert {b"nonsense": b"\xff\x00"} == msgspec.msgpack.decode(lease.body, type=dict[bytes, bytes])
    assert 0 == worker.settle([dead(lease)])
    assert [State.DEAD] == states(broker, [job_id])


def test_unreadable_bytes_are_kept(place: Place, broker: FullBroker, join: Join) -> None:
    """An entry whose envelope cannot be read is delivered with the very bytes, for its reader to refuse."""
    worker = join("w1")
    place.add_raw(QUEUE, {b"m": b"\xc1 no envelope"})
    (lease,) = take(worker)
    assert b"\xc1 no envelope" == lease.body
    with pytest.raises(codec.Malformed):
        codec.unpack_envelope(lease.body)


# Settling ------------------------------------------------------------------------------------------------------------


def test_done_stores_the_record(broker: FullBroker, join: Join) -> None:
    """A job that is done leaves the queue, and its record can be read."""
    worker, job_ids = join("w1"), submit(broker, 2)
    first, second = fetch(worker)
    assert 0 == worker.settle([done(first, 41), done(second, 42)])
    records = broker.records(job_ids)
    assert [41, 42] == [msgspec.msgpack.decode(found.value) for found in records if found]
    assert [State.SUCCEEDED] * 2 == states(broker, job_ids)
    view = broker.queues([QUEUE])[0]
    assert (0, 0) == (view.queued, view.running)


def test_settling_again_changes_nothing(broker: FullBroker, join: Join) -> None:
    """The same batch sent again is not refused and does nothing more, whatever is in it."""
    worker, job_ids = join("w1"), submit(broker, 3)
    first, second, third = fetch(worker)
    batch = [done(first, 1), retry(second, 60_000), dead(third)]
    assert 0 == worker.settle(batch)
    before = broker.queues([QUEUE])[0]
    assert 0 == worker.settle(batch)
    assert before == msgspec.structs.replace(broker.queues([QUEUE])[0], oldest_age_s=before.oldest_age_s)
    assert [State.SUCCEEDED, State.RETRYING, State.DEAD] == states(broker, job_ids)


def test_the_first_settling_wins(broker: FullBroker, join: Join) -> None:
    """A job that was settled is not settled otherwise afterwards."""
    worker, job_ids = join("w1"), submit(broker, 1)
    (lease,) = fetch(worker)
    worker.settle([done(lease, "first")])
    worker.settle([dead(lease)])
    assert [State.SUCCEEDED] == states(broker, job_ids)
    assert 0 == broker.queues([QUEUE])[0].dead


def test_a_batch_partly_settled_before_is_completed(broker: FullBroker, join: Join) -> None:
    """A batch of which a part was settled before settles the rest."""
    worker, job_ids = join("w1"), submit(broker, 3)
    batch = [done(lease, number) for number, lease in enumerate(fetch(worker))]
    worker.settle(batch[1:2])
    assert 0 == worker.settle(batch)
    assert [0, 1, 2] == [msgspec.msgpack.decode(found.value) for found in broker.records(job_ids) if found]


def test_a_mixed_batch_is_carried_out(broker: FullBroker, join: Join) -> None:
    """One batch may end, retry, bury and return jobs of several queues."""
    worker = join("w1", (QUEUE, "mail"))
    job_ids = submit(broker, 4) + submit(broker, 1, "mail")
    one, two, three, four = fetch(worker)
    (five,) = fetch(worker, queue="mail")
    batch = [done(one), retry(two, 60_000), dead(three), Disposition(four, Kind.RETURN), done(five)]
    assert 0 == worker.settle(batch)
    expected = [State.SUCCEEDED, State.RETRYING, State.DEAD, State.QUEUED, State.SUCCEEDED]
    assert expected == states(broker, job_ids)


def test_no_record_is_kept_unless_asked_for(broker: FullBroker, join: Join) -> None:
    """A job that is done without a record is known to have been, and no more."""
    worker, job_ids = join("w1"), submit(broker, 1)
    worker.settle([Disposition(fetch(worker)[0], Kind.DONE)])
    assert [None] == broker.records(job_ids)
    assert [None] == states(broker, job_ids)


def test_a_record_expires(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A record is gone after its time, and the job is known to have been."""
    worker, job_ids = join("w1"), submit(broker, 1)
    worker.settle([done(fetch(worker)[0], 1, ttl_ms=50)])
    advance(0.1)
    assert [None] == broker.records(job_ids)
    assert [None] == states(broker, job_ids)


def test_a_retry_keeps_its_id(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A job that is retried waits as retrying, is queued when due, and keeps its id, with the new body."""
    worker, job_ids = join("w1"), submit(broker, 1)
    (lease,) = fetch(worker)
    worker.settle([retry(lease, 50)])
    assert [] == fetch(worker)
    assert [State.RETRYING] == states(broker, job_ids)
    advance(0.1)
    assert broker.promote([QUEUE]) is None
    assert [State.QUEUED] == states(broker, job_ids)
    (again,) = fetch(worker)
    envelope = codec.unpack_envelope(again.body)
    assert (job_ids[0], job_ids[0], 0) == (again.job_id, again.moved_id, again.starts)
    assert envelope.options is not None
    assert 2 == envelope.options.attempt
    assert [State.RUNNING] == states(broker, job_ids)
    assert 0 == worker.settle([done(again, 5)])
    assert [State.SUCCEEDED] == states(broker, job_ids)


def test_a_retry_shows_when_it_is_due(broker: FullBroker, join: Join) -> None:
    """The view of a retrying job has its due time and its next body."""
    worker, job_ids = join("w1"), submit(broker, 1)
    worker.settle([retry(fetch(worker)[0], 60_000)])
    (view,) = broker.lookup(job_ids)
    assert view is not None
    at_ms = int(job_ids[0].partition(":")[2].partition("-")[0])
    assert at_ms + 59_000 < view.due_at_ms < at_ms + 120_000
    assert body(0, EnvelopeOptions(attempt=2)) == view.body


def test_return_is_for_anyone_at_once(broker: FullBroker, join: Join) -> None:
    """A job that is given back waits again; another worker gets it unchanged, with its id and no start counted."""
    first, second, job_ids = join("w1"), join("w2"), submit(broker, 1)
    (lease,) = fetch(first)
    assert 0 == first.settle([Disposition(lease, Kind.RETURN)])
    assert [State.QUEUED] == states(broker, job_ids)
    view = broker.queues([QUEUE])[0]
    assert (1, 0) == (view.queued, view.running)
    (again,) = take(second)
    assert (job_ids[0], body(0), 0) == (again.job_id, again.body, again.starts)
    assert 0 == second.settle([done(again)])


def test_a_retried_job_can_be_given_back(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A job that is not at its first entry any more keeps its id when it is given back."""
    first, second, job_ids = join("w1"), join("w2"), submit(broker, 1)
    first.settle([retry(fetch(first)[0], 1)])
    advance(0.05)
    broker.promote([QUEUE])
    first.settle([Disposition(take(first)[0], Kind.RETURN)])
    assert job_ids == [lease.job_id for lease in take(second)]


# The broker itself ---------------------------------------------------------------------------------------------------


def test_renew_works_from_any_thread(join: Join) -> None:
    """A thread of its own may keep the registration."""
    worker = join("w1")
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(worker.renew()))
    thread.start()
    thread.join()
    assert [True] == answers


def test_nothing_to_do_is_fine(broker: FullBroker, join: Join) -> None:
    """Empty batches are answered by nothing."""
    worker = join("w1")
    assert 0 == worker.settle([])
    assert ([], [], []) == (broker.lookup([]), broker.records([]), broker.queues([]))
    assert (0, 0) == (broker.dead_retry([]), broker.dead_drop([]))
    assert ([], None) == (worker.recover({QUEUE: 5}), broker.promote([]))


def test_close_twice(place: Place) -> None:
    """Closing again does no harm."""
    broker = place.connect()
    submit(broker, 1)
    broker.close()
    broker.close()
