"""The clients with the API itself: a real server, workers beside it, and jobs that run."""

import gc
import shutil
import ssl
import subprocess
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from headrace import (
    AsyncClient,
    BatchRejected,
    Client,
    DuplicateJob,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    JobNotFound,
    UnknownHandler,
)
from host_scene import hosted
from servers import start_valkey

DEADLINE_S = 60


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an API that is mounted beside workers."""
    folder = tmp_path_factory.mktemp("host")
    with start_valkey(folder) as server, hosted(server, folder, "starlette-uvicorn") as (_, address):
        yield f"{address}/headrace"


def test_jobs_go_and_results_come(url: str) -> None:
    """One, many, a failing one, a cancelled one, and what is wrong: as with the engine itself."""
    with Client(url) as client:
        handle = client.submit("add", args=(20, 22))
        assert 42 == handle.result(timeout=DEADLINE_S)
        assert ("succeeded", "add") == (handle.status(), client.job(handle.id).name)
        same = {client.submit("add", args=(1, 2), idempotency_key="one").id for _ in range(3)}
        assert 1 == len(same)
        handles = client.submit_many("add", ((number, 1) for number in range(3000)))
        assert [1, 3000] == [handles[at].result(timeout=DEADLINE_S) for at in (0, -1)]
        assert 3000 == len({each.id for each in handles})
        with pytest.raises(JobFailed, match="ValueError: no such row") as failed:
            client.submit("fail", attempts=1).result(timeout=DEADLINE_S)
        assert "in fail" in failed.value.traceback
        first = client.submit("add", args=(1, 2), unique="u", delay="1h", queue="single")
        for key in (None, "k"):
            with pytest.raises(DuplicateJob, match=first.id):
                client.submit("add", args=(1, 2), unique="u", queue="single", idempotency_key=key)
        own = {client.submit("add", (1, 2), unique="v", delay="1h", idempotency_key="v").id for _ in range(2)}
        assert (1, False) == (len(own), first.id in own)
        with pytest.raises(InvalidArguments, match="unique"):
            client.submit_many("add", [(1, 2)], unique="u")
        late = client.submit("add", args=(1, 2), delay="1h", queue="late")
        assert [late.id] == [item.id for item in client.jobs(queue="late", status="delayed").items]
        assert late.cancel()
        with pytest.raises(JobCancelled):
            late.result(timeout=DEADLINE_S)
        assert not late.cancel()
        with pytest.raises(InvalidArguments, match="'b'"):
            client.submit("add", args=(1, "x"))
        with pytest.raises(UnknownHandler, match="add"):
            client.submit("ad")
        with pytest.raises(JobNotFound):
            client.handle("nonsense").result(timeout=1)
        with pytest.raises(BatchRejected) as rejected:
            client.submit_many("add", [(1, 2), (1, "x"), (3, 4)])
        assert ([1], 2) == ([place for place, _ in rejected.value.rejected], len(rejected.value.ids))


def test_the_operators_verbs(url: str) -> None:
    """Queues, dead letters, workers and figures, over HTTP as in the command line."""
    with Client(url) as client:
        assert client.pause("side").paused
        client.submit("add", args=(1, 2), queue="side")
        assert {"side": 1} == {view.name: view.queued for view in client.queues() if view.name == "side"}
        assert 1 == client.purge("side")
        assert not client.resume("side").paused
        assert "add" in client.workers()[0].handlers
        assert "side" in client.stats().queues
        dead = client.submit("fail", attempts=1)
        with pytest.raises(JobFailed):
            dead.result(timeout=DEADLINE_S)
        assert dead.id in {item.id for item in client.dead(limit=1000).items}
        assert "no such row" in client.dead_letter(dead.id).error
        assert ["x"] == client.dead_edit(dead.id, args=[], kwargs={"row": "x"}).kwargs.get("row", "").split()
        assert (1, ["default:1-0"]) == (
            (found := client.dead_retry([dead.id, "default:1-0"])).retried,
            list(found.missing),
        )
        assert "x" == dead.result(timeout=DEADLINE_S)
        assert not client.retry(dead.id)
        other = client.submit("fail", attempts=1)
        with pytest.raises(JobFailed):
            other.result(timeout=DEADLINE_S)
        client.dead_drop(other.id)
        with pytest.raises(JobNotFound):
            client.dead_letter(other.id)


@pytest.mark.anyio
async def test_the_loops_client(url: str) -> None:
    """Many coroutines share one client: each gets its own result; a held unique key is told under any key of theirs."""
    with anyio.fail_after(DEADLINE_S):
        async with AsyncClient(url) as client, anyio.create_task_group() as group:
            found: dict[int, int] = {}

            async def one(number: int) -> None:
                handle = await client.submit("add", args=(number, 1))
                found[number] = await handle.result(timeout=30)

            for number in range(50):
                group.start_soon(one, number)
            handles = await client.submit_many("add", [(1, 2)] * 500)
            assert 3 == await handles[499].result()
            late = await client.submit("add", args=(1, 2), delay=3600)
            assert "delayed" == await late.status()
            assert await late.cancel()
            assert "default" in [view.name for view in await client.queues()]
            assert (await client.stats()).queues["default"] is not None
            page = await client.jobs(limit=1)
            assert len(page.items) <= 1
            holder = await client.submit("add", args=(1, 2), unique="w", delay="1h", queue="single")
            for key in (None, "w2"):
                with pytest.raises(DuplicateJob, match=holder.id):
                    await client.submit("add", args=(1, 2), unique="w", queue="single", idempotency_key=key)
            assert await holder.cancel()
    assert {number: number + 1 for number in range(50)} == found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not here")
    folder = tmp_path_factory.mktemp("certificate")
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_a_client_works_in_one_loop_after_another(url: str) -> None:
    """A client that was left open in a loop that has ended works in the next, asyncio's or trio's."""
    client = AsyncClient(url)

    async def ask() -> int:
        handle = await client.submit("add", args=(1, 2))
        value: int = await handle.result(timeout=DEADLINE_S)
        return value

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # what is left open in asyncio's loops says so
        assert [3] * 4 == [anyio.run(ask, backend=backend) for backend in ("asyncio", "asyncio", "trio", "asyncio")]
        assert 1 >= len([loop for loop in client._opened if hasattr(loop, "is_closed")])
        client._opened.clear()
        gc.collect()


def test_a_client_works_in_several_loops_at_a_time(url: str) -> None:
    """Each loop has connections of its own, and closing one loop's leaves the others' alone."""
    client = AsyncClient(url)
    turns = threading.Barrier(3, timeout=DEADLINE_S)
    values: list[int] = []

    async def ask() -> None:
        async with client:
            for _ in range(3):
                handle = await client.submit("add", args=(20, 22))
                await anyio.to_thread.run_sync(turns.wait)  # all three loops are under way
                values.append(await handle.result(timeout=DEADLINE_S))

    threads = [
        threading.Thread(target=anyio.run, args=(ask,), kwargs={"backend": backend})
        for backend in ("asyncio", "asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert [42] * 9 == values


@pytest.mark.anyio
async def test_http2_over_tls(tmp_path: Path, certificate: tuple[str, str]) -> None:
    """Over TLS both clients speak HTTP/2, check the certificate, and refuse one that they do not know."""
    cert, key = certificate
    more = ("--certfile", cert, "--keyfile", key)
    with start_valkey(tmp_path) as server, hosted(server, tmp_path, "starlette-hypercorn-trio", *more) as (_, address):
        url = f"{address}/headrace".replace("http:", "https:")
        trusting = ssl.create_default_context(cafile=cert)
        with anyio.fail_after(DEADLINE_S):
            async with AsyncClient(url, verify=trusting) as client:
                handle = await client.submit("add", args=(1, 2))
                assert 3 == await handle.result(timeout=30)
                assert "HTTP/2" == (await client.open().get("/v1/queues")).http_version
        with Client(url, verify=trusting) as blocking:
            assert 3 == await anyio.to_thread.run_sync(lambda: blocking.submit("add", args=(1, 2)).result(timeout=30))
        with Client(url, timeout=0.5) as stranger, pytest.raises(ConnectionError, match=r"verify=.*cafile"):
            stranger.queues()
