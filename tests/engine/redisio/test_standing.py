"""When a worker may fetch: only while its registration stands, by its own clock and by the server's word."""

import threading
import time

import pytest
import redis
from lossy import LossyRelay
from redis_scenes import Open, dead, done, fetch, give_back, ids_of, recover, retry, submit

from headrace.engine.broker import redis as redis_broker
from headrace.engine.broker import redis_standing
from headrace.engine.broker.port import Lease, Registration
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.redisio import connections
from headrace.engine.redisio.scripts import script
from headrace.jobs.errors import BrokerUnavailable
from servers import Server

pytestmark = pytest.mark.redis_core
WORKERS = "headrace:{q}:workers"


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which the worker's clock runs ahead of the server's, to be set by the test."""
    ahead, awake_s = [0.0], redis_standing.awake_s
    for module in (redis_standing, redis_broker):
        monkeypatch.setattr(module, "awake_s", lambda: awake_s() + ahead[0])
    return ahead


def revoke(client: redis.Redis, other: RedisBroker) -> None:
    """Let every registration but the other's end, and sweep."""
    for member in client.zrange(WORKERS, 0, -1):
        if not member.startswith(b"w2"):
            client.zadd(WORKERS, {member: 1})
    recover(other, 0)


def test_past_its_lease_a_worker_asks_before_it_fetches(opened: Open, client: redis.Redis, ahead: list[float]) -> None:
    """A worker whose clock says that its lease is over renews first, and fetches when the server kept it."""
    worker = opened("w1")
    job_ids = submit(worker, 2)
    ahead[0] = 31.0
    score = client.zscore(WORKERS, "w1:1") or 0
    time.sleep(0.002)
    assert job_ids == ids_of(fetch(worker))
    assert score < (client.zscore(WORKERS, "w1:1") or 0)


def test_a_revoked_worker_fetches_nothing(opened: Open, client: redis.Redis, ahead: list[float]) -> None:
    """Once others revoked it, a worker gets neither new jobs nor orphans until it registers anew."""
    worker, other = opened("w1"), opened("w2")
    job_ids = submit(worker, 2)
    revoke(client, other)
    ahead[0] = 31.0
    assert [] == fetch(worker)
    assert [] == recover(worker)
    assert not worker.renew()
    worker.register(Registration("w1", ("q",), 60.0))
    assert worker.renew()
    assert job_ids == ids_of(fetch(worker))


@pytest.mark.parametrize("revoked", [True, False])
def test_jobs_that_came_after_the_lease_are_doubted(
    opened: Open, client: redis.Redis, ahead: list[float], revoked: bool
) -> None:
    """What a fetch brings after the lease's end, as in a process that was stopped, is dropped if others may have it."""
    worker, other = opened("w1"), opened("w2")
    got: list[Lease] = []
    thread = threading.Thread(target=lambda: got.extend(worker.fetch({"q": 5}, 20.0)))
    thread.start()
    while not worker._reader.client_id:
        time.sleep(0.001)
    time.sleep(0.02)
    if revoked:
        revoke(client, other)
    ahead[0] = 31.0
    job_ids = submit(other, 2)
    thread.join(20.0)
    assert ([] if revoked else job_ids) == ids_of(got)
    if not revoked:
        return
    assert not worker.renew()
    worker.register(Registration("w1", ("q",), 60.0))
    assert sorted(job_ids) == sorted(ids_of(recover(other)))


