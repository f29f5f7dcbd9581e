"""What a server promises of cancelling and pausing: told by the script that does it, and done at maxmemory, too."""

import time
from collections.abc import Iterator

import pytest
import redis
from lossy import LossyRelay
from redis_scenes import Open, fetch, give_back, submit

from headrace.engine import admin
from headrace.engine.broker.control import MARKS_COUNT
from headrace.engine.broker.events import stream_max_count
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.broker.views import JobView
from headrace.engine.redisio.scripts import script
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.events import Event, events_of, pack_jobs, pieces_of_jobs, unpack
from headrace.jobs.states import State
from servers import Server

pytestmark = pytest.mark.redis_core


@pytest.fixture
def relay(server: Server) -> Iterator[LossyRelay]:
    with LossyRelay(server.port) as relay:
        yield relay


def views_of(broker: RedisBroker, job_ids: list[str]) -> list[JobView]:
    return [view for view in broker.lookup(job_ids) if view]


def events(broker: RedisBroker, queue: str = "q") -> list[Event]:
    entries = broker.events.read({queue: "0-0"}, 1000)
    return [event for each in entries for event in events_of(queue, each.id, unpack(each.data), skip=0, cursor=None)]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 500])
def test_a_script_packs_as_we_do(client: redis.Redis, count: int) -> None:
    """The batch that a script makes of its pieces is byte for byte the one that pack_jobs makes."""
    job_ids = [f"q:1795406593154-{number}" for number in range(count)]
    pieces = pieces_of_jobs("job.cancelled", job_ids)
    text = script("cancel").text.partition(b"-- One packed batch")[2].partition(b"\nend\n")[0]
    code = b"-- " + text + b"\nend\nlocal ids = {}\nfor i = 3, #ARGV do ids[i - 2] = ARGV[i] end\n"
    made = client.eval(code + b"return packed_jobs(ARGV[1], ids, ARGV[2])", 0, pieces.head, pieces.tail, *pieces.ids)
    assert pack_jobs("job.cancelled", job_ids) == made


def test_a_batch_of_cancelled_jobs_is_one_entry(opened: Open, client: redis.Redis) -> None:
    """Of many jobs that are cancelled at once exactly those are told that ended by it, in one entry, and in order."""
    worker = opened("w1")
    job_ids = [*submit(worker, 3), *submit(worker, 20, delay_ms=60_000, token="later")]
    running = fetch(worker, 1)
    views = views_of(worker, job_ids)
    worker.cancel(views[5:6])
    assert [True] * 5 + [False] + [True] * 17 == worker.cancel(views)
    told = [job_id for job_id in job_ids if job_id not in (running[0].job_id, job_ids[5])]
    (_, first), (_, second) = client.xrange("headrace:{q}:events")
    assert [pack_jobs("job.cancelled", job_ids[5:6]), pack_jobs("job.cancelled", told)] == [first[b"e"], second[b"e"]]


def test_a_lost_reply_loses_no_event(opened: Open, relay: LossyRelay) -> None:
    """A job whose cancelling got no answer was cancelled and told, once, however often it is asked for again."""
    broker = opened(url=relay.url)
    (job_id,) = submit(broker)
    views = views_of(broker, [job_id])
    relay.lose(b"EVALSHA")
    with pytest.raises(BrokerUnavailable):
        broker.cancel(views)
    assert [False] == broker.cancel(views)
    assert [("job.cancelled", job_id)] == [(event.kind, event.id) for event in events(broker)]


def test_a_job_that_ended_is_told_whatever_its_keys_meet(opened: Open, client: redis.Redis) -> None:
    """What cannot be written of a job that has ended, as a key of another type, hides neither it nor the next."""
    broker = opened()
    job_ids = submit(broker, 2)
    views = views_of(broker, job_ids)
    client.set("headrace:{q}:cancelled", "not a set")
    assert [True, True] == broker.cancel(views)
    assert job_ids == [event.id for event in events(broker)]


def test_at_maxmemory_jobs_are_cancelled(opened: Open, client: redis.Redis) -> None:
    """A delayed, a queued, a given-back and a running job are cancelled, and nothing is raised for what is not told."""
    worker = opened("w1")
    first, second = submit(worker, 2)
    worker.settle([give_back(lease) for lease in fetch(worker, 1)])
    fetch(worker, 1)
    (queued,), (delayed,) = submit(worker, token="queued"), submit(worker, delay_ms=60_000, token="delayed")
    views = views_of(worker, [delayed, queued, first, second])
    client.config_set("maxmemory", 1)
    assert [[True], [True], [True], [True]] == [worker.cancel([view]) for view in views]
    states = [view.state for view in views_of(worker, [delayed, queued, first, second])]
    assert [State.CANCELLED, State.CANCELLED, State.CANCELLED, State.RUNNING] == states
    assert [second] == worker.marks(["q"])


