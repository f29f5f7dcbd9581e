"""What a server adds to admission: its memory, how fast it drains, and keys whose jobs are gone."""

import pytest
import redis
from redis_scenes import BODY, FREE, Open, done, fetch, give_back, retry, submit

from headrace.engine.broker.port import Bound, FirstId, Submission
from headrace.jobs.errors import QueueFull
from servers import Server

pytestmark = pytest.mark.redis_core

META = "headrace:{q}:meta"
HIGH = Bound(memory=0.8)


def look_again(client: redis.Redis) -> None:
    """Have the next submission look at the server's memory, as it does once a quarter of a second has passed."""
    client.hset(META, "memory_at", 0)


def fill(client: redis.Redis, share: float) -> None:
    """Set the server's maxmemory so that this share of it is in use."""
    client.config_set("maxmemory", round(int(client.info("memory")["used_memory"]) / share))
    look_again(client)


def test_above_memory_high_new_jobs_are_refused(opened: Open, client: redis.Redis) -> None:
    """Below the server's maxmemory, but above the share, submitting raises QueueFull, and settling goes on."""
    worker = opened("w")
    submit(worker, 3)
    fill(client, 0.9)
    jobs = ([Submission(BODY)], [Submission(BODY, 60_000)], [Submission(BODY, unique="k")])
    for job in jobs:
        with pytest.raises(QueueFull, match="80% of its maxmemory") as caught:
            worker.publish("q", job, "", HIGH)
        assert ("memory", 0) == (caught.value.reason, caught.value.bound)
    leases = fetch(worker)
    worker.settle([done(leases[0]), retry(leases[1]), give_back(leases[2])])
    assert 1 == client.xlen("headrace:{q}:jobs")
    fill(client, 0.5)
    for job in jobs:
        worker.publish("q", job, "", HIGH)


def test_memory_is_looked_at_now_and_then(opened: Open, client: redis.Redis) -> None:
    """INFO is not asked again within a quarter of a second; a server without maxmemory never refuses."""
    broker = opened()
    broker.publish("q", [Submission(BODY)], "", HIGH)
    calls = client.info("commandstats")["cmdstat_info"]["calls"]
    for _ in range(20):
        broker.publish("q", [Submission(BODY)], "", HIGH)
    assert 3 > client.info("commandstats")["cmdstat_info"]["calls"] - calls - 1
    assert "0.0000" == client.hget(META, "memory").decode()


def test_a_refusal_says_how_fast_the_queue_drains(opened: Open, client: redis.Redis) -> None:
    """From two refusals a second apart: what was done between them is the speed at which the rest goes."""
    worker, bound = opened("w"), Bound(length=10)
    worker.publish("q", [Submission(BODY)] * 10, "", bound)
    with pytest.raises(QueueFull) as first:
        worker.publish("q", [Submission(BODY)] * 6, "", bound)
    assert first.value.drain_s is None
    worker.settle([done(lease) for lease in fetch(worker, 5)])
    client.hincrby(META, "drain_at", -2_000)
    with pytest.raises(QueueFull, match="at its present speed it is empty in") as second:
        worker.publish("q", [Submission(BODY)] * 6, "", bound)
    assert 5 == second.value.depth
    assert 2.0 == pytest.approx(second.value.drain_s, abs=0.3)


def test_a_refusal_never_says_that_a_queue_with_jobs_is_empty_at_once(opened: Open, client: redis.Redis) -> None:
    """However fast it was a moment ago, the least that is shown is a tenth of a second."""
    broker, bound = opened(), Bound(length=3)
    broker.publish("q", [Submission(BODY)] * 3, "", bound)
    now_ms = int(client.time()[0]) * 1000
    client.hset(META, mapping={"drain_at": now_ms + 500, "drained": 0, "drain_rate": "50000"})
    client.hincrby(META, "drain_at", -500)
    with pytest.raises(QueueFull, match=r"empty in 0\.1 s"):
        broker.publish("q", [Submission(BODY)], "", bound)


