"""POST /v1/jobs/batch: many jobs in one request, as lines or as an array."""

import anyio
import pytest

from headrace.config.settings import HttpSettings, Settings
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.broker.memory_access import Fault
from headrace.engine.broker.port import Registration
from headrace.engine.http import batch, report
from headrace.engine.http.routes import jobs as jobs_route
from headrace.jobs import codec
from http_scene import Pieces, asking, asking_gateway, post_pieces, problem, publish

pytestmark = pytest.mark.anyio
BATCH = "/v1/jobs/batch"
LINES = {"content-type": "application/x-ndjson"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_lines_are_taken_however_they_arrive(size: int) -> None:
    """Good lines are submitted in order, bad ones reported by their index; blank lines count for nothing."""
    broker = MemoryBroker()
    content = b'{"name":"a"}\n\n{"nam":"b"}\r\n  \n{"name":"c","queue":"other"}\n{\n{"name":"d","args":[1]}'
    async with asking(broker) as client:
        response = await post_pieces(client, BATCH, Pieces(content, size), LINES["content-type"])
        assert 202 == response.status_code
        report = response.json()
        assert 3 == report["accepted"]
        assert ["default", "other", "default"] == [job_id.partition(":")[0] for job_id in report["ids"]]
        assert [1, 3] == [rejected["index"] for rejected in report["rejected"]]
        assert "`nam`" in report["rejected"][0]["error"]
        names = [(await client.get(f"/v1/jobs/{job_id}")).json()["name"] for job_id in report["ids"]]
        assert ["a", "c", "d"] == names


async def test_many_lines_go_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long request is submitted in batches of 500 while it arrives."""
    broker = MemoryBroker()
    sizes: list[int] = []
    publish_really = broker.publish

    def count(queue, jobs, token, bound):
        sizes.append(len(jobs))
        return publish_really(queue, jobs, token, bound)

    monkeypatch.setattr(broker, "publish", count)
    async with asking(broker) as client:
        response = await post_pieces(client, BATCH, Pieces(b'{"name":"a"}\n' * 1100, 999), LINES["content-type"])
    report = response.json()
    assert (1100, []) == (report["accepted"], report["rejected"])
    assert 1100 == len(set(report["ids"]))
    assert [500, 500, 100] == sizes


async def test_small_jobs_of_many_queues_are_sent_before_they_take_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is full by what its jobs take in memory, which is more than their envelopes."""
    monkeypatch.setattr(batch, "PENDING_MAX_BYTES", 10 * batch.PENDING_JOB_BYTES)
    sizes: list[int] = []
    content = b"".join(b'{"name":"a","queue":"q%d"}\n' % number for number in range(45))
    async with asking_gateway(MemoryBroker(), Settings()) as (client, gateway):
        submit_really = gateway.submit_part

        def count(jobs):
            sizes.append(len(jobs))
            return submit_really(jobs)

        monkeypatch.setattr(gateway, "submit_part", count)
        answer = (await client.post(BATCH, content=content, headers=LINES)).json()
    assert (45, []) == (answer["accepted"], answer["rejected"])
    assert [10, 10, 10, 10, 5] == sizes


async def test_an_array_is_taken() -> None:
    """A JSON array is taken item by item; under curl's type, its bracket tells it from lines."""
    async with asking(MemoryBroker()) as client:
        content = b' [{"name":"a"}, 3, {"name":"b","args":{}}]'
        for headers in ({"content-type": "application/json"}, FORM):
            report = (await client.post("/v1/jobs/batch", content=content, headers=headers)).json()
            assert (1, [1, 2]) == (report["accepted"], [rejected["index"] for rejected in report["rejected"]])
        report = (await client.post("/v1/jobs/batch", content=b'{"name":"a"}\n{"name":"b"}', headers=FORM)).json()
        assert 2 == report["accepted"]


async def test_an_empty_batch_is_accepted() -> None:
    """No jobs at all is no error: a program that had nothing to send need not look first."""
    async with asking(MemoryBroker()) as client:
        for content, kind in ((b"", "application/x-ndjson"), (b"[]", "application/json")):
            response = await client.post("/v1/jobs/batch", content=content, headers={"content-type": kind})
            assert (202, 0) == (response.status_code, response.json()["accepted"])


@pytest.mark.parametrize("content", [b"", b'{"name":"a"}', b"[", b'[{"name":"a"}', b"[" * 50_000])
async def test_what_is_no_array_is_a_400(content: bytes) -> None:
    """Under application/json, anything but an array is a 400, and nothing of it is submitted."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        response = await post_pieces(client, BATCH, Pieces(content, 20_000), "application/json")
        assert 400 == problem(response)[0]
    assert [] == broker.queue_names()


async def test_arguments_are_checked_job_by_job() -> None:
    """Unknown handlers and wrong arguments reject their job only."""
    broker = MemoryBroker()
    publish(broker)
    content = b'{"name":"add","args":[1]}\n{"name":"ad"}\n{"name":"add","args":["x"]}'
    async with asking(broker) as client:
        report = (await client.post("/v1/jobs/batch", content=content, headers=LINES)).json()
    assert 1 == report["accepted"]
    assert "ad" in report["rejected"][0]["error"]
    assert "'a'" in report["rejected"][1]["error"]


async def test_a_line_may_be_too_long() -> None:
    """A line above max_payload is rejected without being held, wherever it is cut, and those after it are taken."""
    settings = Settings(max_payload_bytes=2000)
    long = b'{"name":"a","args":["' + b"x" * 9000 + b'"]}\n'
    content = b'{"name":"a"}\n' + long + b'{"name":"b"}\n' + long[:-1]
    for size in (100, 2500, 100_000):
        async with asking(MemoryBroker(), settings) as client:
            report = (await post_pieces(client, BATCH, Pieces(content, size), LINES["content-type"])).json()
        assert 2 == report["accepted"]
        assert [1, 3] == [rejected["index"] for rejected in report["rejected"]]
        assert "2,000" in report["rejected"][0]["error"]


async def test_a_body_above_the_bound_is_cut_short_and_accounted_for() -> None:
    """Past http.batch_max the request is a 413 that says what had been submitted by then; announced, nothing is."""
    settings = Settings(http=HttpSettings(batch_max_bytes=5000))
    broker = MemoryBroker()
    content = b'{"name":"a"}\n' * 1000
    async with asking(broker, settings) as client:
        response = await client.post("/v1/jobs/batch", content=content, headers=LINES)
        assert 413 == problem(response)[0]
        assert "batch" not in response.json()
        assert [] == broker.queue_names()
        response = await post_pieces(client, BATCH, Pieces(content, 500), LINES["content-type"])
        assert 413 == problem(response)[0]
        assert 5000 // 13 == response.json()["batch"]["accepted"]
        assert 5000 // 13 == broker.queues(["default"])[0].queued


async def test_a_queue_takes_what_it_has_room_for() -> None:
    """A queue that fills up rejects the rest by index; one that is full already is a 429."""
    settings = Settings(max_queue_length=7)
    broker = MemoryBroker()
    async with asking(broker, settings) as client:
        content, at_once = b'{"name":"a"}\n' * 10, f"{BATCH}?wait_s=0"
        report = (await client.post(at_once, content=content, headers=LINES)).json()
        assert (7, [7, 8, 9]) == (report["accepted"], [rejected["index"] for rejected in report["rejected"]])
        assert 7 == broker.queues(["default"])[0].queued
        response = await client.post(at_once, content=b'{"name":"a"}\n', headers=LINES)
        assert 429 == problem(response)[0]
        assert "1" == response.headers["retry-after"]


async def test_a_broker_that_goes_away_loses_no_ids() -> None:
    """When the broker goes away in the middle, what was accepted is reported; when at the start, it is a 503."""
    broker = MemoryBroker()
    async with asking(broker) as client:
        content = b'{"name":"a"}\n' * 600 + b'{"name":"a","queue":"other"}\n'
        publish_really, calls = broker.publish, []

        def fail_second(queue, jobs, token, bound):
            calls.append(queue)
            if len(calls) == 2:
                broker.faults.append(Fault("publish", "before"))
            return publish_really(queue, jobs, token, bound)

        broker.publish = fail_second  # type: ignore[method-assign]
        response = await client.post("/v1/jobs/batch", content=content, headers=LINES)
        assert (202, 500, 101) == (
            response.status_code, response.json()["accepted"], len(response.json()["rejected"])
        )  # fmt: skip
        assert 2 == len(calls)
    broker.faults.append(Fault("fleet", "before"))
    async with asking(broker) as client:
        assert 503 == problem(await client.post("/v1/jobs/batch", content=b'{"name":"a"}', headers=LINES))[0]


async def test_rejections_are_listed_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs are taken however many are rejected; those past the bound are counted, and no message is long."""
    monkeypatch.setattr(report, "REJECTED_MAX_COUNT", 3)
    async with asking(MemoryBroker()) as client:
        content = b"x\n" * 5 + b'{"name":"a"}\n' + b'{"name":"' + b"n" * 2000 + b'"}\n'
        answer = (await client.post(BATCH, content=content, headers=LINES)).json()
        assert (1, [0, 1, 2], 3) == (
            answer["accepted"], [rejected["index"] for rejected in answer["rejected"]], answer["unlisted"]
        )  # fmt: skip
        content = b'{"name":"' + b"n" * 2000 + b'"}\n'
        answer = (await client.post(BATCH, content=content, headers=LINES)).json()
        assert len(answer["rejected"][0]["error"]) <= report.ERROR_MAX_CHARS + 3


async def test_ids_are_those_of_the_jobs_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of a long batch, in runs and in several queues, delayed or not, are the jobs' own, in their order."""
    monkeypatch.setattr(report, "_RUNS_MAX_BYTES", 100)  # so that they go to the disk
    broker, jobs = MemoryBroker(), []
    for number in range(1_500):
        job = {"name": f"n{number}", "queue": f"q{number % 3}"}
        jobs.append(job | {"delay_s": 60} if number % 7 == 0 else job)
    async with asking(broker) as client:
        answer = (await client.post(BATCH, json=jobs)).json()
    views = broker.lookup(answer["ids"])
    assert 1_500 == answer["accepted"] == len(set(answer["ids"]))
    names = [codec.unpack_envelope(view.body).name for view in views if view is not None]
    assert [job["name"] for job in jobs] == names


async def test_a_long_answer_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is too long to be held is sent piece by piece, and is one JSON document."""
    monkeypatch.setattr(jobs_route, "STREAM_FROM_BYTES", 100)
    async with asking(MemoryBroker()) as client:
        response = await client.post(BATCH, content=b'{"name":"a"}\n' * 5_000, headers=LINES)
        assert "content-length" not in response.headers
        assert 5_000 == len(set(response.json()["ids"]))
        response = await post_pieces(client, BATCH, Pieces(b"[" + b'{"name":"a"},' * 600, 1000), "application/json")
        assert 400 == problem(response)[0]
        assert 600 == response.json()["batch"]["accepted"]


async def test_a_full_queue_is_waited_for() -> None:
    """A batch that is larger than its queue is taken whole while there is room again, in order."""
    broker, taken = MemoryBroker(), []
    content = b"".join(b'{"name":"n%d"}\n' % number for number in range(50))
    async with asking(broker, Settings(max_queue_length=7)) as client, anyio.create_task_group() as group:

        async def work() -> None:
            broker.register(Registration("w", ("default",), 60.0))
            while len(taken) < 50:
                leases = broker.fetch({"default": 10}, 0.0)
                taken.extend(codec.unpack_envelope(lease.body).name for lease in leases)
                await anyio.sleep(0.01)

        group.start_soon(work)
        answer = (await client.post(BATCH, content=content, headers=LINES)).json()
    assert (50, []) == (answer["accepted"], answer["rejected"])
    assert [f"n{number}" for number in range(50)] == taken


async def test_nobody_waits_for_room_when_the_server_stops() -> None:
    """A batch that waits for room is answered at once when the server is about to stop, with what became of each."""
    async with asking_gateway(MemoryBroker(), Settings(max_queue_length=7)) as (client, gateway):
        answers = []

        async def ask() -> None:
            answers.append((await client.post(BATCH, content=b'{"name":"a"}\n' * 9, headers=LINES)).json())

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                gateway.end_waits()
    assert [7] == [answer["accepted"] for answer in answers]
    assert [7, 8] == [rejected["index"] for rejected in answers[0]["rejected"]]
