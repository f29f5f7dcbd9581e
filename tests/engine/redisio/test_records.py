"""What is promised of result records on a server: neighbours share a key, and each is found by its job's id alone."""

import msgspec
import pytest
import redis
from redis_scenes import RECORD, Open, dead, done, fetch, submit

from headrace.engine.broker.port import Lease
from headrace.engine.broker.redis import RedisBroker
from headrace.jobs import codec
from headrace.jobs.disposition import Disposition
from headrace.jobs.states import State

pytestmark = pytest.mark.redis_core
RECORDED = codec.unpack_record(RECORD)


def own(lease: Lease, number: int, ttl_ms: int = 60_000) -> Disposition:
    """Return the end of a job whose record has its number as the value."""
    record = msgspec.structs.replace(RECORDED, value=msgspec.Raw(msgspec.msgpack.encode(number)))
    return msgspec.structs.replace(done(lease), record=codec.pack_record(record), ttl_ms=ttl_ms)


def values(broker: RedisBroker, job_ids: list[str]) -> list[int | None]:
    """Return the values that are recorded."""
    return [None if each is None else msgspec.msgpack.decode(each.value) for each in broker.records(job_ids)]


def test_each_of_many_neighbours_keeps_its_own_record(opened: Open, client: redis.Redis) -> None:
    """A batch of 350 leaves few keys, each with a TTL, and every job's own value under its id."""
    worker = opened("w1")
    job_ids = submit(worker, 350)
    leases = fetch(worker, 350)
    worker.settle([own(lease, number) for number, lease in enumerate(leases)])
    assert list(range(350)) == values(worker, job_ids)
    keys = list(client.scan_iter("headrace:{q}:results:*"))
    assert len(keys) <= 8
    assert all(0 < client.pttl(key) <= 60_000 for key in keys)
    assert [State.SUCCEEDED] * 350 == [view.record.status for view in worker.lookup(job_ids) if view and view.record]


def test_a_shared_record_is_kept_for_each(opened: Open) -> None:
    """Where all records are the same bytes they are sent once, and each job has one; others have none."""
    worker = opened("w1")
    job_ids = submit(worker, 15)
    worker.settle([done(lease) for lease in fetch(worker)])
    queue, _, entry = job_ids[-1].partition(":")
    stranger = f"{queue}:{entry.partition('-')[0]}-15"
    assert [RECORDED] * 15 + [None] * 3 == worker.records([*job_ids, stranger, "q:9-d1", "nothing"])
    assert worker.lookup([stranger])[0] is None


def test_a_neighbour_does_not_shorten_a_records_time(opened: Open, client: redis.Redis) -> None:
    """Records that share a key stay for the longest time that one of them has, whichever was settled last."""
    worker = opened("w1")
    submit(worker, 3)
    leases = fetch(worker)
    left_ms = []
    for lease, ttl_ms in zip(leases, (10_000, 600_000, 30_000), strict=True):
        worker.settle([own(lease, 1, ttl_ms)])
        (key,) = client.scan_iter("headrace:{q}:results:*")
        left_ms.append(client.pttl(key))
    assert [True, True, True] == [0 < left_ms[0] <= 10_000, 500_000 < left_ms[1], 500_000 < left_ms[2] <= left_ms[1]]


def test_the_first_record_of_a_job_stands(opened: Open) -> None:
    """Of a batch that was settled in part before, those that had ended keep the record that they got."""
    worker = opened("w1")
    job_ids = submit(worker, 3)
    leases = fetch(worker)
    worker.settle([own(leases[0], 1)])
    worker.settle([own(lease, 2) for lease in leases])
    assert [1, 2, 2] == values(worker, job_ids)


def test_a_job_that_died_gets_no_second_record(opened: Open, client: redis.Redis) -> None:
    """It has its record alone; settled again among others as done, it stays dead, and one record is kept for each."""
    worker = opened("w1")
    job_ids = submit(worker, 2)
    leases = fetch(worker)
    worker.settle([dead(leases[0])])
    worker.settle([own(lease, 2) for lease in leases])
    assert [State.DEAD, State.SUCCEEDED] == [record.status for record in worker.records(job_ids) if record]
    assert [State.DEAD, State.SUCCEEDED] == [
        view.record.status for view in worker.lookup(job_ids) if view and view.record
    ]
    kept = sum(client.hlen(key) for key in client.scan_iter("headrace:{q}:results:*"))
    assert (1, 1) == (kept, len(list(client.scan_iter("headrace:{q}:result:*"))))


def test_records_of_all_kinds_are_found_together(opened: Open, client: redis.Redis) -> None:
    """Of plain jobs one command for a hundred; one more for all the others, and none where there are no others."""
    worker = opened("w1")
    job_ids = submit(worker, 250)
    leases = fetch(worker, 250)
    worker.settle([dead(lease) if number % 50 == 7 else own(lease, number) for number, lease in enumerate(leases)])
    asked = [*job_ids, "q:9-d1", "nothing", "q:1-1\nq:2-2"]

    def calls() -> tuple[int, int]:
        stats = client.info("commandstats")
        return tuple(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hmget", "mget"))

    before = calls()
    found = worker.records(asked)
    once = calls()
    plain = worker.records([job_id for number, job_id in enumerate(job_ids) if number % 50 != 7])
    twice = calls()
    assert [State.DEAD if number % 50 == 7 else State.SUCCEEDED for number in range(250)] == [
        record.status for record in found[:250] if record
    ]
    assert ([None] * 3, 245) == (found[250:], len([record for record in plain if record]))
    assert (True, 1) == (once[0] - before[0] <= 5, once[1] - before[1])
    assert (True, 0) == (twice[0] - once[0] <= 5, twice[1] - once[1])


def test_a_record_that_cannot_be_kept_is_told(opened: Open, client: redis.Redis) -> None:
    """Where something else has the key, the jobs end all the same, and the first refusal is raised."""
    worker = opened("w1")
    submit(worker)
    (lease,) = fetch(worker)
    client.set(f"headrace:{{q}}:results:{lease.entry.decode()[:-2]}", "mine")
    with pytest.raises(Exception, match="WRONGTYPE"):
        worker.settle([done(lease)])
    assert (0, 0) == (client.xlen("headrace:{q}:jobs"), worker.queues(["q"])[0].running)


def test_records_are_kept_without_memory(opened: Open, client: redis.Redis) -> None:
    """At maxmemory 1 what was done is settled, and its record kept."""
    worker = opened("w1")
    job_ids = submit(worker, 2)
    leases = fetch(worker)
    client.config_set("maxmemory", "1")
    try:
        worker.settle([done(lease) for lease in leases])
    finally:
        client.config_set("maxmemory", "0")
    assert [RECORDED] * 2 == worker.records(job_ids)
