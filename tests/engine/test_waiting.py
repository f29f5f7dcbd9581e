"""What is promised of waiting for results: whoever waits is told, over lost connections and forks, and hardly asks."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest
import redis

from headrace import BrokerUnavailable, Engine, JobNotFound, ResultUnavailable, WaitTimeout
from headrace.engine.broker import watch
from headrace.engine.broker.control import OpenBroker
from headrace.engine.broker.watch import Watch
from headrace.jobs.codec import ResultRecord
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


def make_engine(url: str, namespace: str = "") -> Engine:
    engine = Engine(url, namespace=namespace or f"waiting-{os.urandom(6).hex()}", drain_timeout=5)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    @engine.job(result_ttl=0)
    async def unkept(seconds: float) -> None:
        await anyio.sleep(seconds)

    @engine.job
    async def slow(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "done"

    return engine


@pytest.fixture
def only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the causes to look away: a waiter that is not told by an event waits for too long."""
    monkeypatch.setattr(Watch, "_have_all_look", lambda *_: None)


def broker_of(engine: Engine) -> OpenBroker:
    """Return the broker that an open engine's waiters use."""
    return engine._open()[1].broker


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


async def test_a_record_that_is_not_kept_is_not_waited_for(url: str) -> None:
    """Whoever waits for a job whose end leaves no record hears that at its end."""
    engine = make_engine(url)
    async with engine.running():
        handle = await engine.submit("unkept", (0.2,))
        with pytest.raises(ResultUnavailable):
            await handle.result(timeout=WAIT_S)


async def test_a_wait_of_no_time_looks_once(url: str) -> None:
    """With a timeout of 0 a result that is there is returned, and one that is not is waited for no longer."""
    engine = make_engine(url)
    async with engine.running():
        ended, other = await engine.submit("add", (1, 2)), await engine.submit("slow", (WAIT_S,))
        blocking = engine.sync
        assert 3 == await ended.result(timeout=WAIT_S)
        assert 3 == await ended.result(timeout=0)
        with pytest.raises(WaitTimeout, match="had not ended after 0 s"):
            await other.result(timeout=0)

        def in_a_thread() -> None:
            handle = blocking.submit("slow", (WAIT_S,))
            with pytest.raises(WaitTimeout, match="had not ended after 0 s"):
                handle.result(timeout=0)
            assert handle.cancel()

        await anyio.to_thread.run_sync(in_a_thread)
        assert await other.cancel()


async def test_what_no_event_tells_is_found_by_looking(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A waiter that is told nothing finds the result all the same, by the last backstop."""
    monkeypatch.setattr(watch, "LOOK_S", 0.1)
    monkeypatch.setattr(Watch, "_deliver", lambda *_: time.sleep(0.01))
    engine = make_engine(url)
    async with engine.running():
        handle = await engine.submit("slow", (0.2,))
        assert "done" == await handle.result(timeout=WAIT_S)


async def test_a_watch_that_cannot_read_has_waiters_look(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the watch's own connection is refused, waiters get their results by looking."""
    monkeypatch.setattr(watch, "READ_S", 0.5)  # they look as often as a read ends
    engine = make_engine(url)

    def refuse(*_: object) -> None:
        raise BrokerUnavailable("the server has as many clients as it takes")

    async with engine.running():
        monkeypatch.setattr(type(broker_of(engine).events), "wait", refuse)
        handle = await engine.submit("slow", (0.2,))
        assert "done" == await handle.result(timeout=WAIT_S)


async def test_whoever_waits_when_the_engine_closes_is_told(url: str) -> None:
    """A wait that outlives its engine's block ends with an error instead of never."""
    engine = make_engine(url)

    async def wait() -> None:
        with anyio.fail_after(WAIT_S), pytest.raises(BrokerUnavailable, match="closed by this program"):
            await handle.result()

    async with anyio.create_task_group() as group:
        await engine.__aenter__()
        handle = await engine.submit("add", (1, 2))
        group.start_soon(wait)
        await anyio.sleep(0.2)
        await engine.__aexit__(None, None, None)


@pytest.mark.redis_core
async def test_a_record_that_cannot_be_read_fails_one_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that another version wrote is told to whoever waits for it, and the others of its batch get theirs."""
    namespace = f"spoilt-{os.urandom(6).hex()}"
    engine = make_engine(server.url, namespace)
    got: dict[int, object] = {}
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        async with engine:
            handles = [await engine.submit("add", (number, 1)) for number in range(3)]
            entry = handles[1].id.partition(":")[2]
            key, field = f"{namespace}:{{default}}:results:{entry[:-2]}", entry[-2:]
            broker, records = broker_of(engine), broker_of(engine).records

            def spoilt(job_ids: Sequence[str]) -> Sequence[ResultRecord | None]:
                if client.hexists(key, field):
                    client.hset(key, field, b"\x91\x63")
                return records(job_ids)

            monkeypatch.setattr(broker, "records", spoilt)

            async def wait(number: int) -> None:
                try:
                    got[number] = await handles[number].result(timeout=WAIT_S)
                except ResultUnavailable as error:
                    got[number] = str(error)

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(wait, number)
                await anyio.sleep(0.2)
                async with engine.running():
                    with anyio.fail_after(WAIT_S):
                        while len(got) < 3:
                            await anyio.sleep(0.01)
    assert (1, 3) == (got[0], got[2])
    assert "cannot be read here: it is of version 99" in str(got[1])


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
