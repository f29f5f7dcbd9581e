"""What the API says of itself: a valid OpenAPI document with each handler's own arguments, and a page beside it."""

import re
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry as Documents
from referencing import Resource
from referencing.jsonschema import DRAFT202012

from headrace import Engine
from headrace.engine.broker.memory import Fault, MemoryBroker
from headrace.engine.http import gateway as gateway_module
from headrace.engine.loops.introducing import Introduction
from headrace.engine.observe.report import WorkerReport
from http_scene import asking, publish

pytestmark = pytest.mark.anyio


class Row(msgspec.Struct):
    """A record, so that a schema refers to another."""

    id: int
    tags: list[str] = []


@pytest.fixture(autouse=True)
def _each_look_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is known of the workers be never older than the question."""
    monkeypatch.setattr(gateway_module, "FLEET_TTL_S", 0.0)


def engine() -> Engine:
    """Return an engine with handlers of many shapes."""
    engine = Engine("memory://")

    @engine.job(aliases=("plus",))
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @engine.job
    async def store(row: Row, *, force: bool = False) -> None: ...

    @engine.job
    async def anything(*args: int, **kwargs: str) -> None: ...

    @engine.job
    async def nothing() -> None: ...

    @engine.job(name="odd/name é")
    async def odd() -> None: ...

    return engine


def announce(broker: MemoryBroker, engine: Engine) -> None:
    """Have a worker of the engine say that it is there."""
    introduction = Introduction(("default",), engine.registry, "1.0")
    said = introduction.to_bytes(WorkerReport(), stuck=[], fetch_age_s=0.0, state="working")
    broker.fleet_put(introduction.worker, said, 60.0)


def judge(document: dict[str, Any]) -> Draft202012Validator:
    """Return what judges the body of POST /v1/jobs."""
    documents = Documents().with_resource("urn:api", Resource(contents=document, specification=DRAFT202012))
    content = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    return Draft202012Validator({"$ref": f"urn:api{content['schema']['$ref']}"}, registry=documents)


@pytest.mark.parametrize("known", ["none", "workers", "own"])
async def test_the_document_is_valid_whoever_is_known(known: str) -> None:
    """With no handler, with workers' and with those whose code is here, it is valid OpenAPI 3.1."""
    broker = MemoryBroker()
    if known == "workers":
        announce(broker, engine())
    async with asking(broker, registry=engine().registry if known == "own" else None) as client:
        document = (await client.get("/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    job = document["components"]["schemas"]["Job"]
    assert ("oneOf" in job) == (known != "none")
    named = {"add", "plus", "store", "anything", "nothing", "odd/name é"} if known != "none" else set()
    assert named == job.get("discriminator", {}).get("mapping", {}).keys()


@pytest.mark.parametrize(
    ("job", "fits"),
    [
        ({"name": "add", "args": [1, 2]}, True),
        ({"name": "plus", "args": [1]}, True),
        ({"name": "add", "kwargs": {"a": 1}}, True),
        ({"name": "add", "args": [1], "kwargs": {"b": 2}, "delay_s": 5}, True),
        ({"name": "store", "args": [{"id": 1, "tags": ["x"]}], "kwargs": {"force": True}}, True),
        ({"name": "anything", "args": [1, 2, 3], "kwargs": {"x": "y"}}, True),
        ({"name": "nothing"}, True),
        ({"name": "odd/name é"}, True),
        ({"name": "add"}, False),
        ({"name": "add", "args": ["x"]}, False),
        ({"name": "add", "args": [1, 2, 3]}, False),
        ({"name": "add", "kwargs": {"a": 1, "c": 2}}, False),
        ({"name": "add", "kwargs": {"b": 2}}, False),
        ({"name": "store", "args": [{"id": 1}, True]}, False),
        ({"name": "nothing", "args": [1]}, False),
        ({"name": "unheard of"}, False),
        ({"name": "add", "args": [1], "delay": 5}, False),
        ({"name": "add", "args": [1], "delay_s": "soon"}, False),
    ],
)
async def test_schema_and_server_agree_on_jobs(job: dict[str, Any], fits: bool) -> None:
    """What the document's schema takes is what POST /v1/jobs takes, and what it refuses is refused."""
    broker = MemoryBroker()
    announce(broker, engine())
    async with asking(broker) as client:
        document = (await client.get("/openapi.json")).json()
        response = await client.post("/v1/jobs", json=job)
    assert (fits, fits) == (judge(document).is_valid(job), response.status_code == 202)


async def test_the_schema_sees_into_records() -> None:
    """What is wrong inside a record, the schema refuses; the server leaves that to the worker."""
    broker = MemoryBroker()
    announce(broker, engine())
    async with asking(broker) as client:
        judged = judge((await client.get("/openapi.json")).json())
    assert [True, False] == [judged.is_valid({"name": "store", "args": [{"id": number}]}) for number in (1, "one")]


async def test_the_document_follows_the_workers() -> None:
    """A worker that comes or goes changes the document; an outage of the server changes nothing."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        before = (await client.get("/openapi.json")).text
        publish(broker)
        after = await client.get("/openapi.json")
        assert "Job.add" in after.json()["components"]["schemas"]
        broker.faults.append(Fault("fleet", "before"))
        assert after.text == (await client.get("/openapi.json")).text
        broker.fleet_put("w", b"", 0.0)
        assert before == (await client.get("/openapi.json")).text


async def test_the_page_shows_all_and_loads_nothing() -> None:
    """Every route and handler is on it; nothing in it leads a browser elsewhere, and its policy allows nothing."""
    broker = MemoryBroker()
    announce(broker, engine())
    async with asking(broker) as client:
        page = await client.get("/docs")
        document = (await client.get("/openapi.json")).json()
    assert "text/html; charset=utf-8" == page.headers["content-type"]
    for path in document["paths"]:
        assert path in page.text
    for name in ("add", "store", "odd/name é"):
        assert f"<code>{name}</code>" in page.text
    assert not re.search(r"<script|<link|<img|<iframe|https?://|@import|url\(", page.text)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "no-referrer" == page.headers["referrer-policy"]


async def test_what_workers_say_is_escaped() -> None:
    """A handler's name or schema that holds markup is text on the page."""
    broker, made_up = MemoryBroker(), Engine("memory://")

    @made_up.job(name="<script>alert(1)</script>")
    async def evil() -> None: ...

    announce(broker, made_up)
    async with asking(broker) as client:
        page = (await client.get("/docs")).text
    assert ("<script" in page, "&lt;script&gt;alert(1)" in page) == (False, True)
