"""Many jobs over HTTP: none twice whatever gets lost, none forgotten for another's fault, and a full queue named."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import anyio
import httpx
import pytest
from scripted import answer, scripted

from headrace import AsyncClient, BatchRejected, BrokerUnavailable, Client, InvalidArguments, QueueFull
from headrace.config.settings import Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.http.app import make_app
from headrace.engine.http.gateway import Gateway
from headrace.engine.remote import many
from headrace.engine.remote.patience import patiently
from headrace.engine.remote.wire import Pause, Reply, Request, Send
from headrace.jobs.errors import Outlook

FULL = "QueueFull"


def report(count: int, rejected: dict[int, str] | None = None, error_name: str | None = None) -> bytes:
    """An answer about `count` jobs of which some are rejected."""
    why = rejected or {}
    ids = [f"q:{index}-0" for index in range(count) if index not in why]
    named = {} if error_name is None else {"error_name": error_name}
    refused = [{"index": index, "error": error, **named} for index, error in why.items()]
    return answer(202, {"accepted": len(ids), "ids": ids, "rejected": refused})


def test_they_go_in_batches_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are read as they are sent; a batch of which some found no room is sent again, the same and under its key."""
    monkeypatch.setattr(many, "BATCH_COUNT", 1000)
    read: list[int] = []

    def items() -> Iterator[tuple[int]]:
        for number in range(2500):
            read.append(number)
            yield (number,)

    some = report(1000, dict.fromkeys((7, 8), "the queue is full"), FULL)
    with scripted(report(1000), some, report(1000), report(500)) as server, Client(server.url) as client:
        handles = client.submit_many("add", items(), queue="q")
    assert [f"q:{number % 1000}-0" for number in read] == [handle.id for handle in handles]
    assert [1000, 1000, 1000, 500] == [heard.body.count(b"\n") for heard in server.heard]
    assert server.heard[1].body == server.heard[2].body
    keys = [heard.headers["idempotency-key"] for heard in server.heard]
    assert (3, keys[1]) == (len(set(keys)), keys[2])


def test_what_is_refused_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are submitted, and one error says which were not and why: those that JSON cannot say too."""
    monkeypatch.setattr(many, "BATCH_COUNT", 3)
    script = (report(3, {1: "b is wrong"}, "InvalidArguments"), report(3), report(2, {1: "no JSON"}))
    with scripted(*script) as server, Client(server.url) as client, pytest.raises(BatchRejected) as caught:
        client.submit_many("add", [(0,), (1,), (2,), (3,), (object(),), (5,), (6,), (7,), (8,)])
    assert [1, 4, 8] == [place for place, _ in caught.value.rejected]
    assert "add(): the arguments cannot be sent as JSON" in caught.value.rejected[1][1]
    assert 6 == len(caught.value.ids)
    assert "3 jobs were refused, the first at 1: b is wrong; the other 6 were submitted" == str(caught.value)
    assert 3 == len(server.heard)
    one = scripted(report(1, {0: "wrong"}, "InvalidArguments"))
    with one as server, Client(server.url) as client, pytest.raises(BatchRejected, match="1 job was refused, the one"):
        client.submit_many("add", [()])


def test_refusals_are_listed_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it they are counted."""
    monkeypatch.setattr(many, "REJECTED_MAX_COUNT", 2)
    wrong = report(4, dict.fromkeys(range(4), "wrong"), "InvalidArguments")
    counted = pytest.raises(BatchRejected, match="4 jobs were refused")
    with scripted(wrong) as server, Client(server.url) as client, counted as caught:
        client.submit_many("add", [()] * 4)
    assert 2 == len(caught.value.rejected)


@pytest.mark.parametrize(("error_name", "kind"), [("QueueFull", QueueFull), ("BrokerUnavailable", BrokerUnavailable)])
def test_what_may_pass_is_tried_until_the_time_is_over(error_name: str, kind: type[Exception]) -> None:
    """Then it is raised as what it is, never as a refusal for good."""
    script = [report(2, {1: "what happened"}, error_name)] * 100
    still = pytest.raises(kind, match=r"what happened.* of a batch of 2 jobs")
    with scripted(*script) as server, Client(server.url) as client, still:
        client.submit_many("add", [(), ()], wait_timeout=1.0)
    assert 1 < len(server.heard) < 100
    assert 1 == len({(heard.headers["idempotency-key"], heard.body) for heard in server.heard})


