"""What the API tells of jobs, figures and health, and whom it answers at all."""

from typing import Any

import anyio
import httpx
import msgspec
import pytest

from headrace.config.settings import Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.memory_access import Fault
from headrace.engine.broker.views import JobView
from headrace.engine.http import vitals
from headrace.engine.http.answers import EVER_NEW
from headrace.engine.http.app import make_app
from headrace.engine.http.gateway import Gateway
from headrace.engine.runtime import Engine
from headrace.jobs import codec
from headrace.jobs.codec import ResultRecord
from headrace.jobs.states import State
from http_scene import URL, asking, problem, publish

pytestmark = pytest.mark.anyio
DEADLINE_S = 20


async def test_a_job_is_followed_to_its_end() -> None:
    """A submitted job is queued, then its result is waited for and shown, and its record says how it went."""
    engine = Engine("memory://", result_ttl=60)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    @engine.job(retry=None)
    async def fail() -> None:
        raise ValueError("no such row")

    broker: Any = engine.connection.open()
    async with asking(broker, registry=engine.registry) as client:
        first = (await client.post("/v1/jobs", json={"name": "add", "args": [1, 2]})).json()["id"]
        early = await client.get(f"/v1/jobs/{first}/result")
        assert (202, {"id": first, "status": "queued"}) == (early.status_code, early.json())
        early = await client.get(f"/v1/jobs/{first}/result?wait_s=0.01")
        assert 202 == early.status_code
        with anyio.fail_after(DEADLINE_S):
            async with engine.running():
                response = await client.get(f"/v1/jobs/{first}/result?wait_s=60")
                second = (await client.post("/v1/jobs", json={"name": "fail"})).json()["id"]
                failed = await client.get(f"/v1/jobs/{second}/result?wait_s=60")
        assert (200, {"id": first, "status": "succeeded", "value": 3}) == (response.status_code, response.json())
        assert (200, "dead") == (failed.status_code, failed.json()["status"])
        assert ("ValueError", "no such row") == (failed.json()["error"]["type"], failed.json()["error"]["message"])
        record = (await client.get(f"/v1/jobs/{first}")).json()
        assert ("add", "default", "succeeded", 1) == tuple(record[k] for k in ("name", "queue", "status", "attempts"))
        assert record["submitted_at_ms"] <= record["started_at_ms"] <= record["ended_at_ms"]
    engine.connection.close()


async def test_a_job_that_never_was_is_a_404() -> None:
    """Ids that nobody was given are a 404, waited for or not."""
    async with asking(MemoryBroker()) as client:
        for path in ("/v1/jobs/nonsense", "/v1/jobs/nonsense/result", "/v1/jobs/nonsense/result?wait_s=30"):
            with anyio.fail_after(DEADLINE_S):
                assert 404 == problem(await client.get(path))[0]


@pytest.mark.parametrize(
    ("view", "status", "expected"),
    [
        (JobView(id="q:1-0", queue="q", state=None), 410, None),
        (JobView(id="q:1-0", queue="q", state=State.SUCCEEDED), 410, None),
        (("nil", "its result was too large"), 410, None),
        (
            {1: b"\x00", None: [msgspec.msgpack.Ext(5, b"e")]},
            200,
            {"1": "AA==", "None": [{"ext": 5, "base64": "ZQ=="}]},
        ),
        (None, 200, None),
    ],
)
async def test_what_was_kept_decides(view: Any, status: int, expected: Any) -> None:
    """A job whose record or value is gone is a 410; a value that JSON cannot say is said as nearly as it can be."""
    broker = MemoryBroker()
    if not isinstance(view, JobView):
        value, note = (None, view[1]) if isinstance(view, tuple) else (view, None)
        record = ResultRecord(
            codec.VERSION, "succeeded", msgspec.Raw(msgspec.msgpack.encode(value)), None, "add", 1, 1, 1, 2, note
        )
        view = JobView(id="q:1-0", queue="q", state=State.SUCCEEDED, record=record)
    broker.lookup = lambda ids: [view for _ in ids]  # type: ignore[method-assign]
    async with asking(broker) as client:
        response = await client.get("/v1/jobs/q:1-0/result")
        if status == 410:
            assert 410 == problem(response)[0]
        else:
            assert {"id": "q:1-0", "status": "succeeded", "value": expected} == response.json()


async def test_a_value_that_is_nested_too_deeply_is_a_410() -> None:
    """A value that a worker could keep, but that JSON cannot be made of, is no fault of the API: 410 says why."""
    broker = MemoryBroker()
    # Lists of one item each, written by hand: 900 levels are few enough to be unpacked.
    deep = msgspec.Raw(b"\x91" * 900 + b"\xc0")
    record = ResultRecord(codec.VERSION, "succeeded", deep, None, "add", 1, 1, 1, 2, None)
    view = JobView(id="q:1-0", queue="q", state=State.SUCCEEDED, record=record)
    broker.lookup = lambda ids: [view for _ in ids]  # type: ignore[method-assign]
    async with asking(broker) as client:
        status, detail = problem(await client.get("/v1/jobs/q:1-0/result"))
    assert 410 == status
    assert "job q:1-0 (add) succeeded, but its value is nested too deeply" in detail


