"""What the API promises of unique keys, idempotent requests and full queues."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from headrace import Engine, Unique
from headrace.config.settings import Settings
from headrace.engine.broker.control import OpenBroker
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.open import open_broker
from headrace.engine.loops.introducing import Introduction
from headrace.engine.observe.report import WorkerReport
from http_scene import asking, problem
from servers import start_valkey

pytestmark = pytest.mark.anyio
JOB = {"name": "add", "args": [1, 2]}


@contextlib.contextmanager
def broker_at(folder: Path | None) -> Iterator[OpenBroker]:
    """Yield a broker at a server that keeps its data there; in memory for None."""
    if folder is None:
        yield MemoryBroker()
        return
    with start_valkey(folder) as server, contextlib.closing(open_broker(server.url)) as broker:
        yield broker


async def test_a_unique_key_is_refused_twice() -> None:
    """A second job of a key is a 409 that names the first."""
    async with asking(MemoryBroker()) as client:
        first = await client.post("/v1/jobs", json={**JOB, "unique": "k"})
        assert 202 == first.status_code
        status, detail = problem(await client.post("/v1/jobs", json={**JOB, "unique": "k"}))
        assert 409 == status
        assert first.json()["id"] in detail
        assert 422 == problem(await client.post("/v1/jobs", json={**JOB, "unique": ""}))[0]


async def test_an_idempotency_key_replays_the_answer() -> None:
    """The same Idempotency-Key answers 202 with the first job's id and present status, and adds nothing."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        headers = {"idempotency-key": "4b7d: any text"}
        answers = [await client.post("/v1/jobs", json={**JOB, "delay_s": 60}, headers=headers) for _ in range(3)]
        assert [202] * 3 == [answer.status_code for answer in answers]
        assert 1 == len({answer.json()["id"] for answer in answers})
        assert ["delayed"] * 3 == [answer.json()["status"] for answer in answers]
        other = await client.post("/v1/jobs", json=JOB, headers={"idempotency-key": "another"})
        assert answers[0].json()["id"] != other.json()["id"]
        view = broker.queues(["default"])[0]
        assert (1, 1) == (view.delayed, view.queued)


@pytest.mark.parametrize("on_server", [False, True])
async def test_a_held_unique_key_is_told_with_an_idempotency_key_too(on_server: bool, tmp_path: Path) -> None:
    """409 that names the holder, and nothing is added; sent again once the holder ended, the same request adds its job.

    The key of a request that was taken answers 202 with its job, though that job itself holds the unique key.
    """
    unique = {**JOB, "unique": "k"}
    with broker_at(tmp_path if on_server else None) as broker:
        async with asking(broker) as client:
            holder = await client.post("/v1/jobs", json=unique, headers={"idempotency-key": "first"})
            refused = [await client.post("/v1/jobs", json=unique, headers={"idempotency-key": "2"}) for _ in range(2)]
            for response in refused:
                status, detail = problem(response)
                assert (409, True) == (status, f"job {holder.json()['id']} has the unique key 'k'" in detail)
                assert ("DuplicateJob", False) == (response.json()["error"], "http:" in detail)
            assert 1 == broker.queues(["default"])[0].queued
            again = await client.post("/v1/jobs", json=unique, headers={"idempotency-key": "first"})
            assert (202, holder.json()) == (again.status_code, again.json())
            contested = await client.post("/v1/jobs", json={**JOB, "unique": "x"}, headers={"idempotency-key": "first"})
            assert (202, holder.json()) == (contested.status_code, contested.json())
            assert (await client.post(f"/v1/jobs/{holder.json()['id']}/cancel")).json()["cancelled"]
            taken = await client.post("/v1/jobs", json=unique, headers={"idempotency-key": "2"})
            assert (202, False) == (taken.status_code, taken.json()["id"] == holder.json()["id"])
            after = await client.post("/v1/jobs", json=unique, headers={"idempotency-key": "first"})
            assert (202, holder.json()["id"], "cancelled") == (after.status_code, *after.json().values())


