"""What every broker promises of admission: bounds by count and bytes, unique keys, and callers' own ids."""

import math

import pytest
from making import FREE, HOUR_MS, QUEUE, Advance, Join, body, dead, done, fetch, states, submit
from places import FullBroker, Place

from headrace.engine.broker.port import Bound, FirstId, HolderId, Lease, Submission
from headrace.jobs import codec
from headrace.jobs.codec import EnvelopeOptions
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.errors import QueueFull
from headrace.jobs.states import State

SIZE = len(body())


def keyed(unique: str = "", caller_id: str = "", *, delay_ms: int = 0) -> Submission:
    """Return a job whose envelope says the keys that it is submitted with."""
    said = EnvelopeOptions(unique=unique or None, id=caller_id or None)
    return Submission(body(options=said), delay_ms, unique=unique, caller_id=caller_id)


def add(broker: FullBroker, *jobs: Submission, bound: Bound = FREE) -> list[str]:
    """Submit a batch without a token."""
    return broker.publish(QUEUE, jobs, "", bound)


def ended(lease: Lease, kind: Kind = Kind.DONE, ttl_ms: int = HOUR_MS) -> Disposition:
    """Return a disposition that says the keys of its job."""
    plain = done(lease, ttl_ms=ttl_ms) if kind is Kind.DONE else dead(lease, ttl_ms=ttl_ms)
    unique, caller_id = codec.keys_in(lease.body)
    return Disposition(
        lease, kind, plain.record, ttl_ms, letter=plain.letter, unique=unique, caller_id=caller_id, ended_as=State.DEAD
    )


def again(lease: Lease, delay_ms: int) -> Disposition:
    """Return a disposition that tries a job with keys again."""
    unique, caller_id = codec.keys_in(lease.body)
    return Disposition(lease, Kind.RETRY, body=lease.body, delay_ms=delay_ms, unique=unique, caller_id=caller_id)


# Bounds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [0, 60_000])
def test_the_bound_by_bytes_refuses_the_whole_batch(broker: FullBroker, delay_ms: int) -> None:
    """A batch whose envelopes would pass the bound raises QueueFull with the reason, and none of it is added."""
    job, bound = Submission(body(), delay_ms), Bound(size_bytes=3 * SIZE)
    add(broker, job, job, bound=bound)
    with pytest.raises(QueueFull) as caught:
        add(broker, job, job, bound=bound)
    assert ("bytes", 3 * SIZE, 2) == (caught.value.reason, caught.value.bound, caught.value.depth)
    add(broker, job, bound=bound)
    view = broker.queues([QUEUE])[0]
    assert 3 == view.queued + view.delayed


@pytest.mark.parametrize("job", [Submission(body()), Submission(body(), 60_000), keyed("k")])
def test_a_full_queue_that_is_paused_is_refused_as_such(broker: FullBroker, job: Submission) -> None:
    """It has no speed, and what helps is to resume it."""
    bound = Bound(length=1)
    add(broker, Submission(body()), bound=bound)
    broker.pause(QUEUE, True)
    with pytest.raises(QueueFull, match=r"paused.*resume") as caught:
        add(broker, job, bound=bound)
    assert (math.inf, 1) == (caught.value.drain_s, caught.value.depth)
    broker.pause(QUEUE, False)
    with pytest.raises(QueueFull, match="not known yet; workers are slower") as caught:
        add(broker, job, bound=bound)
    assert caught.value.drain_s is None


def test_what_ends_makes_room_by_bytes(broker: FullBroker, join: Join) -> None:
    """Bytes are taken off when jobs are done and when they go to the dead letters; what is tried again keeps them."""
    bound, worker = Bound(size_bytes=3 * SIZE), join("w")
    add(broker, *[Submission(body())] * 3, bound=bound)
    leases = fetch(worker)
    worker.settle([done(leases[0]), dead(leases[1]), Disposition(leases[2], Kind.RETRY, body=body(), delay_ms=60_000)])
    add(broker, *[Submission(body())] * 2, bound=bound)
    with pytest.raises(QueueFull, match="bytes"):
        add(broker, Submission(body()), bound=bound)


