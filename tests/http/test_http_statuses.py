"""Every refusal of a submission, provoked over real connections: a served API, a real server, no stand-in."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.engine.broker.open import open_broker
from headrace.engine.observe.fleet import FleetRecord
from headrace.engine.observe.report import WorkerReport
from http_scene import card, problem
from served_api import served
from servers import Server, start_valkey

DEADLINE_S = 60
JOB = {"name": "add", "args": [1]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a worker's word for `add`."""
    with start_valkey(tmp_path_factory.mktemp("server")) as server:
        broker = open_broker(server.url)
        record = FleetRecord(
            worker="w", host="h", pid=1, started_at_ms=0, version="0", queues=("sums",), handlers={"add": card()},
            report=WorkerReport(),
        )  # fmt: skip
        broker.fleet_put("w", record.to_bytes(), 3600.0)
        broker.close()
        yield server


@pytest.fixture(scope="module")
def client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of an API with small bounds."""
    settings = {"max_queue_length": 3, "max_payload": "2KiB", "http": {"body_max": "4KiB", "batch_max": "64KiB"}}
    with (
        served(server.url, tmp_path_factory.mktemp("api"), **settings) as (url, _),
        httpx.Client(base_url=url, timeout=DEADLINE_S) as client,
    ):
        yield client


def test_an_unknown_handler_is_a_404(client: httpx.Client) -> None:
    """A handler that no worker has is a 404 that lists those there are."""
    status, detail = problem(client.post("/v1/jobs", json={"name": "ad"}))
    assert (404, True) == (status, "they have: add" in detail)


def test_a_duplicate_is_a_409(client: httpx.Client) -> None:
    """A second job of a unique key is a 409 that names the first; by index in a batch."""
    job = {**JOB, "unique": "k", "queue": "unique"}
    first = client.post("/v1/jobs", json=job)
    status, detail = problem(client.post("/v1/jobs", json=job))
    assert (202, 409, True) == (first.status_code, status, first.json()["id"] in detail)
    assert first.json()["id"] in client.post("/v1/jobs/batch", json=[job]).json()["rejected"][0]["error"]


def test_what_is_too_large_is_a_413(client: httpx.Client) -> None:
    """A job above max_payload, a body above http.body_max and a batch above http.batch_max are each a 413."""
    kind = {"content-type": "application/json"}
    job = {**JOB, "kwargs": {"note": "x" * 3000}}
    assert 413 == problem(client.post("/v1/jobs", json=job))[0]
    assert 413 == problem(client.post("/v1/jobs", content=b" " * 5000, headers=kind))[0]
    assert 413 == problem(client.post("/v1/jobs", content=(b" " * 1000 for _ in range(5)), headers=kind))[0]
    assert 413 == problem(client.post("/v1/jobs/batch", content=b" " * 70_000, headers=kind))[0]
    pieces = (b" " * 10_000 for _ in range(7))
    assert 413 == problem(client.post("/v1/jobs/batch", content=pieces, headers=kind))[0]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/batch"])
def test_another_media_type_is_a_415(client: httpx.Client, path: str) -> None:
    """A body of another type, or of none, is a 415 that says which are taken."""
    for headers in ({"content-type": "text/xml"}, {}):
        status, detail = problem(client.post(path, content=b"{}", headers=headers))
        assert (415, True) == (status, "application/json" in detail)


def test_a_wrong_argument_is_a_422(client: httpx.Client) -> None:
    """A wrong argument, an unknown field and a wrong parameter are refused by their names."""
    for job, named in (({**JOB, "args": ["x"]}, "'a'"), ({**JOB, "quee": "x"}, "quee"), ({"args": []}, "name")):
        status, detail = problem(client.post("/v1/jobs", json=job))
        assert (422, True) == (status, named in detail)
    status, detail = problem(client.post("/v1/jobs/batch?wait_s=61", json=[]))
    assert (400, True) == (status, "wait_s" in detail)


def test_a_full_queue_is_a_429(client: httpx.Client) -> None:
    """A full queue is a 429 with Retry-After, for one job as for a batch of which none found room."""
    for _ in range(3):
        assert 202 == client.post("/v1/jobs", json={**JOB, "queue": "full"}).status_code
    job = {**JOB, "queue": "full"}
    for response in (client.post("/v1/jobs", json=job), client.post("/v1/jobs/batch?wait_s=0", json=[job])):
        assert 429 == problem(response)[0]
        assert int(response.headers["retry-after"]) >= 1


def test_a_broker_that_is_away_is_a_503(tmp_path: Path) -> None:
    """While the server is away a submission and a batch are 503 with Retry-After; once it is back they are taken."""
    with (
        start_valkey(tmp_path) as own,
        served(own.url, tmp_path) as (url, _),
        httpx.Client(base_url=url, timeout=DEADLINE_S) as client,
    ):
        assert 202 == client.post("/v1/jobs", json=JOB).status_code
        own.stop()
        for response in (client.post("/v1/jobs", json=JOB), client.post("/v1/jobs/batch", json=[JOB])):
            assert 503 == problem(response)[0]
            assert int(response.headers["retry-after"]) >= 1
        own.restart()
        assert 202 == client.post("/v1/jobs", json=JOB).status_code