async def test_requests_of_one_moment_are_told_apart(tmp_path: Path) -> None:
    """Of many with one unique key and keys of their own that travel together, one is taken and the rest are 409."""
    statuses: list[int] = []
    with broker_at(tmp_path) as broker:
        async with asking(broker) as client:

            async def post(number: int) -> None:
                job = {**JOB, "unique": "k"}
                answer = await client.post("/v1/jobs", json=job, headers={"idempotency-key": str(number)})
                statuses.append(answer.status_code)

            async with anyio.create_task_group() as group:
                for number in range(30):
                    group.start_soon(post, number)
        assert [202, *[409] * 29] == sorted(statuses)
        assert 1 == broker.queues(["default"])[0].queued


async def test_an_idempotency_key_has_bounds() -> None:
    """A key that is too long is a 400."""
    async with asking(MemoryBroker()) as client:
        status, detail = problem(await client.post("/v1/jobs", json=JOB, headers={"idempotency-key": "x" * 256}))
        assert (400, True) == (status, "Idempotency-Key" in detail)


async def test_duplicates_in_a_batch_are_rejected_by_index() -> None:
    """Of a batch's jobs with unique keys each stands for itself."""
    async with asking(MemoryBroker()) as client:
        jobs = [{**JOB, "unique": "a"}, JOB, {**JOB, "unique": "a"}, {**JOB, "unique": "b"}]
        report = (await client.post("/v1/jobs/batch", json=jobs)).json()
        assert (3, 3) == (report["accepted"], len(report["ids"]))
        assert [2] == [rejection["index"] for rejection in report["rejected"]]
        assert "unique key 'a'" in report["rejected"][0]["error"]


async def test_a_batch_takes_what_fits_by_bytes() -> None:
    """At max_queue_bytes a batch is accepted in part, and the rest is reported."""
    async with asking(MemoryBroker(), Settings(max_queue_bytes=1_000)) as client:
        jobs = [{"name": "add", "args": ["x" * 80]} for _ in range(30)]
        report = (await client.post("/v1/jobs/batch?wait_s=0", json=jobs)).json()
        assert 5 <= report["accepted"] <= 11
        assert 30 == report["accepted"] + len(report["rejected"])
        refused = await client.post("/v1/jobs", json={"name": "add", "args": ["x" * 900]})
        assert (429, True) == (refused.status_code, int(refused.headers["retry-after"]) >= 1)


@pytest.mark.parametrize(("unique", "twice"), [(True, 409), (Unique("one", on_duplicate="return"), 202)])
async def test_a_handlers_own_key_holds_where_only_its_worker_knows_it(unique: Unique | bool, twice: int) -> None:
    """What a handler says of unique keys reaches the API through its worker's record; a job's own word is stronger."""
    broker, engine = MemoryBroker(), Engine("memory://")

    @engine.job(unique=unique)
    async def refresh(city: str) -> None: ...

    introduction = Introduction(("default",), engine.registry, "1.0")
    broker.fleet_put(
        introduction.worker, introduction.to_bytes(WorkerReport(), stuck=[], fetch_age_s=0.0, state="working"), 60.0
    )
    job = {"name": "refresh", "args": ["Oslo"]}
    async with asking(broker) as client:
        answers = [await client.post("/v1/jobs", json=job) for _ in range(2)]
        assert [202, twice] == [answer.status_code for answer in answers]
        assert answers[0].json()["id"] in answers[1].text
        keyed = await client.post("/v1/jobs", json=job, headers={"idempotency-key": "mine"})
        assert (twice, True) == (keyed.status_code, answers[0].json()["id"] in keyed.text)
        other = await client.post("/v1/jobs", json={**job, "unique": "other"})
        assert (202, False) == (other.status_code, other.json()["id"] == answers[0].json()["id"])
        report = (await client.post("/v1/jobs/batch", json=[job, {**job, "unique": "third"}])).json()
    rejected = [0] if twice == 409 else []
    assert (rejected, 2 - len(rejected)) == ([each["index"] for each in report["rejected"]], report["accepted"])
