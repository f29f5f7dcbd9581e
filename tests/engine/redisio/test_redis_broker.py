"""What the broker on a server promises beyond the port: full memory, lost groups, set-back clocks, forks, sweeps."""

import os
import threading
import time
import warnings
from importlib import resources

import pytest
import redis
from redis_scenes import FREE, RECORD, Open, dead, done, fetch, give_back, ids_of, recover, retry, submit

from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.open import open_broker
from headrace.engine.broker.port import Lease, Submission
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.broker.views import SILENT_KEPT_S
from headrace.engine.redisio.scripts import script
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.errors import BrokerUnavailable, ConfigError, QueueFull
from headrace.jobs.states import State
from servers import Server

pytestmark = pytest.mark.redis_core
JOBS, WORKERS = "headrace:{q}:jobs", "headrace:{q}:workers"


def test_at_maxmemory_work_goes_on(opened: Open, client: redis.Redis) -> None:
    """With the server's memory full, submitting is refused as such, and everything that frees memory still works."""
    worker, other = opened("w1"), opened("w2")
    job_ids = submit(worker, 5)
    submit(worker, delay_ms=1, token="soon")
    first, second, third, fourth, _ = fetch(worker)
    client.config_set("maxmemory", 1)
    with pytest.raises(QueueFull, match="maxmemory") as refusal:
        submit(worker, token="more")
    assert "memory" == refusal.value.reason
    with pytest.raises(QueueFull, match="maxmemory"):
        submit(worker, delay_ms=60_000, token="more, later")
    assert worker.renew()
    assert 0 == worker.settle([done(first), retry(second), dead(third), give_back(fourth)])
    assert [job_ids[3]] == ids_of(recover(other))
    assert worker.promote(["q"]) is not None
    states = [view.state for view in worker.lookup(job_ids) if view]
    assert [State.SUCCEEDED, State.RETRYING, State.DEAD, State.RUNNING, State.RUNNING] == states


def test_a_lost_group_is_made_anew(opened: Open, client: redis.Redis) -> None:
    """After the server was emptied, a fetch goes on from the first entry, and what it brings can be settled."""
    worker = opened("w1")
    submit(worker, 3)
    fetch(worker)
    client.flushall()
    job_ids = submit(worker, 2, token="new")
    leases = fetch(worker)
    assert job_ids == ids_of(leases)
    assert 0 == worker.settle([done(lease) for lease in leases])


def test_a_group_lost_while_waiting_is_made_anew(opened: Open, client: redis.Redis) -> None:
    """The server may be emptied under a waiting fetch: the fetch survives and brings the next job."""
    worker = opened("w1")
    got: list[Lease] = []
    thread = threading.Thread(target=lambda: got.extend(worker.fetch({"q": 5}, 20.0)))
    thread.start()
    while client.info("clients")["blocked_clients"] == 0:
        time.sleep(0.001)
    client.flushall()
    job_ids = submit(opened(), token="new")
    thread.join(20.0)
    assert job_ids == ids_of(got)


def test_closing_ends_a_wait(opened: Open, client: redis.Redis) -> None:
    """A fetch that waits when its broker is closed ends at once, saying that the server is not there any more."""
    worker = opened("w1")
    raised: list[BrokerUnavailable] = []

    def wait() -> None:
        try:
            worker.fetch({"q": 5}, 20.0)
        except BrokerUnavailable as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while client.info("clients")["blocked_clients"] == 0:
        time.sleep(0.001)
    worker.close()
    thread.join(10.0)
    assert 1 == len(raised)


def test_a_lease_beyond_any_is_expired(opened: Open, client: redis.Redis) -> None:
    """A registration that ends further away than two leases comes from before the clock was set back: revoked."""
    dead_worker, worker = opened("w1", 30.0), opened("w2", 30.0)
    job_ids = submit(worker, 2)
    fetch(dead_worker)
    assert [] == recover(worker)
    client.zincrby(WORKERS, 40_000, "w1:1")
    assert job_ids == ids_of(recover(worker))
    assert not dead_worker.renew()


