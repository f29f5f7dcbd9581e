"""The API inside other applications, on the servers that people run them on, over real connections."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from host_scene import DEADLINE_S, SERVERS, hosted
from servers import Server, start_valkey


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all hosts, one after the other."""
    with start_valkey(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.mark.parametrize("name", SERVERS)
def test_it_works_where_it_is_mounted(broker: Server, tmp_path: Path, name: str) -> None:
    """Jobs go in and results come out below the mount path; the host goes on answering, and ends when it is told to."""
    at = "" if name.startswith("lone") else "/headrace"
    with hosted(broker, tmp_path, name) as (process, url), httpx.Client(base_url=url, timeout=DEADLINE_S) as http:
        if at:
            own = http.get("/own")
            assert name.startswith("lazy") == (own.status_code == 404)
        works = not name.startswith(("lone", "lazy"))
        submitted = http.post(f"{at}/v1/jobs", json={"name": "add", "args": [20, 22]})
        assert 202 == submitted.status_code, submitted.text
        job_id = submitted.json()["id"]
        if works:
            result = http.get(f"{at}/v1/jobs/{job_id}/result", params={"wait_s": 20})
            assert (200, 42) == (result.status_code, result.json()["value"])
        else:
            assert "queued" == http.get(f"{at}/v1/jobs/{job_id}").json()["status"]
            http.post(f"{at}/v1/jobs/{job_id}/cancel")
        lines = b'{"name": "add", "args": [1, 2], "queue": "other"}\n' * 1000
        batch = http.post(f"{at}/v1/jobs/batch", content=lines, headers={"content-type": "application/x-ndjson"})
        assert 1000 == batch.json()["accepted"]
        wrong = http.post(f"{at}/v1/jobs", json={"name": "add", "args": ["x", 1]})
        assert (422, "InvalidArguments") == (wrong.status_code, wrong.json()["error"])
        assert 404 == http.get(f"{at}/v1/jobs/nonsense").status_code
        assert 404 == http.get(f"{at}/nothing").status_code
        assert 405 == http.delete(f"{at}/v1/jobs").status_code
        document = http.get(f"{at}/openapi.json").json()
        assert [{"url": at or "/"}] == document["servers"]
        assert "/v1/jobs" in document["paths"]
        for headers in ({"host": "example.org"}, {"origin": "http://example.org"}, {"x-forwarded-for": "127.0.0.1"}):
            assert 403 == http.get(f"{at}/v1/queues", headers=headers).status_code
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) in {0, -signal.SIGTERM}


def test_the_host_goes_on_while_requests_wait(broker: Server, tmp_path: Path) -> None:
    """Many requests that wait for results hold up neither the host's own answers nor other requests."""
    with (
        hosted(broker, tmp_path, "starlette-uvicorn") as (_, url),
        httpx.Client(base_url=url, timeout=DEADLINE_S) as http,
    ):
        job = {"name": "add", "args": [1, 2], "delay_s": 3600}
        job_id = http.post("/headrace/v1/jobs", json=job).json()["id"]
        path = f"{url}/headrace/v1/jobs/{job_id}/result?wait_s=50"
        answers: list[int] = []
        waiting = [
            threading.Thread(target=lambda: answers.append(httpx.get(path, timeout=60).status_code)) for _ in range(20)
        ]
        for thread in waiting:
            thread.start()
        for _ in range(20):
            assert "own" == http.get("/own").text
            assert 202 == http.post("/headrace/v1/jobs", json={"name": "add", "args": [1, 2]}).status_code
        assert [] == answers
        assert http.post(f"/headrace/v1/jobs/{job_id}/cancel").json()["cancelled"]
        for thread in waiting:
            thread.join(DEADLINE_S)
        assert [200] * 20 == answers
