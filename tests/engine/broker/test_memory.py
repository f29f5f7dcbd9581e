"""What the memory broker promises beyond the port: names, listeners, faults, threads, and that it forgets in time."""

import threading
from collections.abc import Callable

import pytest

from headrace.config import limits
from headrace.config.errors import ConfigError
from headrace.engine.broker.memory import Fault, MemoryBroker
from headrace.engine.broker.memory_state import Expiring
from headrace.engine.broker.port import Bound, Lease, Registration, Submission
from headrace.jobs import codec
from headrace.jobs.disposition import DeadLetter, Disposition, Kind, pack_letter
from headrace.jobs.errors import BrokerUnavailable

HOUR_MS = 3_600_000
BODY = codec.pack_envelope("add")
RECORD = codec.pack_record(codec.ResultRecord(codec.VERSION, "succeeded", codec.NIL, None, "add", 1, 1, 0, 9))


class Clock:
    """Milliseconds that pass only when told to."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker(clock: Clock) -> MemoryBroker:
    broker = MemoryBroker(now_ms=clock)
    broker.register(Registration("w1", ("q",), 30.0))
    return broker


def submit(broker: MemoryBroker, count: int = 1, token: str = "") -> list[str]:
    return broker.publish("q", [Submission(BODY)] * count, token, Bound())


def fetch(broker: MemoryBroker, room: int = 100) -> list[Lease]:
    return broker.fetch({"q": room}, 60.0)


def done(lease: Lease) -> Disposition:
    return Disposition(lease, Kind.DONE, RECORD, 1_000)


def dead(lease: Lease) -> Disposition:
    letter = DeadLetter(
        id=lease.job_id, queue="q", name="add", reason="failed", error="", traceback="", attempts=1, deliveries=1,
        died_at_ms=1, body=lease.body,
    )  # fmt: skip
    return Disposition(lease, Kind.DEAD, letter=pack_letter(letter))


def test_brokers_of_one_name_share_their_jobs() -> None:
    """memory://NAME is one place for the whole process; plain memory:// is nobody else's."""
    job_ids = submit(MemoryBroker("memory://shared"))
    assert [None] != MemoryBroker("memory://shared").lookup(job_ids)
    assert [None] == MemoryBroker("memory://other").lookup(job_ids)
    assert [None] == MemoryBroker().lookup(submit(MemoryBroker()))


def test_another_url_is_refused() -> None:
    """A URL of another kind is a ConfigError that says what to write."""
    with pytest.raises(ConfigError, match="memory://NAME"):
        MemoryBroker("redis://localhost")


def test_fetch_before_register_is_a_defect() -> None:
    """A worker that did not register is told so."""
    with pytest.raises(RuntimeError, match="register"):
        fetch(MemoryBroker())


def test_a_clock_set_back_keeps_ids_in_order(broker: MemoryBroker, clock: Clock) -> None:
    """Ids increase whatever the clock does."""
    first = submit(broker)[0]
    clock.ms -= 5_000
    assert [first, "q:1000000-1", "q:1000000-2"] == [first, *submit(broker, 2)]


def test_a_lease_too_long_to_be_true_is_over(clock: Clock) -> None:
    """A registration that ends beyond two leases from now was made before the clock was set back: it is swept."""
    dead = MemoryBroker("memory://set-back", now_ms=clock)
    dead.register(Registration("w1", ("q",), 30.0))
    submit(dead)
    fetch(dead)
    clock.ms -= 100_000
    other = MemoryBroker("memory://set-back", now_ms=clock)
    other.register(Registration("w2", ("q",), 30.0))
    assert 1 == len(other.recover({"q": 1}))


def test_returned_jobs_keep_their_order_at_the_head(broker: MemoryBroker) -> None:
    """Jobs that are given back together come before all others, in the order in which they were fetched."""
    job_ids = submit(broker, 5)
    broker.settle([Disposition(lease, Kind.RETURN) for lease in fetch(broker, 3)])
    assert job_ids == [lease.job_id for lease in fetch(broker)]