def test_a_short_lease_does_not_revoke_a_long_one(opened: Open) -> None:
    """Workers with leases of very different lengths share a queue: neither takes the other for dead."""
    long, short = opened("w1", 60.0), opened("w2", 1.0)
    submit(long, 2)
    leases = fetch(long)
    assert [] == recover(short)
    assert long.renew()
    assert 0 == long.settle([done(lease) for lease in leases])


def test_consumers_of_the_dead_go_when_they_hold_nothing(opened: Open, client: redis.Redis) -> None:
    """A sweep removes the consumer of a revoked worker, and only once its last entry was taken over."""
    gone, worker = opened("w1"), opened("w2")
    submit(worker, 3)
    fetch(gone)
    gone.unregister()
    assert 2 == len(recover(worker, 2))
    assert 2 == len(client.xinfo_consumers(JOBS, "headrace"))
    assert 1 == len(recover(worker, 2))
    assert [b"w2:1"] == [each["name"] for each in client.xinfo_consumers(JOBS, "headrace")]


def test_a_clean_leave_takes_its_consumer_along(opened: Open, client: redis.Redis) -> None:
    """A worker that settled everything leaves no consumer behind."""
    worker = opened("w1")
    submit(worker, 1)
    worker.settle([done(lease) for lease in fetch(worker)])
    worker.unregister()
    assert [] == client.xinfo_consumers(JOBS, "headrace")
    assert [] == worker.fetch({"q": 1}, 0.0)
    assert [] == recover(worker)


def test_entries_without_a_body_are_let_go(opened: Open, client: redis.Redis) -> None:
    """An entry that somebody deleted under a dead worker is acknowledged by the sweep; the rest is recovered."""
    gone, worker = opened("w1"), opened("w2")
    job_ids = submit(worker, 3)
    leases = fetch(gone)
    client.xdel(JOBS, leases[1].entry)
    gone.unregister()
    assert [job_ids[0], job_ids[2]] == ids_of(recover(worker))
    assert 2 == client.xpending(JOBS, "headrace")["pending"]


