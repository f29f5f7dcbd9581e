"""Parameters of the query that a route does not take: refused everywhere under /v1, and nowhere else."""

from typing import Any

import pytest
from litestar import Litestar

from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.http.app import ROUTES
from headrace.engine.http.parameters import refusal, taken_by
from http_scene import asking, problem

pytestmark = pytest.mark.anyio
VERSIONED = [
    (method, path.replace("{job_id:str}", "sums:1-0").replace("{queue:str}", "sums"))
    for route in ROUTES
    for path in route.paths
    for method in sorted(route.http_methods)
    if path.startswith("/v1/")
]


@pytest.mark.parametrize(("method", "path"), VERSIONED)
async def test_no_route_takes_a_parameter_that_it_does_not_know(method: str, path: str) -> None:
    """It is a 400 that names it, with or without a value, before anything is done."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        for query in ("wiat=10", "wiat", "limit=1&wiat="):
            status, detail = problem(await client.request(method, f"{path}?{query}"))
            assert (400, True) == (status, "no parameter" in detail and "'wiat'" in detail)
    assert [] == broker.queue_names()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/jobs?stats=failed", "no parameter 'stats' (did you mean 'status'?); it takes cursor, limit, name, queue"),
        ("/v1/jobs/sums:1-0/result?wait=10", "no parameter 'wait' (did you mean 'wait_s'?); it takes wait_s"),
        ("/v1/stats?window=10s", "no parameter 'window'; it takes none"),
        ("/v1/dead?reason=failed&que=a", "no parameter 'reason', 'que' (did you mean 'queue'?); it takes cursor"),
    ],
)
async def test_the_nearest_parameter_is_named(path: str, said: str) -> None:
    """The detail names what is near, and what the route takes."""
    async with asking(MemoryBroker()) as client:
        assert said in problem(await client.get(path))[1]


async def test_a_submission_with_a_parameter_is_refused_by_every_spelling() -> None:
    """POST /v1/jobs takes none, on its fast way as on the other, and adds no job."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        for path in ("/v1/jobs?delay_s=10", "/v1//jobs?delay_s=10", "/v1/jobs/?delay_s=10"):
            assert 400 == problem(await client.post(path, json={"name": "add"}))[0]
        assert [] == broker.queue_names()
        assert 202 == (await client.post("/v1/jobs?", json={"name": "add"})).status_code


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/docs", "/openapi.json"])
async def test_what_others_ask_may_carry_parameters(path: str) -> None:
    """Scrapers and probes send parameters of theirs."""
    async with asking(MemoryBroker()) as client:
        assert 200 == (await client.get(f"{path}?target=a&probe")).status_code


async def test_the_names_are_those_of_the_document() -> None:
    """What is taken, and what the OpenAPI document lists, is the same; every such route documents a 400."""
    found: dict[str, set[str]] = {}
    for handler, names in taken_by(Litestar(ROUTES, openapi_config=None).routes).items():
        if operation_id := getattr(handler, "operation_id", None):  # what answers OPTIONS has none
            found[str(operation_id)] = set(names)
    async with asking(MemoryBroker()) as client:
        document: Any = (await client.get("/openapi.json")).json()
    listed = {
        operation["operationId"]: {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if path.startswith("/v1/")
    }
    assert listed == found
    assert all(
        "400" in operation["responses"]
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if path.startswith("/v1/")
    )


def test_what_is_said_is_bounded() -> None:
    """However many names there are, and however long, three are shown, and only their beginning."""
    detail = refusal(["x" * 10_000, *(f"y{number}" for number in range(1_000))], frozenset({"limit"}))
    assert " and 998 more; it takes limit" in detail
    assert len(detail) < 400


async def test_names_that_are_no_text_are_refused_too() -> None:
    """Bytes that are no UTF-8, escaped or not, are shown in some way."""
    async with asking(MemoryBroker()) as client:
        for query in ("%ff%fe=1", "%ed%a0%80=1"):
            assert 400 == problem(await client.get(f"/v1/queues?{query}"))[0]
