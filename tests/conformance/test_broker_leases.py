"""What every broker promises of delayed jobs, registrations, and what dead workers leave.

Runs with each adapter of conftest.py.
"""

import msgspec
import pytest
from making import FREE, HOUR_MS, QUEUE, Advance, Join, body, dead, done, fetch, number_of, states, submit, take
from places import FullBroker, eventually

from headrace import QueueFull
from headrace.engine.broker.port import Bound, Caution, Pace, Registration, Submission
from headrace.jobs.codec import pack_envelope, unpack_envelope
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.states import State


def waiting(broker: FullBroker, queue: str = QUEUE) -> tuple[int, int]:
    """Return how many jobs are queued and how many delayed."""
    view = broker.queues([queue])[0]
    return view.queued, view.delayed


# Delayed jobs --------------------------------------------------------------------------------------------------------


def test_a_delayed_job_waits_until_it_is_due(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A delayed job is not delivered before promote finds it due; it keeps the id that it got."""
    worker = join("w1")
    job_ids = submit(broker, 1, delay_ms=60)
    assert [State.DELAYED] == states(broker, job_ids)
    assert [] == fetch(worker)
    advance(0.1)
    assert broker.promote([QUEUE]) is None
    (lease,) = fetch(worker)
    assert (job_ids[0], job_ids[0], body(0)) == (lease.job_id, lease.moved_id, lease.body)
    assert 0 == worker.settle([done(lease, 1)])
    assert [State.SUCCEEDED] == states(broker, job_ids)


def test_a_job_can_be_due_at_a_time(broker: FullBroker) -> None:
    """A due time in milliseconds since the epoch is kept to the millisecond."""
    (now,) = submit(broker, 1)
    due_at_ms = int(now.partition(":")[2].partition("-")[0]) + HOUR_MS
    job_ids = broker.publish(QUEUE, [Submission(body(), due_at_ms=due_at_ms)], "due", FREE)
    assert [(State.DELAYED, due_at_ms)] == [(view.state, view.due_at_ms) for view in broker.lookup(job_ids) if view]


def test_promote_says_when_the_next_is_due(broker: FullBroker) -> None:
    """Promote returns the seconds until the next job of these queues is due, and None when there is none."""
    assert broker.promote([QUEUE, "mail"]) is None
    submit(broker, 1, delay_ms=HOUR_MS)
    submit(broker, 1, "mail", delay_ms=60_000)
    assert 0.0 < (broker.promote([QUEUE, "mail"]) or 0.0) <= 60.0
    assert 3_000.0 < (broker.promote([QUEUE]) or 0.0) <= 3_600.0


def test_due_jobs_come_in_the_order_of_their_times(broker: FullBroker, join: Join, advance: Advance) -> None:
    """Jobs that are promoted together are queued by due time."""
    worker = join("w1")
    jobs = [Submission(body(delay_ms), delay_ms) for delay_ms in (30, 10, 20)]
    broker.publish(QUEUE, jobs, "due", FREE)
    advance(0.1)
    broker.promote([QUEUE])
    assert [10, 20, 30] == [number_of(lease.body) for lease in fetch(worker)]


def test_promote_is_bounded(broker: FullBroker, join: Join, advance: Advance) -> None:
    """One call moves a bounded number, says 0 while more are due, and further calls move them all."""
    worker = join("w1")
    batches = [submit(broker, 500, delay_ms=1, token=f"batch-{number}") for number in range(3)]
    advance(0.05)
    assert 0.0 == broker.promote([QUEUE])
    assert 0 < broker.queues([QUEUE])[0].queued < 1_500
    eventually(lambda: broker.promote([QUEUE]) is None)
    leases = [lease for _ in range(3) for lease in fetch(worker, 500)]
    assert {job_id for batch in batches for job_id in batch} == {lease.job_id for lease in leases}
    assert 1_500 == len(leases)


def test_due_jobs_are_moved_as_far_as_the_queue_needs_them(broker: FullBroker, join: Join, advance: Advance) -> None:
    """With a pace, due jobs are moved until so many wait, whatever is running, and the pace says when to look again."""
    worker, pace = join("w1"), {QUEUE: Pace(ahead=10, again_s=0.02)}
    submit(broker, 4)
    submit(broker, 30, delay_ms=1)
    advance(0.05)
    assert 0.02 == broker.promote([QUEUE], pace)
    assert (10, 24) == waiting(broker)
    assert 0.02 == broker.promote([QUEUE], pace)
    assert (10, 24) == waiting(broker)
    assert 7 == len(fetch(worker, 7))
    assert 0.02 == broker.promote([QUEUE], pace)
    assert (10, 17) == waiting(broker)
    fetch(worker, 10)
    broker.promote([QUEUE], pace)
    fetch(worker, 10)
    assert broker.promote([QUEUE], pace) is None
    assert (7, 0) == waiting(broker)


def test_some_due_jobs_are_moved_whatever_waits(broker: FullBroker, advance: Advance) -> None:
    """A queue that live jobs keep full takes the least of its pace at each call, in the order of their times."""
    submit(broker, 20)
    submit(broker, 5, delay_ms=1)
    advance(0.05)
    assert 0.5 == broker.promote([QUEUE], {QUEUE: Pace(ahead=10, least=2, again_s=0.5)})
    assert (22, 3) == waiting(broker)
    assert broker.promote([QUEUE], {QUEUE: Pace(ahead=10, least=3, again_s=0.5)}) is None
    assert (25, 0) == waiting(broker)


def test_what_was_given_back_waits_too(broker: FullBroker, join: Join, advance: Advance) -> None:
    """Given-back jobs count among those that wait, so no more due jobs are moved than are needed beside them."""
    worker = join("w1")
    submit(broker, 6)
    submit(broker, 10, delay_ms=1)
    advance(0.05)
    worker.settle([Disposition(lease, Kind.RETURN) for lease in fetch(worker, 6)])
    broker.promote([QUEUE], {QUEUE: Pace(ahead=8)})
    assert (8, 8) == waiting(broker)


def test_each_queue_has_a_pace_of_its_own(broker: FullBroker, advance: Advance) -> None:
    """A queue that holds its due jobs back keeps no other from moving all of them; a queue that was not named waits."""
    for queue in (QUEUE, "mail", "other"):
        submit(broker, 5, queue, delay_ms=1)
    advance(0.05)
    assert 0.1 == broker.promote([QUEUE, "mail"], {QUEUE: Pace(ahead=2, again_s=0.1)})
    assert [(2, 3), (5, 0), (0, 5)] == [waiting(broker, queue) for queue in (QUEUE, "mail", "other")]


def test_a_pace_holds_no_job_back_before_its_time(broker: FullBroker, advance: Advance) -> None:
    """While none is due the answer is when the next one will be, however full the queue is."""
    submit(broker, 5)
    submit(broker, 1, delay_ms=HOUR_MS)
    assert 3_000.0 < (broker.promote([QUEUE], {QUEUE: Pace(again_s=0.02)}) or 0.0) <= 3_600.0


def test_moved_jobs_are_settled_once(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A batch of moved jobs, some of which have ended before, ends the others; the first records stand."""
    worker, job_ids = join("w1"), submit(broker, 6, delay_ms=1)
    advance(0.05)
    broker.promote([QUEUE])
    leases = fetch(worker)
    assert 0 == worker.settle([done(lease, "first") for lease in leases[:2]])
    for _ in range(2):
        assert 0 == worker.settle([done(lease, "second") for lease in leases])
    values = [msgspec.msgpack.decode(record.value) for record in broker.records(job_ids) if record]
    assert ["first"] * 2 + ["second"] * 4 == values
    assert [State.SUCCEEDED] * 6 == states(broker, job_ids)
    view = broker.queues([QUEUE])[0]
    assert (0, 0, 0) == (view.queued, view.running, view.delayed)


def test_a_late_resend_leaves_a_retried_dead_letter_alone(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A job that died and was put back into its queue is found there, whatever is said of its earlier delivery."""
    worker, job_ids = join("w1"), submit(broker, 2, delay_ms=1)
    advance(0.05)
    broker.promote([QUEUE])
    leases = fetch(worker)
    worker.settle([dead(leases[0])])
    assert 1 == broker.dead_retry(job_ids[:1])
    worker.settle([done(lease) for lease in leases])
    assert [State.QUEUED, State.SUCCEEDED] == states(broker, job_ids)
    (again,) = fetch(worker)
    assert job_ids[0] == again.job_id


# Registrations -------------------------------------------------------------------------------------------------------


def test_a_new_epoch_fences_the_old_one(broker: FullBroker, join: Join) -> None:
    """A worker that registered anew settles nothing that it fetched before; the jobs are there to be recovered."""
    first, second, job_ids = join("w1"), join("w2"), submit(broker, 2)
    old = fetch(first)
    first.register(Registration("w1", (QUEUE,), 30.0))
    assert 2 == first.settle([done(old[0]), Disposition(old[1], Kind.RETURN)])
    assert [None, None] == broker.records(job_ids)
    recovered = take(second)
    assert sorted(job_ids) == sorted(lease.job_id for lease in recovered)
    assert [1, 1] == [lease.starts for lease in recovered]
    assert 0 == second.settle([done(lease) for lease in recovered])
    assert [State.SUCCEEDED] * 2 == states(broker, job_ids)


def test_a_batch_of_two_epochs_is_judged_by_each(broker: FullBroker, join: Join) -> None:
    """Of a batch with leases of an old and of the present epoch only the old ones are refused."""
    worker, job_ids = join("w1"), submit(broker, 2)
    (old,) = fetch(worker, 1)
    worker.register(Registration("w1", (QUEUE,), 30.0))
    (new,) = fetch(worker, 1)
    assert 1 == worker.settle([done(old), done(new)])
    assert State.SUCCEEDED == states(broker, [new.job_id])[0]
    assert State.SUCCEEDED != states(broker, [job_ids[0]])[0]


def test_an_expired_lease_is_recovered(broker: FullBroker, join: Join, advance: Advance) -> None:
    """What a worker held goes to another once its lease is over; it then neither renews nor settles."""
    lost, other, job_ids = join("w1", lease_s=0.1), join("w2"), submit(broker, 1)
    (lease,) = fetch(lost)
    advance(0.2)
    (recovered,) = eventually(lambda: other.recover({QUEUE: 10}))
    assert (job_ids[0], 1) == (recovered.job_id, recovered.starts)
    assert lost.renew() is False
    assert 1 == lost.settle([done(lease, "lost")])
    assert 0 == other.settle([done(recovered, "kept")])
    (found,) = broker.records(job_ids)
    assert found is not None
    assert "kept" == msgspec.msgpack.decode(found.value)


def test_a_living_worker_keeps_its_jobs(broker: FullBroker, join: Join) -> None:
    """Nothing is recovered from a registration that stands, nor what merely waits."""
    first, second = join("w1"), join("w2")
    submit(broker, 2)
    (lease,) = fetch(first, 1)
    assert [] == second.recover({QUEUE: 10})
    assert first.renew() is True
    assert 0 == first.settle([done(lease)])


def test_an_expired_registration_renews_until_it_is_swept(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A worker that comes late keeps its jobs, as long as nobody took them."""
    worker = join("w1", lease_s=0.1)
    submit(broker, 1)
    (lease,) = fetch(worker)
    advance(0.2)
    assert worker.renew() is True
    assert 0 == worker.settle([done(lease)])


def test_recover_respects_the_room(broker: FullBroker, join: Join) -> None:
    """Recover takes no more than there is room for; the rest stays for others."""
    first, second, third = join("w1"), join("w2"), join("w3")
    submit(broker, 5)
    fetch(first)
    first.unregister()
    two = eventually(lambda: second.recover({QUEUE: 2}))
    rest = eventually(lambda: third.recover({QUEUE: 10}))
    assert (2, 3) == (len(two), len(rest))
    assert 5 == len({lease.job_id for lease in [*two, *rest]})


def test_each_crash_counts_a_start(broker: FullBroker, join: Join) -> None:
    """A job that goes from dead worker to dead worker carries the count of its deliveries."""
    submit(broker, 1)
    for starts in range(4):
        worker = join(f"w{starts}")
        (lease,) = take(worker)
        assert starts == lease.starts
        worker.unregister()


def test_a_worker_that_left_settles_nothing(broker: FullBroker, join: Join) -> None:
    """After unregister everything is refused, and renew says that the registration is gone."""
    worker = join("w1")
    submit(broker, 1)
    (lease,) = fetch(worker)
    worker.unregister()
    assert worker.renew() is False
    assert 1 == worker.settle([done(lease)])


def test_workers_are_counted(broker: FullBroker, join: Join) -> None:
    """A queue's view counts the registrations that read it."""
    first = join("w1", (QUEUE, "mail"))
    join("w2")
    submit(broker, 1)
    assert [2, 1] == [view.workers for view in broker.queues([QUEUE, "mail"])]
    first.unregister()
    assert [1, 0] == [view.workers for view in broker.queues([QUEUE, "mail"])]


def test_a_dead_worker_is_not_counted(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A registration whose lease ended counts no more, also before anybody swept it."""
    join("w1", lease_s=0.2)
    submit(broker, 1)
    assert 1 == broker.queues([QUEUE])[0].workers
    advance(0.25)
    assert 0 == broker.queues([QUEUE])[0].workers


def test_an_interruption_is_no_start(broker: FullBroker, join: Join) -> None:
    """What was stopped in its midst goes back with an interruption more; what a crash cut short with a start more."""
    submit(broker, 1)
    worker = join("w1")
    (lease,) = fetch(worker)
    for turn in range(1, 3):
        assert 0 == worker.settle([Disposition(lease, Kind.RETURN, was_started=True)])
        (lease,) = take(worker)
        assert (0, turn) == (lease.starts, lease.interruptions)
    worker.unregister()
    (lease,) = take(join("w2"))
    assert (1, 2) == (lease.starts, lease.interruptions)
    (view,) = broker.lookup([lease.job_id])
    assert view is not None
    assert (4, 2) == (view.deliveries, view.interruptions)


def test_each_handlers_jobs_have_their_own_threshold(broker: FullBroker, join: Join) -> None:
    """A sweep that is careful about one handler's jobs takes as many of the others as there is room for."""
    strict, lax, unknown = (
        [Submission(pack_envelope(name, b"\x90")) for _ in range(5)] for name in ("strict", "lax", "a" * 40)
    )
    broker.publish(QUEUE, [*strict, *lax, *unknown], "names", FREE)
    for number in range(2):  # two deaths
        worker = join(f"dead{number}")
        assert 15 == len(take(worker, 20))
        worker.unregister()
    worker = join("w1")
    caution = Caution(2, 1, {"lax": 3, "a" * 40: 4})
    found = worker.recover({QUEUE: 20}, caution)
    names = [unpack_envelope(lease.body).name for lease in found]
    assert {"strict": 1, "lax": 5, "a" * 40: 5} == {name: names.count(name) for name in set(names)}
    assert {2} == {lease.starts for lease in found}


def test_suspects_hide_nothing_that_was_given_back(broker: FullBroker, join: Join) -> None:
    """A sweep that has to leave suspects alone takes what was given back, also when they alone would fill its room."""
    submit(broker, 3)
    suspects = join("dead")
    assert 3 == len(take(suspects))
    suspects.unregister()
    (job_id,) = submit(broker, 1)
    worker = join("w1")
    worker.settle([Disposition(lease, Kind.RETURN) for lease in fetch(worker)])
    assert [job_id] == [lease.job_id for lease in worker.recover({QUEUE: 2}, Caution(1, 0))]
    assert 2 == len(worker.recover({QUEUE: 2}, Caution(1, 2)))


def test_what_was_given_back_counts_for_the_bound(broker: FullBroker, join: Join) -> None:
    """A job that was given back waits as any other, so a queue that is full with it takes no more."""
    submit(broker, 2)
    worker = join("w1")
    leases = fetch(worker)
    worker.settle([Disposition(lease, Kind.RETURN) for lease in leases])
    with pytest.raises(QueueFull):
        broker.publish(QUEUE, [Submission(body())], "more", Bound(length=2))