@pytest.mark.parametrize("maxmemory", [0, 1])
def test_marks_that_ended_hide_none_that_stands(opened: Open, client: redis.Redis, maxmemory: int) -> None:
    """As many ended marks as one look returns, and more, are taken away, and the one that stands is found at once."""
    worker = opened("w1")
    (job_id,) = submit(worker)
    fetch(worker)
    worker.cancel(views_of(worker, [job_id]))
    client.zadd("headrace:{q}:cancelled", {f"q:1-{number}": 1_000 for number in range(MARKS_COUNT + 100)})
    client.config_set("maxmemory", maxmemory)
    assert [job_id] == worker.marks(["q"])
    assert 1 == client.zcard("headrace:{q}:cancelled")


def test_many_marks_that_ended_go_in_several_looks(opened: Open, client: redis.Redis) -> None:
    """One look takes away a bounded number of ended marks, tells of none of them, and the next go on with it."""
    broker = opened("w1")
    client.zadd("headrace:{q}:cancelled", {f"q:1-{number}": 1_000 for number in range(2_500)})
    left = []
    for _ in range(3):
        assert [] == broker.marks(["q"])
        left.append(client.zcard("headrace:{q}:cancelled"))
    assert [1_500, 500, 0] == left


def test_marks_end_by_the_servers_clock(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose own clock is days ahead takes no mark away."""
    worker = opened("w1")
    (job_id,) = submit(worker)
    fetch(worker)
    worker.cancel(views_of(worker, [job_id]))
    ahead_ns = time.time_ns() + 2 * 86_400 * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: ahead_ns)
    assert [[job_id]] * 2 == [worker.marks(["q"]) for _ in range(2)]


def test_at_maxmemory_queues_are_paused_and_resumed(opened: Open, client: redis.Redis) -> None:
    """A pause and its end are carried out and raise nothing."""
    broker = opened()
    submit(broker)
    client.config_set("maxmemory", 1)
    assert admin.pause(broker, "q").paused
    assert not admin.resume(broker, "q").paused


def test_at_maxmemory_queues_are_purged(opened: Open, client: redis.Redis) -> None:
    """A purge of more than one page ends all that waits, and raises nothing for what cannot be told."""
    broker = opened()
    submit(broker, 500)
    submit(broker, 100, token="more")
    submit(broker, 5, delay_ms=60_000, token="later")
    client.config_set("maxmemory", 1)
    assert admin.Purged("q", 605) == admin.purge(broker, "q")
    view = broker.queues(["q"])[0]
    assert (0, 0) == (view.queued, view.delayed)


def test_a_purge_is_done_whatever_becomes_of_its_event(opened: Open, relay: LossyRelay) -> None:
    """A connection that is lost when all is ended, and only the purge itself is to be told, is no failure of it."""
    broker = opened(url=relay.url)
    submit(broker, 3)
    relay.lose(b"XADD")
    assert admin.Purged("q", 3) == admin.purge(broker, "q")
    assert 1 == relay.lost_count


def test_a_purge_whose_jobs_get_no_answer_fails(opened: Open, relay: LossyRelay) -> None:
    """A connection that is lost while jobs are being ended is said: nobody knows how many there were."""
    broker = opened(url=relay.url)
    submit(broker, 3)
    relay.lose(script("cancel").sha1)
    with pytest.raises(BrokerUnavailable):
        admin.purge(broker, "q")


def test_the_stream_is_bounded(opened: Open, client: redis.Redis) -> None:
    """Many cancelled jobs keep a queue's stream of events within about its bound."""
    broker = opened()
    most = stream_max_count(pack_jobs("job.cancelled", ["q:1795406593154-0"]))
    stream = "headrace:{q}:events"
    with client.pipeline(transaction=False) as pipe:
        for _ in range(most + 500):
            pipe.xadd(stream, {"e": b"x"})
        pipe.execute()
    broker.cancel(views_of(broker, submit(broker)))
    assert client.xlen(stream) < most + 200
