"""What the API promises of unique keys, idempotent requests and full queues."""

import pytest

from headrace import Engine, Unique
from headrace.config.settings import Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.loops.introducing import Introduction
from headrace.engine.observe.report import WorkerReport
from http_scene import asking, problem

pytestmark = pytest.mark.anyio
JOB = {"name": "add", "args": [1, 2]}


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
        other = await client.post("/v1/jobs", json={**job, "unique": "other"})
        assert (202, False) == (other.status_code, other.json()["id"] == answers[0].json()["id"])
        report = (await client.post("/v1/jobs/batch", json=[job, {**job, "unique": "third"}])).json()
    rejected = [0] if twice == 409 else []
    assert (rejected, 2 - len(rejected)) == ([each["index"] for each in report["rejected"]], report["accepted"])
