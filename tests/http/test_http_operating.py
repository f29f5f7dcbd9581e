"""What the API does for operators: queues listed, paused, resumed and purged; jobs cancelled; progress shown."""

import msgspec
import pytest

from headrace import Engine
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.port import Registration
from headrace.engine.broker.views import Progress
from headrace.engine.loops.introducing import Introduction
from headrace.engine.observe.report import WorkerReport
from headrace.jobs.disposition import DeadLetter, Disposition, Kind
from http_scene import asking, problem

pytestmark = pytest.mark.anyio


async def test_a_queue_is_paused_and_resumed() -> None:
    """The answer and the list show the pause; jobs are accepted all the while."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        paused = await client.post("/v1/queues/mail/pause")
        assert (200, "mail", True) == (paused.status_code, paused.json()["name"], paused.json()["paused"])
        accepted = await client.post("/v1/jobs", json={"name": "add", "queue": "mail"})
        assert 202 == accepted.status_code
        listed = (await client.get("/v1/queues")).json()
        assert [("mail", True, 1)] == [(queue["name"], queue["paused"], queue["queued"]) for queue in listed]
        resumed = await client.post("/v1/queues/mail/resume")
        assert (200, False) == (resumed.status_code, resumed.json()["paused"])


async def test_a_queue_that_nobody_used_is_paused_and_told() -> None:
    """It may be paused before its first job, or be misspelt: the answer says which queues are like it."""
    broker = MemoryBroker()
    engine = Engine("memory://")

    @engine.job(queue="mail")
    async def send(address: str) -> None:
        """Nothing is sent."""

    async with asking(broker, registry=engine.registry) as client:
        answer = (await client.post("/v1/queues/mial/pause")).json()
        assert (True, False, ["mail"]) == (answer["paused"], answer["known"], answer["similar"])
        answer = (await client.post("/v1/queues/mial/resume")).json()
        assert (False, False, ["mail"]) == (answer["paused"], answer["known"], answer["similar"])
        answer = (await client.post("/v1/queues/mail/pause")).json()  # its handler names it
        assert (True, True, []) == (answer["paused"], answer["known"], answer["similar"])


async def test_a_queue_is_purged() -> None:
    """What waits ends as cancelled, and the answer says how much that was."""
    async with asking(MemoryBroker()) as client:
        ids = [(await client.post("/v1/jobs", json={"name": "add", "delay_s": n})).json()["id"] for n in (0, 60)]
        purged = await client.post("/v1/queues/default/purge")
        assert (200, {"queue": "default", "purged": 2}) == (purged.status_code, purged.json())
        for job_id in ids:
            ended = await client.get(f"/v1/jobs/{job_id}/result")
            assert (200, "cancelled") == (ended.status_code, ended.json()["status"])


async def test_what_is_no_queue_is_refused() -> None:
    """A name that no queue can have is a 422."""
    async with asking(MemoryBroker()) as client:
        for verb in ("pause", "resume", "purge"):
            status, detail = problem(await client.post(f"/v1/queues/a%20b/{verb}"))
            assert (422, True) == (status, "cannot be a queue's name" in detail)


async def test_a_job_is_cancelled() -> None:
    """A waiting job ends; one that has ended says false; one that never was is a 404."""
    async with asking(MemoryBroker()) as client:
        job_id = (await client.post("/v1/jobs", json={"name": "add"})).json()["id"]
        for expected in (True, False):
            answer = await client.post(f"/v1/jobs/{job_id}/cancel")
            assert (200, {"id": job_id, "cancelled": expected}) == (answer.status_code, answer.json())
        assert "cancelled" == (await client.get(f"/v1/jobs/{job_id}")).json()["status"]
        status, detail = problem(await client.post("/v1/jobs/default:9999999999999-0/cancel"))
        assert (404, True) == (status, "there is no job" in detail)


async def test_a_dead_job_is_retried() -> None:
    """It is queued again; one that is not dead is left alone and its state told; one that never was is a 404."""
    broker = MemoryBroker()
    broker.register(Registration("w", ("default",), 30.0))
    async with asking(broker) as client:
        job_id = (await client.post("/v1/jobs", json={"name": "add"})).json()["id"]
        (lease,) = broker.fetch({"default": 1}, 0)
        letter = DeadLetter(
            id=job_id, queue="default", name="add", reason="failed", error="no", traceback="", attempts=1,
            deliveries=1, died_at_ms=1, body=lease.body,
        )  # fmt: skip
        broker.settle([Disposition(lease, Kind.DEAD, letter=msgspec.msgpack.encode(letter))])
        for expected in (True, False):
            answer = await client.post(f"/v1/jobs/{job_id}/retry")
            assert (200, {"id": job_id, "retried": expected, "status": "queued"}) == (
                answer.status_code, answer.json(),
            )  # fmt: skip
        status, detail = problem(await client.post("/v1/jobs/default:9999999999999-0/retry"))
        assert (404, True) == (status, "there is no job" in detail)


async def test_workers_are_listed() -> None:
    """Each worker that is there is shown with its state, its pools and its handlers' schemas."""
    broker = MemoryBroker()
    engine = Engine("memory://")

    @engine.job(queue="mail", aliases=("post",))
    async def send(address: str) -> None:
        """Nothing is sent."""

    introduction = Introduction(("mail",), engine.registry, "1.0")
    async with asking(broker) as client:
        assert [] == (await client.get("/v1/workers")).json()
        broker.fleet_put(
            introduction.worker,
            introduction.to_bytes(WorkerReport(), stuck=["send"], fetch_age_s=1.0, state="working"),
            60.0,
        )
        (shown,) = (await client.get("/v1/workers")).json()
        assert (introduction.worker, "working", ["mail"], ["send"]) == (
            shown["id"], shown["state"], shown["queues"], shown["stuck"],
        )  # fmt: skip
        assert ["address"] == shown["handlers"]["send"]["schema"]["required"]
        document = (await client.get("/openapi.json")).json()
    assert {"/v1/workers", "/v1/jobs/{job_id}/retry"} <= document["paths"].keys()
    assert {"WorkerView", "HandlerView", "Retried"} <= document["components"]["schemas"].keys()


async def test_progress_is_part_of_a_jobs_record() -> None:
    """A record shows [done, total] as the handler said last, and null before it said anything."""
    broker = MemoryBroker()
    broker.register(Registration("w", ("default",), 30.0))
    async with asking(broker) as client:
        job_id = (await client.post("/v1/jobs", json={"name": "add"})).json()["id"]
        assert (await client.get(f"/v1/jobs/{job_id}")).json()["progress"] is None
        broker.fetch({"default": 1}, 0)
        broker.progress_put({job_id: Progress(3, 10)})
        record = (await client.get(f"/v1/jobs/{job_id}")).json()
        assert ("running", [3, 10]) == (record["status"], record["progress"])


async def test_operators_routes_are_described() -> None:
    """The OpenAPI document has them, with schemas for what they answer."""
    async with asking(MemoryBroker()) as client:
        document = (await client.get("/openapi.json")).json()
    assert {
        "/v1/queues", "/v1/queues/{queue}/pause", "/v1/queues/{queue}/resume", "/v1/queues/{queue}/purge",
        "/v1/jobs/{job_id}/cancel",
    } <= document["paths"].keys()  # fmt: skip
    assert {"QueueView", "Purged", "Cancelled", "Progress"} & document["components"]["schemas"].keys()
