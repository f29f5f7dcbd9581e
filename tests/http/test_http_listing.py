"""GET /v1/jobs: which jobs are there, page by page."""

from pathlib import Path
from typing import get_args

import pytest

from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.open import open_broker
from headrace.engine.http import listing
from headrace.engine.http.routes.listing import Waiting
from headrace.jobs.states import ENDED, State
from http_scene import asking, problem
from servers import start_valkey

pytestmark = pytest.mark.anyio


async def test_pages_hold_every_job_once(tmp_path: Path) -> None:
    """Over a real server, pages of three hold every job of every queue once, chosen by queue, state and name."""
    with start_valkey(tmp_path) as server:
        broker = open_broker(server.url, namespace="headrace")
        async with asking(broker) as client:
            wanted: dict[str, list[str]] = {}
            for number in range(20):
                name, queue = ("add", "sub")[number % 2], ("a", "b")[number // 10]
                job = {"name": name, "queue": queue, "delay_s": 60 * (number % 3 == 0)}
                answer = (await client.post("/v1/jobs", json=job)).json()
                for choice in ("", f"name={name}", f"queue={queue}", f"status={answer['status']}"):
                    wanted.setdefault(choice, []).append(answer["id"])
            for choice, ids in wanted.items():
                found, cursor, first = [], "", True
                while cursor or first:
                    first = False
                    page = (await client.get(f"/v1/jobs?{choice}&limit=3&cursor={cursor}")).json()
                    assert len(page["items"]) <= 3
                    found += [item["id"] for item in page["items"]]
                    cursor = page["cursor"]
                    assert cursor == "" or cursor.replace("-", "").replace("_", "").isalnum()
                assert sorted(ids) == sorted(found), choice
        broker.close()


async def test_an_item_is_the_jobs_record() -> None:
    """An item of a page is what GET /v1/jobs/{id} answers."""
    async with asking(MemoryBroker()) as client:
        job_id = (await client.post("/v1/jobs", json={"name": "add", "delay_s": 60})).json()["id"]
        assert {"items": [(await client.get(f"/v1/jobs/{job_id}")).json()], "cursor": ""} == (
            await client.get("/v1/jobs")
        ).json()


async def test_sifting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request looks at a bounded number of jobs; the page says that there may be more."""
    monkeypatch.setattr(listing, "SIFT_MAX_COUNT", 10)
    async with asking(MemoryBroker()) as client:
        for _ in range(25):
            await client.post("/v1/jobs", json={"name": "add"})
        await client.post("/v1/jobs", json={"name": "sub"})
        page, turns_count = {"items": [], "cursor": ""}, 0
        while not page["items"]:
            page = (await client.get("/v1/jobs", params={"name": "sub", "limit": 5, "cursor": page["cursor"]})).json()
            turns_count += 1
        assert ("sub", 3) == (page["items"][0]["name"], turns_count)


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("limit=0", 400, "limit"),
        ("limit=1001", 400, "limit"),
        ("limit=x", 400, "limit"),
        ("status=succeeded", 400, "status"),
        ("status=nonsense", 400, "status"),
        ("cursor=nonsense", 422, "cursor"),
        ("cursor=%00%ff", 422, "cursor"),
        ("cursor=YXw", 422, None),
        ("queue=a%20b", 422, "name"),
    ],
)
async def test_bad_choices_are_problems(query: str, status: int, word: str | None) -> None:
    """A bad limit, state, cursor or queue is a problem that names it."""
    async with asking(MemoryBroker()) as client:
        response = await client.get(f"/v1/jobs?{query}")
        if word is None:  # a cursor that a page could have given: of a queue that has nothing more
            assert {"items": [], "cursor": ""} == response.json()
        else:
            found, detail = problem(response)
            assert status == found
            assert word in detail


async def test_the_states_are_those_that_have_not_ended() -> None:
    """What `status` takes are all states of jobs that have not ended."""
    assert {state.value for state in State if state not in ENDED} == set(get_args(Waiting))
