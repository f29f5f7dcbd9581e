"""What Idempotency-Key promises of a batch: each of its jobs is added once, however often and from where it is sent."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from headrace.config.settings import Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.memory_access import Fault
from headrace.engine.broker.open import open_broker
from http_scene import asking, problem
from servers import start_valkey

pytestmark = pytest.mark.anyio
BATCH = "/v1/jobs/batch"
KEYED = {"content-type": "application/x-ndjson", "idempotency-key": "load 7"}


def lines(count: int) -> bytes:
    """Return a batch with a bad job in its middle."""
    good = [b'{"name":"n%d"}' % number for number in range(count)]
    return b"\n".join([*good[: count // 2], b"bad", *good[count // 2 :]])


async def test_a_batch_that_is_sent_again_adds_nothing(tmp_path: Path) -> None:
    """On a real server: the answer is the same in every word, and the queue holds each job once."""
    with start_valkey(tmp_path) as server, contextlib.closing(open_broker(server.url)) as broker:
        async with asking(broker) as client:
            answers = [(await client.post(BATCH, content=lines(1_200), headers=KEYED)).json() for _ in range(2)]
            assert answers[0] == answers[1]
            assert (1_200, [600]) == (answers[0]["accepted"], [each["index"] for each in answers[0]["rejected"]])
            assert 1_200 == len(set(answers[0]["ids"])) == broker.queues(["default"])[0].queued
            other = {**KEYED, "idempotency-key": "load 8"}
            assert 1_200 == (await client.post(BATCH, content=lines(1_200), headers=other)).json()["accepted"]
            assert 2_400 == broker.queues(["default"])[0].queued


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_batch_that_stopped_half_way_is_completed(when: Any) -> None:
    """Where the broker went away in the middle, with the jobs added or not, the same batch adds those that lack."""
    broker = MemoryBroker()
    calls: list[int] = []
    publish_really = broker.publish

    def fail_second(queue: str, jobs: Any, token: str, bound: Any) -> list[str]:
        calls.append(len(jobs))
        if len(calls) == 2:
            broker.faults.append(Fault("publish", when))
        return publish_really(queue, jobs, token, bound)

    broker.publish = fail_second  # type: ignore[method-assign]
    async with asking(broker) as client:
        first = (await client.post(BATCH, content=lines(1_200), headers=KEYED)).json()
        assert (500, 701) == (first["accepted"], len(first["rejected"]))
        again = (await client.post(BATCH, content=lines(1_200), headers=KEYED)).json()
        assert (1_200, [600]) == (again["accepted"], [each["index"] for each in again["rejected"]])
        assert first["ids"] == again["ids"][:500]
        assert 1_200 == len(set(again["ids"])) == broker.queues(["default"])[0].queued


async def test_jobs_that_are_there_need_no_room() -> None:
    """Sent again to a queue that is full, those that it holds are accepted, and just the others are rejected."""
    broker = MemoryBroker()
    async with asking(broker, Settings(max_queue_length=10)) as client:
        first = (await client.post(f"{BATCH}?wait_s=0", content=lines(6), headers=KEYED)).json()
        assert 6 == first["accepted"]
        again = (await client.post(f"{BATCH}?wait_s=0", content=lines(20), headers=KEYED)).json()
        assert 10 == again["accepted"] == broker.queues(["default"])[0].queued
        assert first["ids"][:3] == again["ids"][:3]


async def test_a_batch_tells_held_unique_keys_from_its_own_jobs(tmp_path: Path) -> None:
    """Lines whose unique key another job has are rejected as duplicates; sent again, the others have their own ids."""
    jobs = [{"name": "a"} | ({"unique": key} if key else {}) for key in ("held", "mine", "", "mine")]
    with start_valkey(tmp_path) as server, contextlib.closing(open_broker(server.url)) as broker:
        async with asking(broker) as client:
            holder = (await client.post("/v1/jobs", json=jobs[0])).json()["id"]
            reports = [(await client.post(BATCH, json=jobs, headers={"idempotency-key": "k"})).json() for _ in range(2)]
        assert reports[0] == reports[1]
        report = reports[0]
        assert (2, 3) == (report["accepted"], broker.queues(["default"])[0].queued)
        told = [(each["index"], each["error_name"]) for each in report["rejected"]]
        assert [(0, "DuplicateJob"), (3, "DuplicateJob")] == told
        for rejection, job_id in zip(report["rejected"], (holder, report["ids"][0]), strict=True):
            assert f"job {job_id} has the unique key" in rejection["error"]


async def test_a_key_of_a_batch_is_none_of_a_job() -> None:
    """The same key for a batch and for a single job means two things; and a key has the same bounds in both."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        report = (await client.post(BATCH, json=[{"name": "a"}], headers={"idempotency-key": "k"})).json()
        single = (await client.post("/v1/jobs", json={"name": "a"}, headers={"idempotency-key": "k"})).json()
        assert single["id"] not in report["ids"]
        long = {"idempotency-key": "k" * 256}
        assert 400 == problem(await client.post(BATCH, json=[{"name": "a"}], headers=long))[0]