def test_a_lease_that_was_given_back_settles_nothing(broker: MemoryBroker) -> None:
    """A late settling under an earlier lease of the same worker is refused."""
    submit(broker)
    (old,) = fetch(broker)
    broker.settle([Disposition(old, Kind.RETURN)])
    (new,) = fetch(broker)
    assert 1 == broker.settle([done(old)])
    assert 0 == broker.settle([done(new)])


@pytest.mark.parametrize("cause", ["publish", "promote", "return", "dead_retry", "add_raw"])
def test_listeners_are_woken(broker: MemoryBroker, clock: Clock, cause: str) -> None:
    """Whatever makes jobs ready wakes the listeners, and the lock is free while they are called."""
    submit(broker, 2)
    first, second = fetch(broker)
    broker.publish("q", [Submission(BODY, delay_ms=10)], "", Bound())
    clock.ms += 20
    broker.settle([dead(second)])
    seen: list[int] = []
    broker.listen(lambda: seen.append(broker.queues(["q"])[0].queued))
    causes: dict[str, Callable[[], object]] = {
        "publish": lambda: submit(broker),
        "promote": lambda: broker.promote(["q"]),
        "return": lambda: broker.settle([Disposition(first, Kind.RETURN)]),
        "dead_retry": lambda: broker.dead_retry([second.job_id]),
        "add_raw": lambda: broker.add_raw("q", {b"name": b"add"}),
    }
    causes[cause]()
    assert [1] == seen
    broker.settle([done(first)])
    assert [1] == seen


def test_a_closed_broker_wakes_nobody() -> None:
    """Listeners of a closed broker are let go; those of others stay."""
    staying, leaving = MemoryBroker("memory://closing"), MemoryBroker("memory://closing")
    woken: list[str] = []
    staying.listen(lambda: woken.append("staying"))
    leaving.listen(lambda: woken.append("leaving"))
    leaving.close()
    submit(leaving)
    assert ["staying"] == woken


def test_a_reset_does_nothing(broker: MemoryBroker) -> None:
    """A fault before the verb leaves everything as it was, as many times as it says."""
    broker.faults.append(Fault("publish", "before", times=2))
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="publish"):
            submit(broker)
    assert 0 == broker.queues(["q"])[0].queued
    assert 1 == len(submit(broker))


def test_a_lost_reply_of_publish_is_made_good_by_its_token(broker: MemoryBroker) -> None:
    """After a lost reply the same token gives the ids, and nothing is added twice."""
    broker.faults.append(Fault("publish", "after"))
    with pytest.raises(BrokerUnavailable):
        submit(broker, 3, "token")
    assert 3 == broker.queues(["q"])[0].queued
    assert ["q:1000000-0", "q:1000000-1", "q:1000000-2"] == submit(broker, 3, "token")
    assert 3 == broker.queues(["q"])[0].queued


def test_a_lost_reply_of_settle_is_made_good_by_sending_again(broker: MemoryBroker) -> None:
    """After a lost reply the same batch changes nothing and is not refused."""
    job_ids = submit(broker, 2)
    batch = [done(lease) for lease in fetch(broker)]
    broker.faults.append(Fault("settle", "after"))
    with pytest.raises(BrokerUnavailable):
        broker.settle(batch)
    assert 0 == broker.settle(batch)
    assert None not in broker.records(job_ids)


