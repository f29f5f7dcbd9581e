"""What waiting costs the server: commands are counted, and they do not grow with waiters nor with time."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis

from headrace import Engine, JobCancelled, WaitTimeout
from headrace.engine.broker import watch
from headrace.engine.broker.looks import Wait
from servers import Server, start_valkey

pytestmark = [pytest.mark.anyio, pytest.mark.redis_core]
WAITERS = 500
#: Generous: only a hang is to be caught.
DEADLINE_S = 60.0
#: What is counted depends on how many reads there are, not on how long each of them waits at the server.
READ_S = 1.5


@pytest.fixture(autouse=True)
def _short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each read of the events wait for a shorter time."""
    monkeypatch.setattr(watch, "READ_S", READ_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("cost")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """One that asks the server how often it was asked."""
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        yield client


@pytest.fixture
def engine(server: Server) -> Engine:
    """An engine without workers: its jobs never end."""
    engine = Engine(server.unix_url, namespace=f"cost-{os.getpid()}-{os.urandom(4).hex()}")

    engine.job(name="add")(_add)
    return engine


async def _add(a: int, b: int) -> int:
    return a + b


async def submit_all(engine: Engine) -> list[str]:
    """Submit a job for each waiter and return their ids."""
    return [handle.id for handle in await engine.job(name="again")(_add).submit_many([(1, 2)] * WAITERS)]


def commands(client: redis.Redis) -> Counter[str]:
    """Return how often each command was called, those of scripts among them; not those that ask for this."""
    stats = client.info("commandstats")
    return Counter({name: each["calls"] for name, each in stats.items() if name != "cmdstat_info"})


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> set[Wait]:
    """Those who wait and have had an answer to their first look."""
    answered: set[Wait] = set()
    answer = Wait.answer

    def note(wait: Wait, *args: Any, **kwargs: Any) -> None:
        answer(wait, *args, **kwargs)
        answered.add(wait)

    monkeypatch.setattr(Wait, "answer", note)
    return answered


async def wait_in_vain(engine: Engine, job_ids: list[str], wait_s: float) -> None:
    """Wait for all these jobs, each in a coroutine of its own."""

    async def wait(job_id: str) -> None:
        with pytest.raises(WaitTimeout):
            await engine.handle(job_id).result(timeout=wait_s)

    async with anyio.create_task_group() as group:
        for job_id in job_ids:
            group.start_soon(wait, job_id)


async def test_the_first_look_is_one_for_many(engine: Engine, client: redis.Redis) -> None:
    """Five hundred who begin to wait take a few scripts and nothing that brings the jobs themselves."""
    async with engine:
        ids = await submit_all(engine)
        before = commands(client)
        await wait_in_vain(engine, ids, 0.5)
        spent = commands(client) - before
    assert spent["cmdstat_evalsha"] + spent["cmdstat_eval"] <= 3 * WAITERS // 100
    assert spent["cmdstat_mget"] <= 10
    assert 0 == spent["cmdstat_xpending"]


async def test_many_who_wait_cost_what_one_costs(engine: Engine, client: redis.Redis, answered: set[Wait]) -> None:
    """Between the first look and the end a process reads its events and sees that they are still there: no more."""
    async with engine, anyio.create_task_group() as group:
        ids = await submit_all(engine)
        group.start_soon(wait_in_vain, engine, ids, DEADLINE_S)
        with anyio.fail_after(DEADLINE_S):
            while len(answered) < WAITERS:
                await anyio.sleep(0.01)
        before = commands(client)
        await anyio.sleep(2 * READ_S)
        spent = commands(client) - before
        group.cancel_scope.cancel()
    assert sum(spent.values()) <= 12, spent


@pytest.mark.parametrize("bulk", [True, False], ids=["together", "each"])
async def test_what_has_ended_is_read_without_watching(engine: Engine, client: redis.Redis, bulk: bool) -> None:
    """Who reads behind the workers asks for records, a hundred by a command, and for nothing else."""
    async with engine:
        handles = await engine.job(name="again")(_add).submit_many([(1, 2)] * WAITERS)
        async with engine.running():
            assert [3] * WAITERS == await engine.gather(handles, timeout=DEADLINE_S)
        before, got = commands(client), []

        async def wait(job_id: str) -> None:
            got.append(await engine.handle(job_id).result(timeout=DEADLINE_S))

        if bulk:
            got += await engine.gather(handles, timeout=DEADLINE_S)
        else:
            async with anyio.create_task_group() as group:
                for handle in handles:
                    group.start_soon(wait, handle.id)
        spent = commands(client) - before
    assert [3] * WAITERS == got
    assert (True, 0, 0) == (spent["cmdstat_hmget"] <= 12, spent["cmdstat_mget"], spent["cmdstat_evalsha"]), spent


def test_threads_that_wait_for_one_job_cost_what_one_costs(
    engine: Engine, client: redis.Redis, answered: set[Wait]
) -> None:
    """Fifty blocked threads look over one connection when they begin, and then not again."""
    handle = engine.sync.submit("add", (1, 2))
    before, clients = commands(client), len(client.client_list())

    def wait(_: int) -> None:
        with pytest.raises(JobCancelled):
            handle.result(timeout=DEADLINE_S)

    with ThreadPoolExecutor(50) as threads:
        waits = [threads.submit(wait, number) for number in range(50)]
        ends_s = time.monotonic() + DEADLINE_S
        while len(answered) < 50:
            assert time.monotonic() < ends_s
            time.sleep(0.01)
        begun = commands(client)
        assert (begun - before)["cmdstat_mget"] <= 50
        assert len(client.client_list()) <= clients + 2
        time.sleep(1.5 * READ_S)
        spent = commands(client) - begun
        assert handle.cancel()
        for each in waits:
            each.result()
    assert sum(spent.values()) <= 12, spent
    assert 0 == spent["cmdstat_mget"]


async def test_the_last_backstop_is_one_look_for_all(
    engine: Engine, client: redis.Redis, answered: set[Wait], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all look without a cause, they look together: one command for five hundred records."""
    async with engine, anyio.create_task_group() as group:
        ids = await submit_all(engine)
        group.start_soon(wait_in_vain, engine, ids, DEADLINE_S)
        with anyio.fail_after(DEADLINE_S):
            while len(answered) < WAITERS:
                await anyio.sleep(0.01)
        before = commands(client)
        monkeypatch.setattr(watch, "LOOK_S", 1000.0)
        engine._open()[1].broker.events.watch._look_at_s = 0.0  # type: ignore[union-attr]
        await anyio.sleep(1.5 * READ_S)
        spent = commands(client) - before
        group.cancel_scope.cancel()
    assert 1 == spent["cmdstat_mget"]
    assert WAITERS // 100 + 3 >= spent["cmdstat_evalsha"], spent  # the place in the stream is seen to with one, too