def test_entries_past_the_port_are_not_counted(place: Place, broker: FullBroker, join: Join) -> None:
    """Plain entries take no room by bytes, and what they take off when they end never makes more room than there is."""
    bound, worker = Bound(size_bytes=2 * SIZE), join("w")
    for _ in range(5):
        place.add_raw(QUEUE, {b"name": b"add", b"args": b"[1]"})
    add(broker, *[Submission(body())] * 2, bound=bound)
    leases = fetch(worker)
    assert 7 == len(leases)
    worker.settle([done(lease) for lease in leases[:5]])
    with pytest.raises(QueueFull):
        add(broker, Submission(body()), bound=bound)
    worker.settle([done(lease) for lease in leases[5:]])
    add(broker, *[Submission(body())] * 2, bound=bound)


def test_a_batch_settled_twice_is_taken_off_once(broker: FullBroker, join: Join) -> None:
    """A settling batch that is sent again makes no room a second time."""
    bound, worker = Bound(size_bytes=4 * SIZE), join("w")
    add(broker, *[Submission(body())] * 4, bound=bound)
    leases = fetch(worker, 2)
    for _ in range(3):
        worker.settle([done(lease) for lease in leases])
    add(broker, *[Submission(body())] * 2, bound=bound)
    with pytest.raises(QueueFull):
        add(broker, Submission(body()), bound=bound)


def test_retries_pass_a_full_queue(broker: FullBroker, join: Join) -> None:
    """A queue at its bounds takes back what is tried again and what was not started."""
    bound, worker = Bound(length=2, size_bytes=2 * SIZE), join("w")
    add(broker, *[Submission(body())] * 2, bound=bound)
    first, second = fetch(worker)
    refills = [Disposition(first, Kind.RETRY, body=body(), delay_ms=60_000), Disposition(second, Kind.RETURN)]
    assert 0 == worker.settle(refills)
    view = broker.queues([QUEUE])[0]
    assert (1, 1) == (view.delayed, view.queued)


# Unique keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay_ms", [0, 60_000])
def test_a_unique_key_has_one_job(broker: FullBroker, delay_ms: int) -> None:
    """A second job of a key is not added; the answer is the first one's id, marked as such."""
    first = add(broker, keyed("k", delay_ms=delay_ms))[0]
    second = add(broker, keyed("k"))[0]
    assert not isinstance(first, FirstId)
    assert isinstance(second, FirstId)
    assert first == second
    view = broker.queues([QUEUE])[0]
    assert 1 == view.queued + view.delayed


def test_duplicates_leave_the_rest_of_their_batch_alone(broker: FullBroker) -> None:
    """Of a batch what is new is added, in order; a duplicate inside it gets the id of the one before it."""
    answered = add(broker, keyed("a"), Submission(body(1)), keyed("a"), keyed("b", delay_ms=60_000))
    assert [False, False, True, False] == [isinstance(job_id, FirstId) for job_id in answered]
    assert answered[0] == answered[2]
    assert [State.QUEUED, State.QUEUED, State.QUEUED, State.DELAYED] == states(broker, answered)


@pytest.mark.parametrize("keyed_share", [1, 7])
def test_a_large_batch_of_keys_is_found_job_by_job(broker: FullBroker, keyed_share: int) -> None:
    """As many as a batch takes, all with keys or some: each job has its own id and is found by its own keys."""
    jobs = [keyed(f"k{n}", f"c{n}") if n % keyed_share == 0 else Submission(body(n)) for n in range(500)]
    ids = broker.publish(QUEUE, jobs, "token", FREE)
    assert 500 == len(set(ids)) == broker.queues([QUEUE])[0].queued
    assert {str} == set(map(type, ids))
    assert ids == broker.publish(QUEUE, jobs, "token", FREE)
    of_keys = ids[::keyed_share]
    assert of_keys == [view.id for view in broker.lookup([f"c{n}" for n in range(0, 500, keyed_share)]) if view]
    again = add(broker, *[keyed(f"k{n}") for n in range(0, 500, keyed_share)])
    assert (of_keys, {HolderId}) == (again, set(map(type, again)))
    assert 500 == broker.queues([QUEUE])[0].queued


def test_a_batch_with_keys_may_be_sent_again(broker: FullBroker) -> None:
    """With the same token it answers the same, and does not find itself to be its own duplicate."""
    jobs = [keyed("a"), Submission(body(1)), keyed("", "mine")]
    first = broker.publish(QUEUE, jobs, "token", FREE)
    second = broker.publish(QUEUE, jobs, "token", FREE)
    assert first == second
    assert [False] * 3 == [isinstance(job_id, FirstId) for job_id in second]
    assert 3 == broker.queues([QUEUE])[0].queued


