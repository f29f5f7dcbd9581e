"""What is promised of event streams: replayed and live, filtered, shared, bounded, and in nobody's way."""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from headrace.config.settings import Settings
from headrace.engine.broker.control import OpenBroker
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.open import open_broker
from headrace.engine.broker.port import Bound, Submission
from headrace.engine.http.app import make_app
from headrace.engine.http.event_stream import EventStream, Pace
from headrace.engine.http.feed import Feed, FeedBounds
from headrace.engine.http.gateway import Gateway
from headrace.jobs import codec
from headrace.jobs.cursor import TEXT_MAX_CHARS
from headrace.jobs.events import pack_jobs, pack_notice
from servers import Server, start_valkey
from stream_scene import DEADLINE_S, watching

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("streams")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def broker(request: pytest.FixtureRequest) -> Iterator[OpenBroker]:
    """A broker of each kind, with two queues."""
    made: OpenBroker
    if request.param == "memory":
        made = MemoryBroker()
    else:
        found: Server = request.getfixturevalue("server")
        made = open_broker(found.url, namespace=f"streams-{os.getpid()}-{os.urandom(4).hex()}")
    for queue in ("mail", "sums"):
        make(made, queue)
    yield made
    made.close()


def make(broker: OpenBroker, queue: str) -> None:
    """Make a queue known: it has a job."""
    broker.publish(queue, [Submission(codec.pack_foreign("add", [1], {}))], "", Bound())


def tell(broker: OpenBroker, queue: str, *ids: str) -> None:
    """Write one batch of events about jobs."""
    broker.events.announce([queue], pack_jobs("job.cancelled", [f"{queue}:{each}" for each in ids]))


def served(broker: OpenBroker, bounds: FeedBounds | None = None) -> tuple[Any, Gateway]:
    """Return the application over a broker, and its gateway."""
    gateway = Gateway(broker, Settings())
    if bounds is not None:
        gateway.feed = Feed(broker, (), bounds)
    return make_app(gateway), gateway


def ids(events: list[dict[str, Any]]) -> list[str]:
    """Return the jobs that events are about."""
    return [event["data"]["id"] for event in events]


async def test_all_that_is_kept_is_replayed_and_each_id_goes_on_behind_it(broker: OpenBroker) -> None:
    """after=0 gives everything; Last-Event-ID, in the midst of a batch too, gives what came behind, and none twice."""
    app, _ = served(broker)
    tell(broker, "mail", "1-1", "1-2", "1-3")
    tell(broker, "sums", "1-1")
    tell(broker, "mail", "1-4")
    async with watching(app, "/v1/events?after=0") as stream:
        assert (200, "text/event-stream", "no-store") == (
            stream.status, stream.headers["content-type"], stream.headers["cache-control"],
        )  # fmt: skip
        everything = await stream.events(5)
    jobs = ["mail:1-1", "mail:1-2", "mail:1-3", "sums:1-1", "mail:1-4"]
    assert sorted(jobs) == sorted(ids(everything))
    assert ["mail:1-1", "mail:1-2", "mail:1-3", "mail:1-4"] == [each for each in ids(everything) if "mail" in each]
    assert [None, None] == [event.get("id") for event in everything if event["data"]["id"] in jobs[:2]]
    for seen in range(1, 6):
        place = everything[seen - 1].get("id")
        if place is not None and seen < 5:
            async with watching(app, "/v1/events?after=0", last_event_id=place) as stream:
                assert ids(everything[seen:]) == ids(await stream.events(5 - seen))
    first = next(event for event in everything if event["data"]["id"] == "mail:1-3")
    place = first["id"].partition(",")[0]
    async with watching(app, f"/v1/events?queue=mail&after={place}.0") as stream:
        assert jobs[1:3] + jobs[4:] == ids(await stream.events(3))