@pytest.mark.parametrize("verb", ["fetch", "recover"])
def test_a_lost_reply_with_jobs_is_made_good_by_recover(broker: MemoryBroker, verb: str) -> None:
    """Jobs whose lease got lost on the way are found again by recover, once, with no start counted, within the room."""
    job_ids = submit(broker, 3)
    broker.faults.append(Fault("fetch", "after"))
    with pytest.raises(BrokerUnavailable):
        fetch(broker)
    assert [] == fetch(broker)
    if verb == "recover":
        broker.faults.append(Fault("recover", "after"))
        with pytest.raises(BrokerUnavailable):
            broker.recover({"q": 3})
    leases = broker.recover({"q": 2}) + broker.recover({"q": 5}) + broker.recover({"q": 5})
    assert sorted(job_ids) == sorted(lease.job_id for lease in leases)
    assert {0} == {lease.starts for lease in leases}
    assert 0 == broker.settle([done(lease) for lease in leases])


def test_leases_lost_on_the_way_go_with_their_epoch(broker: MemoryBroker) -> None:
    """After registering anew a lost delivery is an orphan like any other, delivered once."""
    submit(broker)
    broker.faults.append(Fault("fetch", "after"))
    with pytest.raises(BrokerUnavailable):
        fetch(broker)
    broker.register(Registration("w1", ("q",), 30.0))
    assert [1] == [lease.starts for lease in broker.recover({"q": 5}) + broker.recover({"q": 5})]


def test_tokens_are_forgotten_in_time(broker: MemoryBroker, clock: Clock) -> None:
    """A token is remembered for two minutes, no longer."""
    first = submit(broker, 1, "token")
    clock.ms += 119_000
    assert first == submit(broker, 1, "token")
    clock.ms += HOUR_MS
    assert first != submit(broker, 1, "token")


def test_nothing_is_kept_longer_than_stated(broker: MemoryBroker, clock: Clock) -> None:
    """After their time records, tokens, reports and dead letters take no memory any more."""
    submit(broker, 10, "token")
    leases = fetch(broker)
    broker.settle([done(lease) for lease in leases[:9]])
    broker.settle([dead(leases[9])])
    broker.fleet_put("w1", b"report", 10.0)
    clock.ms += int(limits.DEAD_TTL_S * 1000)
    view = broker.queues(["q"])[0]
    state = broker._access.state
    assert (0, 0, 0, 0) == (view.dead, len(state.results), len(state.tokens), len(state.fleet))
    assert {} == state.queues["q"].jobs


def test_expiring_values_leave_in_bounded_steps() -> None:
    """What expired is never seen again, though it is dropped a bounded number at a time; a count bounds the rest."""
    values: Expiring[int] = Expiring()
    for number in range(5_000):
        values.put(str(number), number, 10)
    values.put("0", 7, 20)
    assert (7, None) == (values.get("0", 15), values.get("1", 15))
    values.purge(15)
    assert 1 < len(values) < 5_000
    for _ in range(5):
        values.purge(15)
    assert [("0", 7)] == list(values.items(15))
    assert 1 == len(values)
    few: Expiring[int] = Expiring(count_max=3)
    for number in range(10):
        few.put(str(number), number, 10 + number)
    assert ["9", "8", "7"] == [key for key, _ in few.items(0)]


def test_threads_do_not_get_in_each_others_way() -> None:
    """Submitting, fetching, returning and settling from many threads at once runs each job to exactly one end."""
    url, ended = "memory://threads", list[str]()
    submitted: list[str] = []

    def produce(number: int) -> None:
        broker = MemoryBroker(url)
        for batch in range(20):
            submitted.extend(submit(broker, 25, f"{number}-{batch}"))

    def consume(number: int) -> None:
        broker = MemoryBroker(url)
        broker.register(Registration(f"w{number}", ("q",), 30.0))
        while len(ended) < 2_000:
            leases = fetch(broker, 10)
            assert 0 == broker.settle([Disposition(lease, Kind.RETURN) for lease in leases[7:]])
            assert 0 == broker.settle([done(lease) for lease in leases[:7]])
            ended.extend(lease.job_id for lease in leases[:7])

    threads = [threading.Thread(target=role, args=(n,), daemon=True) for role in (produce, consume) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert 2_000 == len(set(submitted))
    assert sorted(submitted) == sorted(ended)