def test_a_duplicate_is_no_matter_of_room(broker: FullBroker) -> None:
    """A full queue answers a duplicate with the first one's id; what is new it refuses."""
    bound = Bound(length=1)
    first = add(broker, keyed("a"), bound=bound)
    assert first == add(broker, keyed("a"), bound=bound)
    with pytest.raises(QueueFull):
        add(broker, keyed("b"), bound=bound)
    broker.cancel(broker.lookup(first))  # type: ignore[arg-type]
    assert not isinstance(add(broker, keyed("b"), bound=bound)[0], FirstId)


def test_keys_of_a_batch_are_freed_together(broker: FullBroker, join: Join) -> None:
    """Of many that end at once, with keys and without, each frees its own key, and each keeps its own record."""
    worker, keys = join("w"), [f"k{number}" if number % 3 else "" for number in range(60)]
    first = add(broker, *map(keyed, keys))
    worker.settle([ended(lease) for lease in fetch(worker, 60)])
    assert all(record is not None for record in broker.records(first))
    assert not set(first) & set(add(broker, *map(keyed, keys)))


def test_a_batch_settled_again_frees_nobody_elses_keys(broker: FullBroker, join: Join) -> None:
    """Keys that were taken anew since a batch was settled stay taken when it is sent again, alone or with others."""
    worker = join("w")
    add(broker, keyed("a"), keyed("b"), keyed("c"))
    leases = fetch(worker, 3)
    worker.settle([ended(lease) for lease in leases[:2]])
    second = add(broker, keyed("a"), keyed("b"))
    worker.settle([ended(lease) for lease in leases[:2]])
    worker.settle([ended(lease) for lease in leases])
    assert second == add(broker, keyed("a"), keyed("b"))
    assert not isinstance(add(broker, keyed("c"))[0], FirstId)


@pytest.mark.parametrize("kind", [Kind.DONE, Kind.DEAD])
def test_a_key_is_free_when_its_job_ends(broker: FullBroker, join: Join, kind: Kind) -> None:
    """Running, the job has its key; done or dead, it has it no more."""
    worker = join("w")
    first = add(broker, keyed("k"))
    leases = fetch(worker)
    assert first == add(broker, keyed("k"))
    worker.settle([ended(lease, kind) for lease in leases])
    assert first != add(broker, keyed("k"))


