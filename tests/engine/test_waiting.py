"""What is promised of waiting for results: whoever waits is told, over lost connections and forks, and asks seldom."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest
import redis

from headrace import Engine, JobNotFound, WaitTimeout
from headrace.engine import results
from headrace.engine.broker.watch import watch_of
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("waiting")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def url(request: pytest.FixtureRequest) -> str:
    """A broker of each kind."""
    if request.param == "memory":
        return "memory://"
    found: Server = request.getfixturevalue("server")
    return found.url


def make_engine(url: str) -> Engine:
    engine = Engine(url, namespace=f"waiting-{os.getpid()}-{os.urandom(4).hex()}", drain_timeout=5)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    @engine.job
    async def slow(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "done"

    return engine


@pytest.fixture
def only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the safety look away: a waiter that is not told waits for too long."""
    monkeypatch.setattr(results, "SAFETY_S", 1000.0)


async def test_waiters_of_loops_and_threads_are_told(url: str, only_told: None) -> None:
    """Jobs that end after the first look are told to whoever waits, awaiting or blocking, with one reader for all."""
    engine, before = make_engine(url), set(threading.enumerate())
    async with engine:
        handles = [await engine.submit("slow", (0.2,)) for _ in range(10)]
        blocking = await anyio.to_thread.run_sync(lambda: [engine.sync.submit("slow", (0.2,)) for _ in range(4)])
        got: list[str] = []

        async def wait(number: int) -> None:
            got.append(await handles[number].result(timeout=WAIT_S))

        def wait_in_threads() -> None:
            with ThreadPoolExecutor(4) as threads:
                got.extend(threads.map(lambda handle: handle.result(timeout=WAIT_S), blocking))

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(wait, number)
            group.start_soon(anyio.to_thread.run_sync, wait_in_threads)
            async with engine.running():
                while len(got) < 14:
                    await anyio.sleep(0.01)
                assert 1 == sum(each.name == "headrace-watch" for each in {*threading.enumerate()} - before)
    assert ["done"] * 14 == got


async def test_two_waiters_of_one_job_are_told(url: str, only_told: None) -> None:
    """Everybody who waits for a job gets its result; one who gives up takes nothing from the other."""
    engine = make_engine(url)
    async with engine.running():
        handle = await engine.submit("slow", (0.3,))
        got: list[str] = []

        async def wait() -> None:
            got.append(await handle.result(timeout=WAIT_S))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(wait)
            with pytest.raises(WaitTimeout):
                await handle.result(timeout=0.05)
    assert ["done", "done"] == got


async def test_a_cancelled_job_is_told(url: str, only_told: None) -> None:
    """Whoever waits for a job that is cancelled where it waits hears of it at once."""
    engine = make_engine(url)
    async with engine:
        handle = await engine.submit("add", (1, 2))

        async def cancel_later() -> None:
            await anyio.sleep(0.1)
            assert await handle.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel_later)
            with pytest.raises(Exception, match="cancelled"):
                await handle.result(timeout=WAIT_S)


async def test_a_job_that_never_was_is_not_waited_for(url: str, only_told: None) -> None:
    """An unknown id, and what is no id at all, raise JobNotFound at the first look."""
    engine = make_engine(url)
    async with engine:
        for job_id in ("default:1-1", "nonsense"):
            with pytest.raises(JobNotFound):
                await engine.handle(job_id).result(timeout=WAIT_S)


async def test_what_no_event_tells_is_found_by_looking(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter that is told nothing finds the result all the same, by its safety look."""
    monkeypatch.setattr(results, "SAFETY_S", 0.1)
    engine = make_engine(url)
    async with engine.running():
        monkeypatch.setattr(type(watch_of(engine._results.broker)), "_deliver", lambda *_: None)  # type: ignore[union-attr]
        handle = await engine.submit("slow", (0.2,))
        assert "done" == await handle.result(timeout=WAIT_S)


@pytest.mark.redis_core
async def test_a_lost_connection_loses_no_notice(server: Server, only_told: None) -> None:
    """What ends while the watch's connection is cut is told after it is back, from where it stood."""
    engine = make_engine(server.url)
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        async with engine.running():
            for _ in range(10):
                handle = await engine.submit("slow", (0.05,))

                async def cut() -> None:
                    for _ in range(5):
                        for each in client.client_list():
                            if each["name"] == "headrace:events":
                                client.client_kill_filter(_id=each["id"])
                        await anyio.sleep(0.02)

                async with anyio.create_task_group() as group:
                    group.start_soon(cut)
                    assert "done" == await handle.result(timeout=WAIT_S)


@pytest.mark.redis_core
async def test_nobody_asks_while_waiting(server: Server) -> None:
    """Between its first look and the end of its job, a waiter sends nothing to the server."""
    engine = make_engine(server.url)
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        async with engine:
            handle = await engine.submit("add", (1, 2))
            with pytest.raises(WaitTimeout):
                await handle.result(timeout=0.05)  # the watch is set up
            before = client.info("stats")["total_commands_processed"]
            with pytest.raises(WaitTimeout):
                await handle.result(timeout=1.0)
            assert 16 > client.info("stats")["total_commands_processed"] - before


@pytest.mark.redis_core
def test_a_forked_child_waits_for_itself(server: Server) -> None:
    """A child of a process that waited before waits over a connection and with a thread of its own."""
    engine = make_engine(server.url)

    async def work() -> None:
        async with engine.running():
            await anyio.to_thread.run_sync(parent_and_child)

    def parent_and_child() -> None:
        assert 3 == engine.sync.submit("add", (1, 2)).result(timeout=WAIT_S)
        child = os.fork()
        if child == 0:
            os._exit(0 if engine.sync.submit("add", (3, 4)).result(timeout=WAIT_S) == 7 else 1)
        assert 0 == os.waitpid(child, 0)[1]
        assert 11 == engine.sync.submit("add", (5, 6)).result(timeout=WAIT_S)

    anyio.run(work)
