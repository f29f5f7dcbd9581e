"""POST /v1/results: what many jobs' ends are answered with, how long is waited, and what the answer holds at most."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from headrace import Engine, FailJob
from headrace.config.settings import Settings
from headrace.engine.broker.looks import Looks, Wait
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.memory_access import Fault
from headrace.engine.http import ends
from headrace.engine.http.app import make_app
from headrace.engine.http.ends import IDS_MAX_COUNT, LOOK_FIRST_COUNT, Room
from headrace.engine.http.gateway import Gateway
from headrace.jobs import codec
from headrace.jobs.codec import ResultRecord
from http_scene import URL, asking, asking_gateway, problem

pytestmark = pytest.mark.anyio
DEADLINE_S = 20  #: far less than the 60 s that requests wait
GONE = {"type": "http.disconnect"}


@pytest.fixture
def engine() -> Engine:
    """An engine in memory."""
    engine = Engine("memory://", result_ttl=60, drain_timeout=5)

    @engine.job
    async def double(number: int) -> int:
        return 2 * number

    @engine.job(retry=None)
    async def fail() -> None:
        raise FailJob("even")

    @engine.job(result_ttl=0)
    async def unkept() -> None: ...

    @engine.job
    async def large(size: int) -> str:
        return "x" * size

    @engine.job(timeout=0)
    async def held() -> str:
        await gates[engine].wait()
        return "let go"

    return engine


#: What `held` waits for, for each engine.
gates: dict[Engine, anyio.Event] = {}


@asynccontextmanager
async def working(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an API whose jobs are run."""
    gates[engine] = anyio.Event()
    broker: Any = engine.connection.open()
    try:
        with anyio.fail_after(DEADLINE_S):
            async with engine.running(), asking(broker, registry=engine.registry) as client:
                try:
                    yield client
                finally:
                    gates[engine].set()
    finally:
        engine.connection.close()


async def submit(client: httpx.AsyncClient, name: str, *args: Any) -> str:
    """Submit a job and return its id."""
    job_id: str = (await client.post("/v1/jobs", json={"name": name, "args": args})).json()["id"]
    return job_id


async def ask(client: httpx.AsyncClient, ids: list[str], wait_s: float = 0) -> Any:
    """Ask for results."""
    response = await client.post("/v1/results", params={"wait_s": wait_s}, json={"ids": ids})
    assert 200 == response.status_code, response.text
    return response.json()


async def ended(client: httpx.AsyncClient, *ids: str) -> None:
    """Wait until jobs have ended."""
    for job_id in ids:
        assert 202 != (await client.get(f"/v1/jobs/{job_id}/result?wait_s=60")).status_code


def put_waits(monkeypatch: pytest.MonkeyPatch) -> set[Wait]:
    """Return the waits that begin from now on, which are added as they do."""
    waits: set[Wait] = set()
    put = Looks.put
    monkeypatch.setattr(Looks, "put", lambda looks, new: (waits.update(new), put(looks, new)))
    return waits


async def test_each_id_is_answered_once(engine: Engine) -> None:
    """Values, failures, those that nothing is known of and those that have not ended: each in its list, none twice."""
    async with working(engine) as client:
        first, failed, gone = [
            await submit(client, name, *args) for name, *args in (("double", 4), ("fail",), ("unkept",))
        ]
        held = await submit(client, "held")
        await ended(client, first, failed, gone)
        found = await ask(client, [held, first, failed, gone, first, "nowhere:1-1", "nonsense"])
    assert {"id": first, "status": "succeeded", "value": 8} == found["results"][0]
    assert (failed, "dead") == (found["results"][1]["id"], found["results"][1]["status"])
    assert "even" in found["results"][1]["error"]["message"]
    assert {(gone, "ResultUnavailable"), ("nowhere:1-1", "JobNotFound"), ("nonsense", "JobNotFound")} == {
        (each["id"], each["error_name"]) for each in found["unavailable"]
    }
    assert all(each["error"] for each in found["unavailable"])
    assert (2, 3, [held], []) == (
        len(found["results"]), len(found["unavailable"]), found["waiting"], found["omitted"],
    )  # fmt: skip


async def test_the_first_end_is_waited_for(engine: Engine) -> None:
    """A request waits until one has ended, and says which have not."""
    async with working(engine) as client:
        one, other = await submit(client, "held"), await submit(client, "held")
        assert {"results": [], "unavailable": [], "waiting": [one, other], "omitted": []} == await ask(
            client, [one, other], 0.01
        )

        async def let_go() -> None:
            await anyio.wait_all_tasks_blocked()
            gates[engine].set()

        async with anyio.create_task_group() as group:
            group.start_soon(let_go)
            found = await ask(client, [one, other], 60)
    assert {"let go"} == {each["value"] for each in found["results"]}
    assert {one, other} == {*found["waiting"], *(each["id"] for each in found["results"])}