def test_a_renewal_that_a_new_registration_overtook_is_no_loss(
    opened: Open, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer about an older registration does not make a worker give up its new one."""
    worker, run = opened("w1"), redis_broker.run

    def overtaken(wire: object, commands: list[connections.Command]) -> list[object]:
        if wire is worker._lease and worker._epoch == 1:
            worker.register(Registration("w1", ("q",), 30.0))
        return run(wire, commands)  # type: ignore[arg-type]

    monkeypatch.setattr(redis_broker, "run", overtaken)
    assert worker.renew()
    assert [b"w1:2"] == client.zrange(WORKERS, 0, -1)
    assert worker.renew()


def test_a_lost_sweep_waits_for_its_queue(server: Server, opened: Open) -> None:
    """A sweep of two queues whose reply was lost is answered again for the queue that has no room in between, too."""
    with LossyRelay(server.port) as relay:
        worker = opened("w1", url=relay.url, queues=("a", "b"))
        other = opened("w2", queues=("a", "b"))
        submit(other, 2, queue="a", token="a")
        job_ids = submit(other, 2, queue="b", token="b")
        submit(worker, 1, queue="b", token="later")
        other.fetch({"a": 2}, 0.0)
        other.fetch({"b": 2}, 0.0)
        assert 1 == len(worker.fetch({"b": 5}, 0.0))
        other.unregister()
        worker.recover({"a": 0, "b": 0})
        relay.lose(script("recover").sha1)
        with pytest.raises(BrokerUnavailable):
            worker.recover({"a": 5, "b": 5})
        assert 2 == len(worker.recover({"a": 5}))
        assert job_ids == ids_of(worker.recover({"b": 5}))


def test_a_sweep_that_hangs_holds_up_no_fetch(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a sweep waits for its reply a fetch finds what was lost, and what both bring comes once, also when done."""
    worker, other, run, sent = opened("w1"), opened("w2"), redis_broker.run, threading.Event()
    submit(worker, 1)
    first = fetch(worker)
    job_ids = submit(other, 2, token="u")
    fetch(other)
    other.unregister()
    go_on = threading.Event()

    def slow(wire: object, commands: list[connections.Command]) -> list[object]:
        replies = run(wire, commands)  # type: ignore[arg-type]
        if wire is worker._any:
            sent.set()
            assert go_on.wait(20.0)
        return replies

    monkeypatch.setattr(redis_broker, "run", slow)
    swept: list[Lease] = []
    thread = threading.Thread(target=lambda: swept.extend(recover(worker)))
    thread.start()
    assert sent.wait(20.0)
    worker._find_lost_at_s = 0.0
    found = fetch(worker)
    assert job_ids == ids_of(found)
    assert 0 == worker.settle([done(found[0])])
    go_on.set()
    thread.join(20.0)
    assert [] == swept
    assert 0 == worker.settle([done(lease) for lease in [*first, found[1]]])


@pytest.mark.parametrize("settle", [retry, dead, give_back, done])
def test_nothing_is_settled_where_there_is_no_group(opened: Open, client: redis.Redis, settle: object) -> None:
    """After somebody deleted the stream, settling what came from it ends at once instead of being tried for ever."""
    worker = opened("w1")
    submit(worker)
    leases = fetch(worker)
    client.delete("headrace:{q}:jobs")
    assert 0 == worker.settle([settle(lease) for lease in leases])  # type: ignore[operator]


def test_a_worker_starts_at_maxmemory(opened: Open, client: redis.Redis) -> None:
    """A worker registers, fetches and settles when the server's memory is full: only it can free some."""
    job_ids = submit(opened(), 2)
    client.config_set("maxmemory", 1)
    worker = opened("w1", queues=("q", "unheard-of"))
    leases = fetch(worker)
    assert job_ids == ids_of(leases)
    assert 0 == worker.settle([done(lease) for lease in leases])


def test_a_script_flushed_again_and_again(opened: Open, client: redis.Redis) -> None:
    """However often the server forgets its scripts, each call is carried out."""
    worker, stop = opened("w1"), threading.Event()

    def flush() -> None:
        while not stop.is_set():
            client.script_flush()

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        for number in range(100):
            submit(worker, token=f"t{number}")
            assert 0 == worker.settle([done(lease) for lease in fetch(worker)])
    finally:
        stop.set()
        thread.join()
    assert 0 == client.xlen("headrace:{q}:jobs")


def test_a_dead_network_is_noticed_soon_after_the_wait(
    opened: Open, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting fetch whose reply does not come fails a little after its wait's end, not after the longest one's."""
    monkeypatch.setattr(connections, "BLOCK_MARGIN_S", 0.1)
    worker = opened("w1")
    fetch(worker)
    with redis.Redis.from_url(server.unix_url) as pausing:
        pausing.execute_command("CLIENT PAUSE 1000 ALL")
        began_s = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="did not answer in time"):
            worker.fetch({"q": 1}, 0.2)
        assert time.monotonic() - began_s < 0.9
        time.sleep(max(0.0, 1.1 - (time.monotonic() - began_s)))