def test_a_key_stays_with_its_job_over_retries(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A job that is tried again keeps its key while it waits, when it is queued again, and until it ends."""
    worker = join("w")
    first = add(broker, keyed("k"))
    worker.settle([again(lease, 20) for lease in fetch(worker)])
    assert first == add(broker, keyed("k"))
    advance(0.05)
    worker.promote([QUEUE])
    assert first == add(broker, keyed("k"))
    worker.settle([ended(lease) for lease in fetch(worker)])
    assert first != add(broker, keyed("k"))


def test_a_key_is_freed_only_by_its_own_job(broker: FullBroker, join: Join) -> None:
    """A job that died and is retried by hand has lost its key; its end does not free the key of the next job."""
    worker = join("w")
    first = add(broker, keyed("k"))
    worker.settle([ended(lease, Kind.DEAD) for lease in fetch(worker)])
    second = add(broker, keyed("k"))
    broker.dead_retry(first)
    leases = [lease for lease in fetch(worker) if lease.job_id == first[0]]
    assert 1 == len(leases)
    worker.settle([ended(lease) for lease in leases])
    assert second == add(broker, keyed("k"))


@pytest.mark.parametrize("delay_ms", [0, 60_000])
def test_cancelling_frees_keys_and_room(broker: FullBroker, delay_ms: int) -> None:
    """A job that is cancelled while it waits gives up its unique key and its bytes."""
    job = keyed("k", delay_ms=delay_ms)
    bound = Bound(size_bytes=len(job.body))
    first = add(broker, job, bound=bound)
    broker.cancel(broker.lookup(first))  # type: ignore[arg-type]
    second = add(broker, job, bound=bound)
    assert first != second
    assert [State.CANCELLED] == states(broker, first)


# Callers' own ids ----------------------------------------------------------------------------------------------------


def test_a_callers_id_finds_its_job(broker: FullBroker, join: Join) -> None:
    """By `QUEUE:ID`, and by `ID` in the default queue, the job and then its record are found; others are not."""
    worker = join("w")
    job_id = add(broker, keyed("", "order-17"))[0]
    assert [State.QUEUED, State.QUEUED, "unknown"] == states(broker, ["order-17", "default:order-17", "mail:order-17"])
    assert [job_id] == [view.id for view in broker.lookup(["order-17"]) if view]
    worker.settle([ended(lease) for lease in fetch(worker)])
    records = broker.records(["order-17", job_id, "order-18"])
    assert [True, True, False] == [record is not None for record in records]


def test_a_callers_id_is_kept_as_long_as_its_record(broker: FullBroker, join: Join, advance: Advance) -> None:
    """A second job of an id is not added while the first one's record is kept; then it is."""
    worker = join("w")
    first = add(broker, keyed("", "mine"))
    worker.settle([ended(lease, ttl_ms=100) for lease in fetch(worker)])
    assert first == add(broker, keyed("", "mine"))
    advance(0.15)
    second = add(broker, keyed("", "mine"))
    assert first != second
    worker.settle([ended(lease, ttl_ms=0) for lease in fetch(worker)])
    assert second != add(broker, keyed("", "mine"))


# Which of the two -----------------------------------------------------------------------------------------------------


def test_the_answer_tells_which_key_another_job_has(broker: FullBroker) -> None:
    """The first job of a caller's id is a FirstId, the one that holds a unique key a HolderId; the id comes first."""
    of_both, of_key = add(broker, keyed("k", "mine"), keyed("other"))
    answers = [add(broker, job)[0] for job in (keyed("k", "new"), keyed("", "mine"), keyed("k", "mine"), keyed("k"))]
    assert [HolderId, FirstId, FirstId, HolderId] == [type(job_id) for job_id in answers]
    assert {of_both} == set(answers)
    contested = add(broker, keyed("other", "mine"))[0]
    assert (FirstId, of_both) == (type(contested), contested)
    assert of_key != contested
    assert 2 == broker.queues([QUEUE])[0].queued


def test_a_batch_tells_of_each_job_which_key_hit(broker: FullBroker) -> None:
    """Inside a batch as from before it; what is not added takes none of its keys from those behind it."""
    before = add(broker, keyed("k", "mine"))[0]
    jobs = [
        keyed("k", "a"),  # the key is held, so the id stays free
        keyed("new", "a"),
        keyed("new", "b"),
        keyed("k", "a"),
        keyed("new", "mine"),
        keyed("last", "b", delay_ms=60_000),
        keyed("last", "b"),
        keyed("last"),
    ]
    answers = add(broker, *jobs)
    a, b = answers[1], answers[5]
    assert [before, a, a, a, before, b, b, b] == answers
    expected = [HolderId, str, HolderId, FirstId, FirstId, str, FirstId, HolderId]
    assert expected == [type(job_id) for job_id in answers]
    view = broker.queues([QUEUE])[0]
    assert (2, 1) == (view.queued, view.delayed)


def test_which_key_hit_is_told_again_for_the_same_token(broker: FullBroker) -> None:
    """A batch that is sent again after a lost reply gets the same answer in the same kinds."""
    add(broker, keyed("k", "mine"))
    jobs = [keyed("k", "a"), keyed("", "mine"), keyed("free", "b")]
    first, second = [broker.publish(QUEUE, jobs, "token", FREE) for _ in range(2)]
    assert first == second
    assert [HolderId, FirstId, str] == [type(job_id) for job_id in first] == [type(job_id) for job_id in second]


def test_the_id_of_a_refused_job_is_free_once_the_key_is(broker: FullBroker, join: Join) -> None:
    """A job that another's unique key kept out was never there: its id, sent again when that one ended, adds it."""
    worker = join("w")
    holder = add(broker, keyed("k"))[0]
    assert holder == add(broker, keyed("k", "mine"))[0]
    worker.settle([ended(lease) for lease in fetch(worker)])
    added = add(broker, keyed("k", "mine"))[0]
    assert (str, False) == (type(added), added == holder)
    worker.settle([ended(lease) for lease in fetch(worker)])
    replayed = add(broker, keyed("k", "mine"))[0]
    assert (FirstId, added) == (type(replayed), replayed)


def test_jobs_without_keys_leave_no_trace_of_them(broker: FullBroker) -> None:
    """Ids and unique keys are apart, and apart in each queue."""
    both = add(broker, keyed("k", "k"))
    assert both == add(broker, keyed("k"))
    assert both == add(broker, keyed("", "k"))
    other = broker.publish("mail", [keyed("k")], "", FREE)
    assert ["mail"] == [job_id.partition(":")[0] for job_id in other]
    assert not isinstance(submit(broker, 1)[0], FirstId)