async def test_what_ends_together_comes_together(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first end a request stays for others, the longer the more are left, and no longer than it may wait."""
    monkeypatch.setattr(ends, "STAY_S", DEADLINE_S)
    waits = put_waits(monkeypatch)
    async with working(engine) as client:
        ids = [await submit(client, "double", number) for number in range(40)]
        await ended(client, *ids)
        held = await submit(client, "held")
        assert ([held], 40) == ((found := await ask(client, [*ids, held], 0.1))["waiting"], len(found["results"]))
        waits.clear()

        async def let_go() -> None:
            while len(waits) < 41 or not all(wait.was_answered for wait in waits):
                await anyio.sleep(0.001)  # threads look for them
            gates[engine].set()

        async with anyio.create_task_group() as group:
            group.start_soon(let_go)
            found = await ask(client, [*ids, held], 60)
        assert [*ids, held] == [each["id"] for each in found["results"]]


async def test_callers_own_ids_are_answered_as_they_were_asked(engine: Engine) -> None:
    """A job that is asked for by its caller's id is found, and answered under it."""
    async with working(engine) as client:
        handle = await engine.submit("double", (3,), id="mine")
        await handle.result(timeout=DEADLINE_S)
        found = await ask(client, ["mine", handle.id], 1)
    assert [("mine", 6), (handle.id, 6)] == [(each["id"], each["value"]) for each in found["results"]]


async def test_an_answer_is_bounded_by_bytes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room is omitted and not held, one that is larger than the bound comes alone, and none is lost."""
    monkeypatch.setattr(ends, "RESULTS_BYTES", 100_000)
    async with working(engine) as client:
        sizes = [40_000, 40_000, 300_000, 40_000, 10]
        ids = [await submit(client, "large", size) for size in sizes]
        await ended(client, *ids)
        first = await ask(client, ids, 60)
        assert 2 == len(first["results"])
        assert ([], ids[2:]) == (first["waiting"], first["omitted"])
        second = await ask(client, first["omitted"], 60)
        assert [300_000] == [len(each["value"]) for each in second["results"]]
        third = await ask(client, second["omitted"], 60)
        assert [40_000, 10] == [len(each["value"]) for each in third["results"]]
        assert [] == third["omitted"]


async def test_no_more_is_looked_for_than_the_answer_takes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where results are large few are looked for beyond those that have room."""
    looked: list[int] = []
    put = Looks.put
    monkeypatch.setattr(Looks, "put", lambda looks, waits: (looked.append(len(waits)), put(looks, waits)))
    monkeypatch.setattr(ends, "RESULTS_BYTES", 100_000)
    async with working(engine) as client:
        ids = [await submit(client, "large", 20_000) for _ in range(60)]
        await ended(client, *ids)
        looked.clear()
        found = await ask(client, ids)
    assert [LOOK_FIRST_COUNT] == looked
    assert (4, 56) == (len(found["results"]), len(found["omitted"]))


def test_looks_grow_where_results_are_small() -> None:
    """By what has come: as many as would fit, at least a few, and never more than one command asks for."""
    nothing, small, large = Room(1_000_000), Room(1_000_000), Room(1_000_000)
    assert 32 == nothing.next_count(16)
    assert 500 == nothing.next_count(400)
    assert small.take(_record(b""))
    assert 500 == small.next_count(16)
    assert large.take(_record(b"x" * 300_000))
    assert LOOK_FIRST_COUNT == large.next_count(16)
    assert large.take(_record(b"x" * 300_000))
    assert large.take(_record(b"x" * 300_000))
    assert not large.take(_record(b"x" * 300_000))
    assert large.is_full
    assert not large.take(_record(b""))


def _record(value: bytes) -> ResultRecord:
    packed = msgspec.Raw(msgspec.msgpack.encode(value))
    return ResultRecord(codec.VERSION, "succeeded", packed, None, "add", 1, 1, 1, 2)


async def test_one_that_cannot_be_read_harms_no_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that cannot be taken apart is unavailable; the others come."""
    async with working(engine) as client:
        ids = [await submit(client, "double", number) for number in range(2)]
        await ended(client, *ids)
        broker: Any = engine.connection.open()
        engine.connection.close()
        records = broker.records

        def spoilt(asked: list[str]) -> list[Any]:
            return [
                msgspec.structs.replace(record, value=msgspec.Raw(b"\xc1")) if record and job_id == ids[0] else record
                for job_id, record in zip(asked, records(asked), strict=True)
            ]

        monkeypatch.setattr(broker, "records", spoilt)
        found = await ask(client, ids)
    assert [(ids[1], 2)] == [(each["id"], each["value"]) for each in found["results"]]
    assert [(ids[0], "ResultUnavailable")] == [(each["id"], each["error_name"]) for each in found["unavailable"]]


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"{", "application/json", 400, "no JSON object"),
        (b'{"ids": 1}', "application/json", 422, "$.ids"),
        (b'{"ids": [1]}', "application/json", 422, "$.ids[0]"),
        (b"{}", "application/json", 422, "`ids`"),
        (b'{"ids": [], "wait": 1}', "application/json", 422, "`wait`"),
        (b'{"ids": []}', "text/plain", 415, "text/plain"),
        (msgspec.json.encode({"ids": ["a"] * (IDS_MAX_COUNT + 1)}), "application/json", 422, "<= 1000"),
    ],
)
async def test_what_is_asked_wrongly_is_refused(content: bytes, kind: str, status: int, said: str) -> None:
    """The problem names what is wrong: the document, a field, the media type, or too many ids."""
    async with asking(MemoryBroker()) as client:
        response = await client.post("/v1/results", content=content, headers={"content-type": kind})
        assert status == problem(response)[0]
        assert said in response.json()["detail"]


@pytest.mark.parametrize("wait_s", ["-1", "61", "x", "nan"])
async def test_waiting_is_bounded(wait_s: str) -> None:
    """A wait outside 0 to 60 seconds is a 400 that names it."""
    async with asking(MemoryBroker()) as client:
        status, detail = problem(await client.post(f"/v1/results?wait_s={wait_s}", json={"ids": []}))
        assert 400 == status
        assert "wait_s" in detail


async def test_nothing_is_answered_with_nothing() -> None:
    """No ids, no wait."""
    async with asking(MemoryBroker()) as client:
        with anyio.fail_after(DEADLINE_S):
            assert {"results": [], "unavailable": [], "waiting": [], "omitted": []} == await ask(client, [], 60)


@pytest.mark.parametrize("wait_s", [0, 0.2])
async def test_a_server_that_is_away_is_a_503(wait_s: float) -> None:
    """Where nothing is known the problem says that the server is away, and when to come again."""
    broker = MemoryBroker()
    broker.faults.extend(Fault("records", "before") for _ in range(1000))
    async with asking(broker) as client:
        job_id = await submit(client, "add")
        with anyio.fail_after(DEADLINE_S):
            response = await client.post("/v1/results", params={"wait_s": wait_s}, json={"ids": [job_id]})
    assert 503 == problem(response)[0]
    assert ("BrokerUnavailable", True) == (response.json()["error"], "retry-after" in response.headers)


async def test_a_short_outage_is_waited_out(engine: Engine) -> None:
    """A request that waits sees a server come back, and looks for all that it was asked for."""
    async with working(engine) as client:
        ids = [await submit(client, "double", number) for number in range(LOOK_FIRST_COUNT + 5)]
        await ended(client, *ids)
        broker: Any = engine.connection.open()
        engine.connection.close()
        broker.faults.extend(Fault("records", "before") for _ in range(2))
        held = await submit(client, "held")
        found = await ask(client, [held, *ids], 60)
        assert set(ids) >= {each["id"] for each in found["results"]} != set()


async def test_a_server_that_stops_ends_the_waits() -> None:
    """Those who wait when the server is told to stop are answered at once, and whoever asks then does not wait."""
    broker = MemoryBroker()
    answers: list[Any] = []
    async with asking_gateway(broker) as (client, gateway):
        job_id = await submit(client, "add")

        async def wait() -> None:
            answers.append(await ask(client, [job_id], 60))

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                gateway.end_waits()
            await wait()
    assert [job_id] == answers[0]["waiting"] + answers[0]["omitted"]
    assert [job_id] == answers[1]["waiting"]


async def test_a_client_that_leaves_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request ends at once, and nobody is left who waits for its jobs."""
    broker = MemoryBroker()
    waits, leave = put_waits(monkeypatch), Looks.leave
    monkeypatch.setattr(Looks, "leave", lambda looks, old: (waits.difference_update(old), leave(looks, old)))
    app: Any = make_app(Gateway(broker, Settings()))
    left = anyio.Event()
    job_id = ""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        job_id = await submit(client, "add")
    messages = [{"type": "http.request", "body": msgspec.json.encode({"ids": [job_id]}), "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return GONE

    async def send(_: Any) -> None: ...

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/results", "raw_path": b"/v1/results", "query_string": b"wait_s=60", "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8787"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8787), "state": {},
    }  # fmt: skip
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(app, scope, receive, send)
            while not waits or not all(wait.was_answered for wait in waits):
                await anyio.sleep(0.001)  # a thread looks for it
            left.set()
    assert set() == waits


async def test_what_is_told_too_late_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that was under way when the request left may tell of its jobs while the answer is being written."""
    waits = put_waits(monkeypatch)
    async with asking_gateway(MemoryBroker()) as (client, gateway):
        job_id = await submit(client, "add")
        late = ends.Asking(gateway._results.looks, [job_id])
        with anyio.fail_after(DEADLINE_S):
            await late.run(0)
        (wait,) = waits
        wait.answer(_record(b""))
        late.hear([wait])
        await anyio.wait_all_tasks_blocked()
        answers = late.answers()
    assert ([], [job_id]) == (answers.results, answers.waiting)


async def test_large_answers_are_made_beside_the_loop(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long to take apart is made in a thread, what does not in the loop."""
    threads: list[bool] = []
    answers = ends.Asking.answers
    here = threading.get_ident()
    monkeypatch.setattr(
        ends.Asking, "answers", lambda asking: (threads.append(threading.get_ident() == here), answers(asking))[1]
    )
    async with working(engine) as client:
        for size in (10, 300_000):
            job_id = await submit(client, "large", size)
            assert size == len((await ask(client, [job_id], 60))["results"][0]["value"])
    assert [True, False] == threads
