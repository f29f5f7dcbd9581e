"""What the broker promises when a reply gets lost: the command was carried out, and only its answer did not come."""

from collections.abc import Iterator

import pytest
import redis
from lossy import LossyRelay
from redis_scenes import Open, done, fetch, give_back, ids_of, recover, retry, submit

from headrace.engine.redisio.scripts import script
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.states import State
from servers import Server

pytestmark = pytest.mark.redis_core


@pytest.fixture
def relay(server: Server) -> Iterator[LossyRelay]:
    with LossyRelay(server.port) as relay:
        yield relay


@pytest.mark.parametrize("delay_ms", [0, 60_000])
def test_a_submission_is_sent_again_by_itself(opened: Open, relay: LossyRelay, delay_ms: int) -> None:
    """A batch whose answer is lost is added once, and the ids that come back are those of the first time."""
    broker = opened(url=relay.url)
    submit(broker, token="warm", delay_ms=delay_ms)
    relay.lose(b"EVALSHA")
    job_ids = submit(broker, 3, token="once", delay_ms=delay_ms)
    view = broker.queues(["q"])[0]
    assert (1, 4) == (relay.lost_count, view.queued + view.delayed)
    assert job_ids == submit(broker, 3, token="once", delay_ms=delay_ms)


def test_a_lost_fetch_is_found_again(opened: Open, relay: LossyRelay) -> None:
    """Jobs of a fetch whose reply is lost come with the next fetch, without a start counted, and before new ones."""
    worker = opened("w1", url=relay.url)
    job_ids = submit(worker, 6)
    first = fetch(worker, 2)
    relay.lose(b"XREADGROUP")
    with pytest.raises(BrokerUnavailable, match="closed the connection"):
        fetch(worker, 3)
    lost = fetch(worker)
    assert job_ids[:2] == ids_of(first)
    assert (job_ids[2:5], [0, 0, 0]) == (ids_of(lost), [lease.starts for lease in lost])
    assert job_ids[5:] == ids_of(fetch(worker))
    assert 0 == worker.settle([done(lease) for lease in [*first, *lost]])


def test_more_lost_jobs_than_room_come_bit_by_bit(opened: Open, relay: LossyRelay) -> None:
    """What was lost is handed out within the room, until all is there."""
    worker = opened("w1", url=relay.url)
    job_ids = submit(worker, 5)
    relay.lose(b"XREADGROUP")
    with pytest.raises(BrokerUnavailable):
        fetch(worker)
    assert [job_ids[:2], job_ids[2:4], job_ids[4:], []] == [ids_of(fetch(worker, 2)) for _ in range(4)]


def test_a_taken_over_job_is_not_taken_for_lost(opened: Open, relay: LossyRelay) -> None:
    """A job that came by a sweep is in hand: no later fetch brings it a second time."""
    worker, other = opened("w1", url=relay.url), opened("w2")
    submit(other, 3)
    other.settle([give_back(lease) for lease in fetch(other)])
    taken = recover(worker)
    relay.lose(b"XREADGROUP")
    with pytest.raises(BrokerUnavailable):
        fetch(worker)
    assert 3 == len(taken)
    assert [] == fetch(worker)
    assert [] == recover(worker)


def test_a_lost_sweep_answers_again(opened: Open, relay: LossyRelay) -> None:
    """What a sweep took over before its reply was lost comes with the next sweep, with the same count of starts."""
    worker, other = opened("w1", url=relay.url), opened("w2")
    job_ids = submit(other, 3)
    fetch(other)
    other.unregister()
    assert [] == recover(opened("w3"), 0)
    relay.lose(script("recover").sha1)
    with pytest.raises(BrokerUnavailable):
        recover(worker)
    again = recover(worker)
    assert (job_ids, [1, 1, 1]) == (ids_of(again), [lease.starts for lease in again])
    assert [] == recover(worker)
    assert 0 == worker.settle([done(lease) for lease in again])


def test_settling_again_after_a_lost_reply(opened: Open, relay: LossyRelay, client: redis.Redis) -> None:
    """A batch whose reply was lost is sent again and is not refused; each job ends once."""
    worker = opened("w1", url=relay.url)
    job_ids = submit(worker, 3)
    first, second, third = fetch(worker)
    batch = [done(first), retry(second), give_back(third)]
    relay.lose(script("settle").sha1)
    with pytest.raises(BrokerUnavailable):
        worker.settle(batch)
    assert 0 == worker.settle(batch)
    states = [view.state for view in worker.lookup(job_ids) if view]
    assert [State.SUCCEEDED, State.RETRYING, State.QUEUED] == states
    assert 1 == client.xlen("headrace:{q}:jobs")


def test_a_server_that_came_back_is_noticed_before_writing(tmp_path: object, opened: Open) -> None:
    """A connection that the server closed while nothing was under way costs no error."""
    broker = opened()
    submit(broker)
    with redis.Redis.from_url(broker.url) as killer:
        killer.client_kill_filter(_type="normal", skipme=True)
    assert 1 == broker.queues(["q"])[0].queued