def test_an_item_that_is_no_tuple_stops_no_other() -> None:
    """An item that is no tuple of arguments is refused by its place, and the others are submitted."""
    with scripted(report(2)) as server, Client(server.url) as client, pytest.raises(BatchRejected) as caught:
        client.submit_many("add", [(1, 2), 5, (3, 4)])  # type: ignore[list-item]
    assert ([1], 2) == ([place for place, _ in caught.value.rejected], len(caught.value.ids))


def test_an_option_of_many_jobs_is_checked() -> None:
    """What they do not take is named with what they take."""
    with Client() as client, pytest.raises(InvalidArguments, match=r"idempotency_key= is no option.*wait_timeout"):
        client.submit_many("add", [()], idempotency_key="k")


@pytest.mark.parametrize("left_s", [0.0, 0.3, 2.0, 15.0, 60.0, None])
def test_a_server_that_waits_answers_before_its_client_gives_up(left_s: float | None) -> None:
    """Each try asks for no longer a wait than is left, and listens for longer than that."""
    now_s = 0.0
    request = Request(method="POST", path="/", wait_s=20.0, margin_s=5.0)
    steps = patiently(request, "http://x", left_s, clock=lambda: now_s)
    step: Any = next(steps)
    tries = 0
    while True:
        remaining_s = 1000.0 if left_s is None else left_s - now_s
        assert isinstance(step, Send)
        asked_s = cast(float, step.request.params["wait_s"])
        assert min(20.0, remaining_s) == pytest.approx(asked_s, abs=0.001)
        assert step.timeout_s >= asked_s + 5.0
        now_s, tries = now_s + asked_s, tries + 1
        try:
            step = steps.send(Reply(429, {}, b'{"error": "QueueFull"}'))
        except QueueFull:
            break
        assert isinstance(step, Pause)
        now_s += step.seconds
        if left_s is None and tries > 5:
            break
        step = steps.send(None)


@pytest.fixture
def api() -> Callable[..., tuple[MemoryBroker, AsyncClient]]:
    """Makes a broker in memory and a client of an API on it."""

    def make(**settings: Any) -> tuple[MemoryBroker, AsyncClient]:
        broker = MemoryBroker()
        app: Any = make_app(Gateway(broker, Settings(**settings)))
        return broker, AsyncClient("http://localhost", transport=httpx.ASGITransport(app))

    return make


@pytest.mark.anyio
@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("is_applied", [True, False])
async def test_no_job_is_there_twice(
    api: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, lost: int, is_applied: bool
) -> None:
    """Whichever part's reply is lost, and whether the part was added or not: each job is there once."""
    broker, client = api()
    publish, count = broker.publish, 0

    def losing(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count != lost:
            return publish(*args)
        if is_applied:
            publish(*args)
        raise BrokerUnavailable("the reply was lost", outlook=Outlook.OPEN)

    monkeypatch.setattr(broker, "publish", losing)
    with anyio.fail_after(60):
        async with client:
            handles = await client.submit_many("add", [(number,) for number in range(1500)])
    assert (1500, 1500) == (len({handle.id for handle in handles}), broker.queues(["default"])[0].queued)


@pytest.mark.anyio
async def test_a_full_queue_says_how_full(api: Callable[..., Any]) -> None:
    """QueueFull has the queue's figures, from one job as from many."""
    _, client = api(max_queue_length=2)
    with anyio.fail_after(60):
        async with client:
            await client.submit_many("add", [(), ()])
            with pytest.raises(QueueFull) as one:
                await client.submit("add", on_full="reject")
            with pytest.raises(QueueFull) as more:
                await client.submit_many("add", [(), ()], wait_timeout=0.2)
    for error in (one.value, more.value):
        assert ("default", 2, 2, "length") == (error.queue, error.depth, error.bound, error.reason)


@pytest.mark.anyio
async def test_rejections_have_names(api: Callable[..., Any]) -> None:
    """A batch's rejection has the name of the engine's error; one that cannot be read has none."""
    _, client = api(max_queue_length=1)
    lines = b'{"name": "add"}\n{"name": "add"}\n{"name": "add", "delay_s": 1, "at": "2099-01-01T00:00:00Z"}\n{\n'
    async with client:
        answered = await client.open().post(
            "/v1/jobs/batch", params={"wait_s": 0}, content=lines, headers={"content-type": "application/x-ndjson"}
        )
    assert [(1, FULL), (2, "InvalidArguments"), (3, None)] == [
        (each["index"], each.get("error_name")) for each in answered.json()["rejected"]
    ]
