"""Where two things meet: a lost queue beside a living one, a sweep beside a give-back, a refusal half-way."""

import pytest
import redis
from redis_scenes import Open, done, fetch, give_back, ids_of, recover, retry, submit

from headrace.engine.broker import redis as redis_broker
from headrace.engine.redisio.connections import Command
from headrace.engine.redisio.scripts import script
from headrace.jobs.errors import BrokerUnavailable

pytestmark = pytest.mark.redis_core


@pytest.mark.parametrize("first", ["this worker", "another"])
def test_a_lost_queue_brings_no_other_queues_jobs_again(opened: Open, client: redis.Redis, first: str) -> None:
    """When one stream is deleted, what a worker has in hand of its other queues is not taken for lost."""
    worker, other = opened("w1", queues=("a", "b")), opened("w2", queues=("a", "b"))
    submit(worker, 3, queue="b", token="b")
    in_hand = worker.fetch({"b": 3}, 0.0)
    submit(worker, 1, queue="a", token="a")
    assert 1 == len(worker.fetch({"a": 3}, 0.0))
    (stream,) = client.keys("*{a}:jobs")
    client.delete(stream)
    if first == "another":
        other.fetch({"a": 1}, 0.0)
    again = submit(worker, 2, queue="a", token="again")
    assert again == ids_of(worker.fetch({"a": 3}, 0.0))
    worker._find_lost_at_s = 0.0
    assert [] == worker.fetch({"a": 9, "b": 9}, 0.0)
    assert 0 == worker.settle([done(lease) for lease in in_hand])


def test_a_sweep_may_bring_back_what_goes_back(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was taken over, is given back, and is swept by the same worker before that has its answer, is run."""
    dead, worker, run = opened("dead"), opened("w1"), redis_broker.run
    job_ids = submit(dead, 1)
    fetch(dead)
    dead.unregister()
    (lease,) = recover(worker)
    swept: list[str] = []

    def with_a_sweep_in_between(wire: object, commands: list[Command]) -> list[object]:
        replies = run(wire, commands)  # type: ignore[arg-type]
        if commands[0][1] == script("give_back").sha1 and not swept:
            swept.extend(ids_of(recover(worker)))
        return replies

    monkeypatch.setattr(redis_broker, "run", with_a_sweep_in_between)
    assert 0 == worker.settle([give_back(lease)])
    assert job_ids == swept
    assert [] == recover(worker)
    worker.unregister()  # it is still known as in hand, and so is nobody's now
    assert job_ids == ids_of(recover(opened("w2")))


@pytest.mark.parametrize("moved", [False, True], ids=["first entry", "moved"])
def test_a_refused_write_costs_only_itself(opened: Open, client: redis.Redis, moved: bool) -> None:
    """When one result cannot be kept, the others of its batch are, and the refusal is told; sent again, it is done."""
    worker = opened("w1")
    job_ids = submit(worker, 3)
    leases = fetch(worker)
    if moved:
        worker.settle([retry(lease, 0) for lease in leases])
        worker.promote(["q"])
        leases = fetch(worker)
    (meta,) = client.keys("*{q}:meta")
    client.hset(meta, "bytes", "no number")
    with pytest.raises(BrokerUnavailable, match="not an integer"):
        worker.settle([done(lease) for lease in leases])
    assert 0 == worker.settle([done(lease) for lease in leases])
    assert ["succeeded"] * 3 == [view.state for view in worker.lookup(job_ids) if view is not None]
    assert not client.keys("*{q}:index")