async def test_many_queues_make_no_long_ids(broker: OpenBroker) -> None:
    """With 300 queues a large batch comes in pieces, each with one bounded id at its end; from each one goes on."""
    app, gateway = served(broker, FeedBounds(buffer_max_bytes=200_000))
    for number in range(300):
        make(broker, f"{number:03d}{'q' * 97}")
    queue = f"000{'q' * 97}"
    async with watching(app, "/v1/events") as stream:
        await stream.next()
        assert len(stream.last_id or "") <= TEXT_MAX_CHARS
        tell(broker, queue, *[f"1-{number}" for number in range(450)])
        events = await stream.events(450)
        expected = [f"{queue}:1-{number}" for number in range(450)]
        assert expected == ids(events)
        sent = gateway.feed.sent_bytes
    places = {seen: event["id"] for seen, event in enumerate(events, 1) if "id" in event}
    assert [100, 200, 300, 400, 450] == list(places)
    assert (max(map(len, places.values())) <= TEXT_MAX_CHARS, sent < 450 * 1_000) == (True, True)
    tell(broker, queue, "2-1")
    for seen, place in places.items():
        async with watching(app, "/v1/events", last_event_id=place) as stream:
            assert [*expected[seen:], f"{queue}:2-1"] == ids(await stream.events(451 - seen))


async def test_a_replay_holds_a_bounded_part(broker: OpenBroker) -> None:
    """Of many queues that wait to be replayed only a part is held; all come, none twice, and a gap is told once."""
    _, gateway = served(broker, FeedBounds(buffer_max_bytes=2_000))
    expected = {}
    for number in range(20):
        queue = f"many{number:02d}"
        make(broker, queue)
        expected[queue] = [f"{queue}:{batch}-{row}" for batch in range(10) for row in range(20)]
        for batch in range(10):
            tell(broker, queue, *[f"{batch}-{row}" for row in range(20)])
    follower = await gateway.feed.follow(",".join(f"{queue}=5-0" for queue in expected), None)
    got: dict[str, list[str]] = {queue: [] for queue in expected}
    gaps = []
    with anyio.fail_after(DEADLINE_S):
        while sum(map(len, got.values())) < 20 * 200:
            for block in (await follower.next()).decode().split("\n\n")[:-1]:
                data = json.loads(block.partition("data: ")[2])
                if "event: gap" in block:
                    gaps.append(data["queue"])
                else:
                    got[data["queue"]].append(data["id"])
            assert sum(len(packet._data) for packet in follower._replayed) <= 2_000
    assert (expected, sorted(expected)) == (got, sorted(gaps))
    gateway.feed.leave(follower)


async def test_without_a_place_only_what_happens_now_comes(broker: OpenBroker) -> None:
    """A new stream begins with its place and a pause to come again, and tells what happens from then on."""
    app, _ = served(broker)
    tell(broker, "mail", "1-1")
    async with watching(app, "/v1/events") as stream:
        assert (None, 2000) == ((await stream.next())["data"], stream.retry_ms)
        first = stream.last_id
        tell(broker, "mail", "1-2")
        assert ["mail:1-2"] == ids(await stream.events(1))
    async with watching(app, "/v1/events", last_event_id=first or "") as stream:
        assert ["mail:1-2"] == ids(await stream.events(1))


async def test_a_queue_that_is_new_is_followed(broker: OpenBroker) -> None:
    """Events of a queue that came after the stream began are in it."""
    app, _ = served(broker)
    async with watching(app, "/v1/events") as stream:
        make(broker, "later")
        tell(broker, "later", "1-1")
        assert ["later:1-1"] == ids(await stream.events(1))


async def test_a_stream_of_one_queue_is_of_that_queue(broker: OpenBroker) -> None:
    """With queue= only its events come, in the replay and after it, and the ids name no other queue."""
    app, _ = served(broker)
    tell(broker, "mail", "1-1")
    tell(broker, "sums", "1-1")
    async with watching(app, "/v1/events?queue=mail&after=0") as stream:
        assert ["mail:1-1"] == ids(await stream.events(1))
        tell(broker, "sums", "1-2")
        tell(broker, "mail", "1-2")
        (live,) = await stream.events(1)
        assert ("mail:1-2", True) == (live["data"]["id"], live["id"].startswith("mail=") and "sums" not in live["id"])


