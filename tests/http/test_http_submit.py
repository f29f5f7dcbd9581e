"""POST /v1/jobs: what it takes, what it refuses and how it says so."""

import gzip
import time

import httpx
import msgspec
import pytest

from headrace.config.settings import HttpSettings, Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.memory_access import Fault
from headrace.engine.observe.report import WorkerReport
from headrace.engine.runtime import Engine
from headrace.jobs import codec
from http_scene import Pieces, asking, post_pieces, problem, publish

pytestmark = pytest.mark.anyio


async def test_a_job_is_accepted_before_any_worker_is_there() -> None:
    """With no worker to know handlers, any name is accepted, and the answer is its id and status."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        response = await client.post("/v1/jobs", json={"name": "later", "args": [1], "kwargs": {"b": [None, "é"]}})
        assert (202, "queued") == (response.status_code, response.json()["status"])
        view = broker.lookup([response.json()["id"]])[0]
        assert view is not None
        envelope = codec.unpack_envelope(view.body)
        assert "later" == envelope.name
        assert [1] == codec.plain_value(envelope.args)
        assert {"b": [None, "é"]} == codec.plain_value(envelope.kwargs)


async def test_a_plain_curl_is_understood() -> None:
    """`curl -d` calls JSON a form; without an Origin, which a browser would send, that is accepted."""
    async with asking(MemoryBroker()) as client:
        form = {"content-type": "application/x-www-form-urlencoded"}
        content = b'{"name":"add","args":[1,2]}'
        assert 202 == (await client.post("/v1/jobs", content=content, headers=form)).status_code
        posted = await client.post("/v1/jobs", content=content, headers={**form, "origin": "http://localhost:3000"})
        assert 415 == problem(posted)[0]


async def test_options_travel_with_the_job() -> None:
    """Each option of a submission is found again in the job that is queued."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        before_ms = time.time_ns() // 1_000_000
        fields = {"name": "add", "queue": "other", "delay_s": 60, "timeout_s": 7.5, "expires_s": 90, "attempts": 4}
        response = await client.post("/v1/jobs", json=fields)
        assert (202, "delayed") == (response.status_code, response.json()["status"])
        view = broker.lookup([response.json()["id"]])[0]
        assert view is not None
        options = codec.unpack_envelope(view.body).options
        assert options is not None
        assert ("other", 7.5, 4) == (view.queue, options.timeout_s, options.attempts)
        assert options.expires_at_ms is not None
        assert 0 <= options.expires_at_ms - before_ms - 90_000 < 30_000
        assert 0 <= view.due_at_ms - before_ms - 60_000 < 30_000
        response = await client.post("/v1/jobs", json={"name": "add", "at": "2999-01-01T00:00:00+01:00"})
        view = broker.lookup([response.json()["id"]])[0]
        assert view is not None
        assert 32_472_140_400_000 == view.due_at_ms


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"name": "add", "uniqe": "k"}, "uniqe"),
        ({"args": []}, "name"),
        ({"name": ""}, "$.name"),
        ({"name": "add", "args": {}}, "$.args"),
        ({"name": "add", "delay_s": -1}, "$.delay_s"),
        ({"name": "add", "attempts": 0}, "$.attempts"),
        ({"name": "add", "attempts": 2**32}, "<= 4294967295 - at `$.attempts`"),
        ({"name": "add", "at": "2030-01-01T00:00:00"}, "$.at"),
        ({"name": "add", "at": "2030-01-01T00:00:00Z", "delay_s": 1}, "not both"),
        ({"name": "add", "queue": "a:b"}, "'a:b'"),
        ({"name": "add", "args": [2**70]}, "add()"),
    ],
)
async def test_a_wrong_field_is_named(body: object, named: str) -> None:
    """A missing, unknown or wrong field is a 422 whose detail names it."""
    async with asking(MemoryBroker()) as client:
        status, detail = problem(await client.post("/v1/jobs", json=body))
        assert 422 == status
        assert named in detail


