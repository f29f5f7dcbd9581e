"""Errors of the engine as HTTP has them: fields of a job, not options of Python's; remedies that a request can take."""

import pytest

from headrace.engine.broker.memory import MemoryBroker
from http_scene import asking, problem

pytestmark = pytest.mark.anyio

HELPS = "wait for it, or submit with another unique key"
KNOWN = "a job has name, args, kwargs, queue, delay_s, at, timeout_s, expires_s, attempts, unique"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"delay_s": 1, "at": "2100-01-01T00:00:00Z"}, "give delay_s or at, not both"),
        ({"expires_s": 0}, "expires_s=0.0: "),
        ({"quee": "q"}, f"unknown field `quee`; did you mean queue? {KNOWN}"),
        ({"zzz": 1}, f"unknown field `zzz`; {KNOWN}"),
    ],
)
async def test_fields_are_called_as_a_request_has_them(fields: dict[str, object], said: str) -> None:
    """In the problem of one job as in what a batch rejects."""
    job = {"name": "add", **fields}
    async with asking(MemoryBroker()) as client:
        status, detail = problem(await client.post("/v1/jobs", json=job))
        assert (422, True) == (status, said in detail)
        (rejected,) = (await client.post("/v1/jobs/batch", json=[job])).json()["rejected"]
        assert said in rejected["error"]


async def test_a_duplicate_says_what_helps_over_http() -> None:
    """Another unique key; nothing of Python's options, and not the header, which does not help against it."""
    job = {"name": "add", "unique": "k"}
    async with asking(MemoryBroker()) as client:
        first = (await client.post("/v1/jobs", json=job)).json()["id"]
        status, detail = problem(await client.post("/v1/jobs", json=job))
        assert (409, f"job {first} has the unique key 'k' already; {HELPS}") == (status, detail)
        (rejected,) = (await client.post("/v1/jobs/batch", json=[job])).json()["rejected"]
        assert detail == rejected["error"]
        assert detail == problem(await client.post("/v1/jobs", json=job, headers={"idempotency-key": "mine"}))[1]


@pytest.mark.parametrize(("path", "body"), [("/v1/jobs", b'{"name":"add"}'), ("/v1/jobs/batch", b'[{"name":"add"}]')])
async def test_a_form_of_a_page_is_told_that_its_origin_is_why(path: str, body: bytes) -> None:
    """Without an Origin the same body is read as JSON."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    async with asking(MemoryBroker()) as client:
        assert 202 == (await client.post(path, content=body, headers=headers)).status_code
        headers["origin"] = "http://localhost:3000"
        status, detail = problem(await client.post(path, content=body, headers=headers))
        assert (415, True) == (status, "there is an Origin header" in detail and "without the Origin" in detail)