async def test_what_is_no_place_and_no_queue_is_refused(broker: OpenBroker) -> None:
    """A cursor or a queue that cannot be is a 422 before any stream begins."""
    app, gateway = served(broker)
    for target, why in (("after=nonsense", "cursor"), ("queue=a%20b", "queue's name"), ("after=a%20b%3D1-1", "name")):
        async with watching(app, f"/v1/events?{target}") as stream:
            assert (422, True) == (stream.status, why in (await stream.body()).decode())
    assert 0 == gateway.feed.streams_count


async def test_events_that_are_gone_leave_a_gap(broker: OpenBroker) -> None:
    """Who goes on from a place that is kept no more is told so, by queue, and then what is kept."""
    app, _ = served(broker)
    tell(broker, "mail", "1-1")
    async with watching(app, "/v1/events?queue=mail&after=mail%3D5-0") as stream:
        gap, kept = await stream.events(2)
    assert ("gap", "mail", "5-0") == (gap["event"], gap["data"]["queue"], gap["data"]["after"])
    assert ("mail:1-1", True) == (kept["data"]["id"], kept["id"].startswith(f"mail={gap['data']['first'][:5]}"))
    async with watching(app, "/v1/events?queue=never&after=never%3D5-0") as stream:
        (gap,) = await stream.events(1)
    assert {"queue": "never", "after": "5-0", "first": ""} == gap["data"]