@pytest.mark.parametrize("content", [b"", b"{", b'{"name": "\xff"}', b'{"name":"a","args":' + b"[" * 50_000])
async def test_malformed_json_is_a_400(content: bytes) -> None:
    """What is no JSON, or is nested without end, is a 400."""
    async with asking(MemoryBroker()) as client:
        response = await client.post("/v1/jobs", content=content, headers={"content-type": "application/json"})
        assert 400 == problem(response)[0]


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", None])
async def test_another_media_type_is_a_415(kind: str | None) -> None:
    """A body of another type, or of none, is refused: a page of another origin could send it unasked."""
    async with asking(MemoryBroker()) as client:
        headers = {} if kind is None else {"content-type": kind}
        status, detail = problem(await client.post("/v1/jobs", content=b'{"name":"add"}', headers=headers))
        assert 415 == status
        assert "application/json" in detail


@pytest.mark.parametrize("coding", ["gzip", "zstd, gzip", "GZIP"])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/jobs", "application/json"),
        ("/v1/jobs/", "application/json"),
        ("/v1/jobs/batch", "application/x-ndjson"),
        ("/v1/dead/retry", "application/json"),
    ],
)
async def test_a_compressed_body_is_a_415(path: str, kind: str, coding: str) -> None:
    """It is said to be compressed, where its jobs would be taken for malformed; `identity` changes nothing."""
    async with asking(MemoryBroker()) as client:
        headers = {"content-type": kind, "content-encoding": coding}
        response = await client.post(path, content=gzip.compress(b'{"name": "add"}\n' * 9), headers=headers)
        status, detail = problem(response)
        assert (415, "identity") == (status, response.headers["accept-encoding"])
        assert f"Content-Encoding is {coding!r}" in detail
        plain = await client.post(
            path, content=b'{"name": "add"}', headers={"content-type": kind, "content-encoding": "identity"}
        )
        assert 415 != plain.status_code


async def test_published_handlers_check_arguments() -> None:
    """Where workers publish their handlers, arguments are checked by them and the job goes to the handler's queue."""
    broker = MemoryBroker()
    publish(broker)
    async with asking(broker) as client:
        for name in ("add", "plus"):
            response = await client.post("/v1/jobs", json={"name": name, "args": [1]})
            assert 202 == response.status_code
            assert response.json()["id"].startswith("sums:")
        status, detail = problem(await client.post("/v1/jobs", json={"name": "add", "args": [1, "x"]}))
        assert 422 == status
        assert "'b'" in detail
        response = await client.post("/v1/jobs", json={"name": "ad"})
        assert "UnknownHandler" == response.json()["error"]
        status, detail = problem(response)
        assert 404 == status
        assert "add, plus" in detail


async def test_the_engines_own_handlers_check_arguments() -> None:
    """Handlers whose code the server was given check arguments by their hints, dates as JSON says them included."""
    from datetime import date

    engine = Engine("memory://")

    @engine.job(queue="days")
    async def note(day: date, times: int = 1) -> None: ...

    async with asking(MemoryBroker(), registry=engine.registry) as client:
        good = await client.post("/v1/jobs", json={"name": "note", "args": ["2030-02-28"]})
        assert 202 == good.status_code
        assert good.json()["id"].startswith("days:")
        status, detail = problem(await client.post("/v1/jobs", json={"name": "note", "kwargs": {"day": "soon"}}))
        assert 422 == status
        assert "'day'" in detail


async def test_a_full_queue_says_when_to_come_again() -> None:
    """A full queue is a 429; Retry-After is 1 where nothing is known, else from the speed at which workers drain it."""
    settings = Settings(max_queue_length=2)
    job = {"name": "add", "args": [1]}
    async with asking(MemoryBroker(), settings) as client:
        assert [202, 202] == [(await client.post("/v1/jobs", json=job)).status_code for _ in range(2)]
        response = await client.post("/v1/jobs", json=job)
        assert 429 == problem(response)[0]
        assert "1" == response.headers["retry-after"]
    slow = MemoryBroker()
    publish(slow, report=WorkerReport(drained_per_s={"sums": 0.01}))
    async with asking(slow, settings) as client:
        for _ in range(2):
            await client.post("/v1/jobs", json=job)
        response = await client.post("/v1/jobs", json=job)
        assert (429, "20") == (response.status_code, response.headers["retry-after"])