def test_sweepers_share(opened: Open) -> None:
    """Two workers that sweep at once get each job once."""
    gone = opened("w0")
    job_ids = submit(gone, 400)
    fetch(gone, 400)
    gone.unregister()
    found: list[str] = []

    def sweep(worker: RedisBroker) -> None:
        while leases := recover(worker, 7):
            found.extend(ids_of(leases))

    threads = [threading.Thread(target=sweep, args=(opened(f"w{i}"),)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert sorted(job_ids) == sorted(found)


def test_a_given_back_job_stays_with_its_next_holder(opened: Open) -> None:
    """A batch that gives back, sent again, does not take the job from the worker that has it by then."""
    first, second = opened("w1"), opened("w2")
    submit(first, 1)
    batch = [give_back(lease) for lease in fetch(first)]
    first.settle(batch)
    (lease,) = recover(second)
    assert 0 == first.settle(batch)
    assert [] == recover(opened("w3"))
    assert 0 == second.settle([done(lease)])


def test_large_batches_are_split(opened: Open) -> None:
    """More dispositions than one script takes are settled all the same, of each kind."""
    worker = opened("w1")
    for i in range(5):
        submit(worker, 500, token=str(i))
    leases = [lease for _ in range(5) for lease in fetch(worker, 500)]
    assert 0 == worker.settle([give_back(lease) for lease in leases[:1100]] + [done(lease) for lease in leases[1100:]])
    view = worker.queues(["q"])[0]
    assert (1100, 0) == (view.queued, view.running)


def test_a_record_for_no_time_is_none(opened: Open, client: redis.Redis) -> None:
    """A record that is to be kept for 0 ms is not stored, and the job ends all the same."""
    worker = opened("w1")
    (job_id,) = submit(worker, 1)
    (lease,) = fetch(worker)
    assert 0 == worker.settle([Disposition(lease, Kind.DONE, RECORD, 0)])
    assert [None] == worker.records([job_id])
    assert 0 == client.xlen(JOBS)


def test_a_past_due_time_is_now(opened: Open) -> None:
    """A job whose due time is over is queued at once, under an entry's id."""
    broker = opened()
    jobs = [Submission(b"one", due_at_ms=1), Submission(b"two", delay_ms=60_000)]
    first, second = broker.publish("q", jobs, "t", FREE)
    assert ("-d" in first, "-d" in second) == (False, True)
    assert [State.QUEUED, State.DELAYED] == [view.state for view in broker.lookup([first, second]) if view]


def test_a_forked_child_has_connections_of_its_own(opened: Open) -> None:
    """A child forked from a program that used the broker submits over its own sockets, and the parent's go on."""
    broker = opened("w1")
    submit(broker, 1, token="parent")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking beside threads
        child = os.fork()
    if child == 0:
        try:
            with broker._writer._lock, broker._reader._lock:
                pass
            os._exit(0 if len(submit(broker, 2, token="child")) == 2 and broker.renew() else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert 0 == os.waitstatus_to_exitcode(status)
    assert 3 == len(fetch(broker))
    submit(broker, 1, token="parent again")
    assert broker.renew()


def test_tokens_of_submissions_do_not_pile_up(opened: Open, client: redis.Redis) -> None:
    """A submission's token outlives its resending, which takes seconds, and is gone after two minutes."""
    submit(opened(), token="mine")
    assert 60_000 < client.pttl("headrace:{q}:token:mine") <= 120_000


def test_many_threads_submit(opened: Open) -> None:
    """Threads submit at the same time through one broker, each batch whole and every id once."""
    broker = opened()
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda i=i: [found.extend(submit(broker, 10, token=f"{i}-{j}")) for j in range(20)])
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)
    assert 800 == len(set(found)) == broker.queues(["q"])[0].queued


def test_connections_say_who_they_are(opened: Open, client: redis.Redis) -> None:
    """CLIENT LIST shows each connection's role."""
    worker = opened("w1")
    fetch(worker)
    worker.renew()
    worker.promote(["q"])
    worker.queue_names()
    names = {each["name"] for each in client.client_list()}
    assert {"headrace:reader", "headrace:writer", "headrace:lease", "headrace:any"} <= names


def test_expired_reports_are_deleted(opened: Open, client: redis.Redis) -> None:
    """A report whose time has been over for an hour is dropped from the server when another worker comes by."""
    broker = opened()
    broker.fleet_put("old", b"report", -SILENT_KEPT_S)
    broker.fleet_put("silent", b"report", 0.0)
    time.sleep(0.002)
    broker.fleet_put("new", b"report", 60.0)
    assert {b"new", b"silent"} == set(client.hkeys("headrace:fleet"))


def test_scripts_are_taught_before_they_are_needed(opened: Open, client: redis.Redis) -> None:
    """After prepare() the server knows every script; done again, it loads none."""
    broker = opened()
    broker.prepare()
    folder = resources.files("headrace.engine.redisio").joinpath("lua")
    names = [file.name.removesuffix(".lua") for file in folder.iterdir() if file.name.endswith(".lua")]
    hashes = [script(name).sha1 for name in names]
    assert [True] * len(hashes) == client.script_exists(*hashes)
    loaded = client.info("commandstats")["cmdstat_script|load"]["calls"]
    broker.prepare()
    assert loaded == client.info("commandstats")["cmdstat_script|load"]["calls"]


def test_a_broker_is_opened_by_its_url(server: Server) -> None:
    """open_broker knows the four schemes, connects to nothing yet, and names them for any other."""
    assert isinstance(open_broker("memory://"), MemoryBroker)
    for url in ("redis://nowhere:1/0", "rediss://nowhere:1/0", "unix:///nowhere"):
        assert isinstance(open_broker(url), RedisBroker)
    for url in ("amqp://:hunter2@host", "nonsense", "localhost:6379"):
        with pytest.raises(ConfigError, match="redis://, rediss://, unix://, memory:// or embedded://") as raised:
            open_broker(url)
        assert "hunter2" not in str(raised.value)