@pytest.mark.parametrize("wait_s", ["-1", "61", "x", "nan"])
async def test_waiting_is_bounded(wait_s: str) -> None:
    """A wait outside 0 to 60 seconds is a 400 that names it."""
    async with asking(MemoryBroker()) as client:
        status, detail = problem(await client.get(f"/v1/jobs/q:1-0/result?wait_s={wait_s}"))
        assert 400 == status
        assert "wait_s" in detail


async def test_a_server_that_stops_ends_the_waits() -> None:
    """Those who wait for a result when the server is told to stop are answered at once: not yet."""
    gateway = Gateway(MemoryBroker(), Settings())
    app: Any = make_app(gateway)
    answers: list[int] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        job_id = (await client.post("/v1/jobs", json={"name": "add"})).json()["id"]

        async def wait() -> None:
            answers.append((await client.get(f"/v1/jobs/{job_id}/result?wait_s=60")).status_code)

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                gateway.end_waits()
    assert [202] == answers


async def test_a_client_that_goes_away_ends_its_wait() -> None:
    """Whoever asks for a result and goes is waited for no longer: those who do it again and again do not add up."""
    gateway = Gateway(MemoryBroker(), Settings())
    app: Any = make_app(gateway)
    gone = anyio.Event()
    asked: list[bool] = []
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        if not asked:
            asked.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        job_id = (await client.post("/v1/jobs", json={"name": "add"})).json()["id"]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": f"/v1/jobs/{job_id}/result", "query_string": b"wait_s=60", "root_path": "", "raw_path": b"",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8787),
    }  # fmt: skip
    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(app, scope, receive, send)
            await anyio.wait_all_tasks_blocked()
            assert 1 == len(gateway._waits)
            gone.set()
    assert (0, [400]) == (len(gateway._waits), statuses)


async def test_figures_are_the_statistics_of_all() -> None:
    """/v1/stats shows every queue, and all the record's parts."""
    async with asking(MemoryBroker()) as client:
        await client.post("/v1/jobs", json={"name": "add", "queue": "sums"})
        response = await client.get("/v1/stats")
        assert "application/json" == response.headers["content-type"]
        figures = response.json()
        assert 1 == figures["queues"]["sums"]["queued"]
        assert {"throughput", "latency_ms", "concurrency", "errors", "backpressure", "process"} <= figures.keys()


async def test_health_is_that_of_consumption(monkeypatch: pytest.MonkeyPatch) -> None:
    """Healthy without workers, and while each queue has one that asks for jobs; not when none does, or no broker."""
    monkeypatch.setattr(vitals, "LOOK_TTL_S", 0.0)
    broker = MemoryBroker()
    async with asking(broker) as client:
        assert (200, "ok") == ((response := await client.get("/healthz")).status_code, response.json()["status"])
        publish(broker, "w1", queues=("a", "b"), fetch_age_s=31.0)
        publish(broker, "w2", queues=("b",), fetch_age_s=1.0)
        publish(broker, "w3", queues=("c",), fetch_age_s=31.0, stopping=True)
        response = await client.get("/healthz")
        assert 503 == response.status_code
        assert {
            "status": "stalled", "workers": 3, "stalled_queues": ["a"], "silent_workers": [], "loop_lag_ms": None,
        } == response.json()  # fmt: skip
        publish(broker, "w1", queues=("a", "b"), fetch_age_s=29.0)
        assert 200 == (await client.get("/healthz")).status_code
        broker.faults.append(Fault("fleet", "before"))
        assert 503 == problem(await client.get("/healthz"))[0]


@pytest.mark.parametrize(
    ("host", "origin", "passes"),
    [
        ("localhost", None, True),
        ("127.1.2.3:80", "http://localhost:3000", True),
        ("[::1]:8787", "https://[::1]", True),
        ("LOCALHOST:1", None, True),
        ("evil.example", None, False),
        ("localhost.evil.example:8787", None, False),
        ("10.0.0.1", None, False),
        ("", None, False),
        ("localhost", "http://evil.example", False),
        ("localhost", "null", False),
        ("localhost", "http://localhost.evil.example", False),
    ],
)
async def test_only_this_machine_is_answered(host: str, origin: str | None, passes: bool) -> None:
    """The Host must be loopback, and the Origin where there is one; else every path is a 403."""
    async with asking(MemoryBroker()) as client:
        for path in ("/healthz", "/nowhere"):
            headers = {"host": host} | ({} if origin is None else {"origin": origin})
            response = await client.get(path, headers=headers)
            if passes:
                assert 403 != response.status_code
            else:
                assert 403 == problem(response)[0]