async def test_a_full_queue_that_is_paused_says_so() -> None:
    """No speed is made up for it: the detail says that it is paused and what helps, Retry-After is not a second."""
    broker, job = MemoryBroker(), {"name": "add", "args": [1]}
    publish(broker)
    async with asking(broker, Settings(max_queue_length=2)) as client:
        for _ in range(2):
            await client.post("/v1/jobs", json=job)
        broker.pause("sums", True)
        response = await client.post("/v1/jobs", json=job)
        status, detail = problem(response)
        assert (429, "10") == (status, response.headers["retry-after"])
        assert "paused" in detail
        assert "resume" in detail
        assert "speed" not in detail
        broker.pause("sums", False)
        assert "paused" not in problem(await client.post("/v1/jobs", json=job))[1]


async def test_a_broker_that_is_away_is_a_503() -> None:
    """While the broker is away a submission is a 503 with Retry-After, and works again once it is back."""
    broker = MemoryBroker()
    broker.faults.append(Fault("publish", "before"))
    async with asking(broker) as client:
        response = await client.post("/v1/jobs", json={"name": "add"})
        assert 503 == problem(response)[0]
        assert int(response.headers["retry-after"]) > 0
        assert 202 == (await client.post("/v1/jobs", json={"name": "add"})).status_code


async def test_too_large_is_a_413() -> None:
    """A job above max_payload is a 413, as is a body above http.body_max, whatever Content-Length says."""
    settings = Settings(max_payload_bytes=2000, http=HttpSettings(body_max_bytes=4000))

    async with asking(MemoryBroker(), settings) as client:
        response = await client.post("/v1/jobs", json={"name": "add", "args": ["x" * 2500]})
        assert "PayloadTooLarge" == response.json()["error"]
        assert 413 == problem(response)[0]
        kind = {"content-type": "application/json"}
        assert 413 == problem(await client.post("/v1/jobs", content=b" " * 4001, headers=kind))[0]
        assert 413 == problem(await post_pieces(client, "/v1/jobs", Pieces(b" " * 4500, 500), "application/json"))[0]


async def test_a_fault_inside_is_logged_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw is a 500 without its details; they are in the log."""
    broker = MemoryBroker()
    monkeypatch.setattr(broker, "publish", lambda *_: 1 // 0)
    async with asking(broker) as client:
        response = await client.post("/v1/jobs", json={"name": "add"})
    assert 500 == problem(response)[0]
    assert "ZeroDivision" not in response.text
    assert ZeroDivisionError in [record.exc_info[0] for record in caplog.records if record.exc_info]


async def test_submissions_at_the_same_time_travel_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty requests at once need fewer calls of the broker than that, and each gets an id of its own."""
    import anyio

    broker = MemoryBroker()
    sizes: list[int] = []
    publish_really = broker.publish

    def count(queue, jobs, token, bound):
        sizes.append(len(jobs))
        if len(sizes) == 1:
            time.sleep(0.2)  # as long as a slow server takes; the others come meanwhile
        return publish_really(queue, jobs, token, bound)

    monkeypatch.setattr(broker, "publish", count)
    monkeypatch.setattr(broker, "waits", True)  # as a broker on a server does
    ids: list[str] = []
    async with asking(broker) as client:

        async def one(client: httpx.AsyncClient) -> None:
            response = await client.post("/v1/jobs", json={"name": "add"})
            ids.append(msgspec.json.decode(response.content)["id"])

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(one, client)
    assert (50, 50) == (len(set(ids)), sum(sizes))
    assert len(sizes) < 50