async def test_many_streams_are_fed_by_one_reader(broker: OpenBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty streams that keep up cost the server the reads of one, and all get everything."""
    app, gateway = served(broker)
    reads: list[int] = []
    read = broker.events.read

    def counted(*args: Any) -> Any:
        reads.append(1)
        return read(*args)

    async with anyio.create_task_group() as group:
        got: dict[int, list[str]] = {n: [] for n in range(20)}
        ready = [anyio.Event() for _ in got]

        async def follow(number: int) -> None:
            async with watching(app, "/v1/events") as stream:
                await stream.next()
                ready[number].set()
                for _ in range(50):
                    got[number] += ids(await stream.events(1))

        for number in got:
            group.start_soon(follow, number)
        with anyio.fail_after(DEADLINE_S):
            for each in ready:
                await each.wait()
            monkeypatch.setattr(broker.events, "read", counted)
            for number in range(50):
                tell(broker, "mail", f"1-{number}")
                await anyio.lowlevel.checkpoint()
    assert {n: [f"mail:1-{number}" for number in range(50)] for n in range(20)} == got
    assert len(reads) < 20 * 50 / 4  # the reader alone: one look for each batch at most, and one a second
    assert 0 == gateway.feed.streams_count


async def test_a_client_that_falls_behind_catches_up_by_itself(broker: OpenBroker) -> None:
    """Beyond its buffer's bound nothing is held for it; when it reads again, it gets all, in order, once."""
    app, gateway = served(broker, FeedBounds(buffer_max_bytes=2_000))
    async with watching(app, "/v1/events?queue=mail") as slow, watching(app, "/v1/events?queue=mail") as quick:
        await slow.next()
        await quick.next()
        slow.reads = anyio.Event()
        for start in range(0, 400, 10):
            tell(broker, "mail", *[f"1-{number}" for number in range(start, start + 10)])
        expected = [f"mail:1-{number}" for number in range(400)]
        assert expected == ids(await quick.events(400))
        held = [sum(packet.size_bytes for packet in each._handed) for each in gateway.feed._followers]
        assert max(held) <= 2_000
        slow.reads.set()
        assert expected == ids(await slow.events(400))


async def test_a_client_that_never_reads_is_dropped(broker: OpenBroker) -> None:
    """Its stream ends after a deadline, counted; another gets everything meanwhile, and its place is free again."""
    feed = Feed(broker)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        follower = await feed.follow("0", "mail")
        pace = Pace(send_timeout_s=0.05, heartbeat_s=0.01)
        await EventStream(feed, follower, pace).to_asgi_response()(scope, receive, send)

    async with watching(app, "/v1/events") as dead:
        dead.reads = anyio.Event()
        async with watching(served(broker)[0], "/v1/events?queue=mail") as healthy:
            await healthy.next()
            tell(broker, "mail", "1-1")
            assert ["mail:1-1"] == ids(await healthy.events(1))
        with anyio.fail_after(DEADLINE_S):
            while feed.streams_count:
                await anyio.sleep(0.01)
    assert 1 == feed.dropped_count


async def test_a_quiet_stream_has_comments(broker: OpenBroker) -> None:
    """While nothing happens, comments say that it lives."""
    feed = Feed(broker)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        follower = await feed.follow(None, "mail")
        await EventStream(feed, follower, Pace(heartbeat_s=0.01)).to_asgi_response()(scope, receive, send)

    async with watching(app, "/v1/events") as stream:
        while stream.comments < 3:
            assert (await stream.next())["data"] is None


async def test_there_is_a_bound_on_streams(broker: OpenBroker) -> None:
    """One more than the bound is a 503 that says when to come again; once one has left there is room."""
    app, gateway = served(broker, FeedBounds(streams_max_count=2))
    async with watching(app, "/v1/events") as first:
        assert 200 == first.status
        async with watching(app, "/v1/events"), watching(app, "/v1/events") as third:
            assert (503, "10") == (third.status, third.headers["retry-after"])
            assert b"event streams" in await third.body()
        async with watching(app, "/v1/events") as fourth:
            assert 200 == fourth.status
    assert 0 == gateway.feed.streams_count


async def test_the_servers_end_ends_streams(broker: OpenBroker) -> None:
    """end_waits() ends each stream in order and at once, and new ones are refused."""
    app, gateway = served(broker)
    async with watching(app, "/v1/events") as stream, watching(app, "/v1/events?after=0") as other:
        await stream.next()
        await other.next()
        gateway.end_waits()
        with anyio.fail_after(DEADLINE_S):
            await stream.ended.wait()
        async with watching(app, "/v1/events") as late:
            assert 503 == late.status
    assert 0 == gateway.feed.streams_count


async def test_a_host_that_cancels_its_task_sees_no_fault(anyio_backend_name: str) -> None:
    """On asyncio a stream whose task is cancelled, as uvicorn does when it stops, ends in order and raises nothing."""
    if anyio_backend_name != "asyncio":
        pytest.skip("only asyncio's tasks can be cancelled from outside")
    broker = MemoryBroker()
    feed = Feed(broker)
    sent: list[Any] = []
    began = anyio.Event()

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message)
        if "body" in message:
            began.set()

    run = EventStream(feed, await feed.follow(None, "mail")).to_asgi_response()
    task = asyncio.ensure_future(run({"type": "http"}, receive, send))
    with anyio.fail_after(DEADLINE_S):
        await began.wait()
        task.cancel()
        await task
    assert (False, 0) == (sent[-1]["more_body"], feed.streams_count)
    broker.close()


async def test_what_is_no_event_is_passed_over(broker: OpenBroker) -> None:
    """A batch that cannot be read is left out, and the stream goes on behind it."""
    app, _ = served(broker)
    async with watching(app, "/v1/events") as stream:
        await stream.next()
        broker.events.announce(["mail"], b"\xc1")
        broker.events.announce(["mail"], pack_notice("queue.paused"))
        (event,) = await stream.events(1)
    assert ("queue.paused", "mail") == (event["event"], event["data"]["queue"])


async def test_a_stream_outlives_an_outage(tmp_path: Any) -> None:
    """While the server is away the stream stays; what happens when it is back comes."""
    with start_valkey(tmp_path) as server:
        broker = open_broker(server.url, namespace="outage")
        make(broker, "mail")
        app, _ = served(broker)
        async with watching(app, "/v1/events?queue=mail") as stream:
            await stream.next()
            await anyio.to_thread.run_sync(server.stop)
            async with watching(app, "/v1/events?queue=mail") as refused:
                assert 503 == refused.status
            await anyio.to_thread.run_sync(server.start)
            tell(broker, "mail", "1-1")
            assert ["mail:1-1"] == ids(await stream.events(1))
        broker.close()