def test_a_key_whose_job_is_gone_is_taken_over(opened: Open, client: redis.Redis) -> None:
    """When somebody deletes a queue's entries by hand, their unique keys block nobody."""
    broker = opened()
    job = Submission(BODY, unique="k")
    first = broker.publish("q", [job], "", FREE)
    client.xtrim("headrace:{q}:jobs", maxlen=0)
    second = broker.publish("q", [job], "", FREE)
    assert not isinstance(second[0], FirstId)
    assert first != second


def test_a_key_outlives_its_jobs_wait(opened: Open, client: redis.Redis) -> None:
    """A unique key stands for thirty days after its job is due."""
    opened().publish("q", [Submission(BODY, 3_600_000, unique="k", caller_id="mine")], "", FREE)
    month_ms = 30 * 86_400_000
    for key in ("headrace:{q}:unique:k", "headrace:{q}:id:mine"):
        assert 3_600_000 == pytest.approx(client.pttl(key) - month_ms, abs=5_000)


@pytest.mark.parametrize("may", ["+@all", "-msetex", "-command"])
def test_many_keys_stand_as_long_as_one(opened: Open, client: redis.Redis, server: Server, may: str) -> None:
    """Each for thirty days after its own job is due, also where the user may not set many at once, or not ask."""
    can = client.eval("return redis.call('COMMAND', 'INFO', 'MSETEX')[1] and 1 or 0", 0)
    if may == "-msetex" and not can:
        pytest.skip("this server has no MSETEX that it could forbid")
    client.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", may)
    broker = opened(url=server.url.replace("//", "//limited:secret@"))
    delays_ms = [0, 0, 3_600_000, 7_200_000]
    jobs = [
        Submission(BODY, delays_ms[number % 4], unique=f"k{number}" if number % 3 else "", caller_id=f"c{number}")
        for number in range(500)
    ]
    client.config_resetstat()
    ids = broker.publish("q", jobs, "", FREE)
    sets = client.info("commandstats").get("cmdstat_set", {"calls": 0})["calls"]
    assert (0 if can and may == "+@all" else 500 + sum(bool(job.unique) for job in jobs)) == sets
    assert ids == broker.publish("q", jobs, "", FREE)
    month_ms = 30 * 86_400_000
    for number, (job, job_id) in enumerate(zip(jobs, ids, strict=True)):
        keys = [f"headrace:{{q}}:id:c{number}", *([f"headrace:{{q}}:unique:k{number}"] if job.unique else [])]
        assert [job_id.encode()] * len(keys) == client.mget(keys)
        for key in keys:
            assert job.delay_ms == pytest.approx(client.pttl(key) - month_ms, abs=30_000)


def test_an_empty_queue_holds_no_bytes(opened: Open, client: redis.Redis) -> None:
    """Whatever was deleted by hand, the count is 0 again once the queue is empty."""
    worker = opened("w")
    ids = submit(worker, 5)
    client.xdel("headrace:{q}:jobs", ids[0].partition(":")[2])
    leases = fetch(worker)
    assert 4 == len(leases)
    worker.settle([done(lease) for lease in leases])
    assert 0 == int(client.hget(META, "bytes"))
    submit(worker, 5, token="more")
    client.xtrim("headrace:{q}:jobs", maxlen=0)
    worker.publish("q", [Submission(BODY)], "", Bound(size_bytes=len(BODY)))
    assert len(BODY) == int(client.hget(META, "bytes"))


def test_settling_in_part_takes_off_its_share(opened: Open, client: redis.Redis) -> None:
    """Of a batch of which some jobs had ended before, only the others are taken off."""
    worker = opened("w")
    submit(worker, 6)
    leases = fetch(worker)
    worker.settle([done(lease) for lease in leases[:2]])
    worker.settle([done(lease) for lease in leases[:4]])
    assert 2 * len(BODY) == int(client.hget(META, "bytes"))
