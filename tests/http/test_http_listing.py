"""GET /v1/jobs: which jobs are there, page by page."""

from pathlib import Path
from typing import Any, get_args

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from headrace.engine.broker import memory_views
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.open import open_broker
from headrace.engine.broker.port import Bound, Submission
from headrace.engine.http import listing
from headrace.engine.http.routes.listing import Waiting
from headrace.jobs import codec
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
    monkeypatch.setattr(listing, "SIFT_PAGE_COUNT", 5)
    monkeypatch.setattr(listing, "TURNS_MAX_COUNT", 2)
    async with asking(MemoryBroker()) as client:
        for _ in range(25):
            await client.post("/v1/jobs", json={"name": "add"})
        await client.post("/v1/jobs", json={"name": "sub"})
        page, turns_count = {"items": [], "cursor": ""}, 0
        while not page["items"]:
            page = (await client.get("/v1/jobs", params={"name": "sub", "limit": 5, "cursor": page["cursor"]})).json()
            turns_count += 1
        assert ("sub", 3) == (page["items"][0]["name"], turns_count)


class Counting(MemoryBroker):
    """A broker that counts the looks at its jobs."""

    looks_count = 0

    def jobs(self, *args: Any) -> Any:
        """Count, and look."""
        self.looks_count += 1
        return super().jobs(*args)


async def test_a_small_page_of_a_name_takes_few_looks() -> None:
    """However few are asked for, a request looks ten times at most; what lies behind the cut comes with the next."""
    broker = Counting()
    names = ["rare" if number % 500 == 499 else "add" for number in range(3_000)]
    packed = [Submission(codec.pack_foreign(name, [], {})) for name in names]
    ids = broker.publish("default", packed, "", Bound())
    found, cursor, first = [], "", True
    async with asking(broker) as client:
        while cursor or first:
            first, broker.looks_count = False, 0
            page = (await client.get("/v1/jobs", params={"name": "rare", "limit": 1, "cursor": cursor})).json()
            assert broker.looks_count <= 10
            assert len(page["items"]) <= 1
            found += [item["id"] for item in page["items"]]
            cursor = page["cursor"]
    assert ids[499::500] == found


async def test_a_search_gives_way_between_its_looks() -> None:
    """With a broker in the loop's own process, others get their turn after each look of a long search."""
    turns: list[str] = []

    class Noting(MemoryBroker):
        """Notes each look."""

        def jobs(self, *args: Any) -> Any:
            """Note it, and look."""
            turns.append("look")
            return super().jobs(*args)

    async def other() -> None:
        while True:
            turns.append("other")
            await anyio.lowlevel.checkpoint()

    broker = Noting()
    broker.publish("default", [Submission(codec.pack_foreign("add", [], {}))] * 5_000, "", Bound())
    async with asking(broker) as client, anyio.create_task_group() as group:
        group.start_soon(other)
        page = (await client.get("/v1/jobs?name=rare")).json()
        group.cancel_scope.cancel()
    assert {"items": [], "cursor": ""} == page
    looks = [place for place, what in enumerate(turns) if what == "look"]
    assert 5 == len(looks)
    # Trio shuffles those whose turn it is, so two looks may stand side by side; three may not.
    assert all("other" in turns[before:after] for before, after in zip(looks, looks[2:], strict=False))


async def test_a_job_is_placed_once_however_many_pages_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the memory broker each id is taken apart at the first look, for each page looks at every job of the queue."""
    taken_apart: list[str] = []
    real = memory_views._age_key
    monkeypatch.setattr(memory_views, "_age_key", lambda job_id: (taken_apart.append(job_id), real(job_id))[1])
    broker = MemoryBroker()
    ids = broker.publish("default", [Submission(codec.pack_foreign("add", [], {}))] * 300, "", Bound())
    found, cursor = [], ""
    while len(found) < len(ids):
        page, cursor = broker.jobs("default", None, cursor, 10)
        found += [view.id for view in page]
    assert (ids, "") == (found, cursor)
    assert len(taken_apart) <= len(ids) + 30  # and the cursors


@pytest.mark.parametrize("choice", ["queue=big", "name=add", "status=queued", "status=delayed", "name=add&limit=3"])
async def test_pages_of_large_jobs_come_short(tmp_path: Path, choice: str) -> None:
    """Of jobs of 1 MiB a page takes a few, of a real server; the cursors lead to all of them, each once."""
    with start_valkey(tmp_path) as server:
        broker = open_broker(server.url)
        async with asking(broker) as client:
            large = codec.pack_foreign("add", ["x" * 1_000_000], {})
            small = codec.pack_foreign("add", [], {})
            bodies = [small] * 20 + [large] * 12
            soon = [Submission(body) for body in bodies]
            late = [Submission(body, delay_ms=600_000) for body in bodies]
            ids = []
            for batch in (soon, late):
                for submission in batch:
                    ids += broker.publish("big", [submission], "", Bound())
            ids = {"status=queued": ids[:32], "status=delayed": ids[32:]}.get(choice, ids)
            found, cursor, first = [], "", True
            while cursor or first:
                first = False
                page = (await client.get(f"/v1/jobs?limit=1000&{choice}&cursor={cursor}")).json()
                assert len(page["items"]) < len(ids) or choice == "name=add"  # that one takes several looks
                found += [item["id"] for item in page["items"]]
                cursor = page["cursor"]
            assert sorted(ids) == sorted(found)
            state = State(choice.removeprefix("status=")) if choice.startswith("status=") else None
            views, _ = await anyio.to_thread.run_sync(broker.jobs, "big", state, "", 1000)
            assert 4 * 2**20 <= sum(len(view.body) for view in views) < 4 * 2**20 + 2 * len(large)
        broker.close()


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("limit=0", 400, "limit"),
        ("limit=1001", 400, "limit"),
        ("limit=x", 400, "limit"),
        ("status=succeeded", 400, "status: Invalid enum value 'succeeded'; it is one of delayed, "),
        ("status=nonsense", 400, "it is one of delayed"),
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