async def test_unknown_routes_and_methods_are_problems() -> None:
    """A path that is not there is a 404, a method that it does not take a 405 with Allow."""
    async with asking(MemoryBroker()) as client:
        assert 404 == problem(await client.get("/v2"))[0]
        response = await client.delete("/v1/jobs")
        assert 405 == problem(response)[0]
        assert "POST" in response.headers["allow"]


async def test_openapi_lists_every_route_and_its_problems() -> None:
    """The document is OpenAPI 3.1, its references lead somewhere, and each route states its answers."""
    async with asking(MemoryBroker()) as client:
        response = await client.get("/openapi.json")
    document = response.json()
    assert document["openapi"].startswith("3.1.")
    expected = {
        ("/v1/jobs", "post"): {"202", "400", "403", "404", "409", "413", "415", "422", "429", "500", "503"},
        ("/v1/jobs", "get"): {"200", "400", "403", "422", "500", "503"},
        ("/v1/jobs/batch", "post"): {"202", "400", "403", "413", "415", "429", "500", "503"},
        ("/v1/jobs/{job_id}", "get"): {"200", "400", "403", "404", "410", "500", "503"},
        ("/v1/jobs/{job_id}/result", "get"): {"200", "202", "400", "403", "404", "410", "500", "503"},
        ("/v1/jobs/{job_id}/cancel", "post"): {"200", "400", "403", "404", "500", "503"},
        ("/v1/jobs/{job_id}/retry", "post"): {"200", "400", "403", "404", "410", "500", "503"},
        ("/v1/results", "post"): {"200", "400", "403", "413", "415", "422", "500", "503"},
        ("/v1/workers", "get"): {"200", "400", "403", "500", "503"},
        ("/v1/queues", "get"): {"200", "400", "403", "500", "503"},
        **{
            (f"/v1/queues/{{queue}}/{verb}", "post"): {"200", "400", "403", "422", "500", "503"}
            for verb in ("pause", "resume", "purge")
        },
        ("/v1/dead", "get"): {"200", "400", "403", "422", "500", "503"},
        ("/v1/dead/{job_id}", "get"): {"200", "400", "403", "404", "500", "503"},
        ("/v1/dead/{job_id}", "patch"): {"200", "400", "403", "404", "413", "415", "422", "500", "503"},
        ("/v1/dead/{job_id}", "delete"): {"204", "400", "403", "404", "500", "503"},
        ("/v1/dead/retry", "post"): {"200", "400", "403", "413", "415", "422", "500", "503"},
        ("/v1/stats", "get"): {"200", "400", "403", "500", "503"},
        **{(path, "get"): {"200", "400", "403", "500", "503"} for path in ("/healthz", "/readyz", "/metrics")},
        ("/v1/events", "get"): {"200", "400", "403", "422", "500", "503"},
    }
    expected = {
        route: answers | {"401"} | ({"408"} if "413" in answers else set()) for route, answers in expected.items()
    }
    found = {
        (path, method): set(operation["responses"]) - {"304"}
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert expected == found
    same = {path for path, item in document["paths"].items() if "304" in item.get("get", {}).get("responses", {})}
    assert {path for path, method in expected if method == "get"} - EVER_NEW == same
    references = set(_references(document))
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} >= references
    assert {"JobRequest", "Problem", "Statistics"} <= {reference.rpartition("/")[2] for reference in references}
    for path, item in document["paths"].items():
        for operation in item.values():
            content = operation["responses"]["500"]["content"]
            assert ["application/problem+json"] == list(content), path
            names = [parameter["name"] for parameter in operation.get("parameters", [])]
            known = {"job_id", "queue", "wait_s", "cursor", "limit", "status", "name", "after", "Last-Event-ID"}
            assert known >= set(names)


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in _references(value)]
    return [found for value in part for found in _references(value)] if isinstance(part, list) else []


async def test_every_error_of_a_job_has_a_message() -> None:
    """A job that expired says what happened and what to do; one whose exception had no words says so."""
    engine = Engine("memory://", result_ttl=60)

    @engine.job(retry=None)
    async def fail() -> None:
        raise ValueError

    broker: Any = engine.connection.open()
    async with asking(broker, registry=engine.registry) as client:
        jobs = [{"name": "fail", "expires_s": 0.001}, {"name": "fail"}]
        ids = [(await client.post("/v1/jobs", json=job)).json()["id"] for job in jobs]
        await anyio.sleep(0.01)  # not to wait for anything: it is what makes the first one late
        with anyio.fail_after(DEADLINE_S):
            async with engine.running():
                late, wordless = [(await client.get(f"/v1/jobs/{each}/result?wait_s=60")).json() for each in ids]
    engine.connection.close()
    assert ("expired", "JobExpired") == (late["status"], late["error"]["type"])
    assert "had passed before a worker could start it: submit it anew" in late["error"]["message"]
    assert ("ValueError", "raised without a message") == (wordless["error"]["type"], wordless["error"]["message"])
