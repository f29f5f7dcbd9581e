"""What is promised of waiting while the server is away, and when it comes back without the jobs."""

import os
import pathlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis

from headrace import BrokerUnavailable, Engine, JobHandle, JobNotFound, WaitTimeout
from headrace.engine.broker import watch
from headrace.engine.broker.watch import AWAY_LONGEST_S
from headrace.engine.results import wait_blocking
from headrace.jobs.errors import Outlook
from servers import Server, start_valkey

pytestmark = [pytest.mark.anyio, pytest.mark.redis_core]
#: Generous, and below the period of the last backstop, which is not what is tested here.
WAIT_S = 40.0


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    """A server of the test's own that keeps what it acknowledged."""
    with start_valkey(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


def make_engine(server: Server) -> Engine:
    engine = Engine(server.url, namespace=f"outage-{os.urandom(4).hex()}", drain_timeout=5)

    @engine.job
    async def slow(seconds: float) -> str:
        await anyio.sleep(seconds)
        return "done"

    return engine


Wait = Callable[[Engine, JobHandle[Any], float | None], Awaitable[Any]]


async def awaiting(_: Engine, handle: JobHandle[Any], timeout_s: float | None) -> Any:
    return await handle.result(timeout=timeout_s)


async def blocking(engine: Engine, handle: JobHandle[Any], timeout_s: float | None) -> Any:
    broker = engine._open()[1].broker
    record = await anyio.to_thread.run_sync(wait_blocking, broker, handle.id, timeout_s)
    return "done" if record.status == "succeeded" else record


async def gathering(engine: Engine, handle: JobHandle[Any], timeout_s: float | None) -> Any:
    return (await engine.gather([handle], timeout=timeout_s))[0]


each_way = pytest.mark.parametrize("wait", [awaiting, blocking, gathering])


@each_way
async def test_an_outage_is_waited_out(server: Server, wait: Wait) -> None:
    """Whoever waits when the server crashes gets the result after it is back, without a deadline too."""
    engine = make_engine(server)
    async with engine.running():
        handle = await engine.submit("slow", (1.0,))
        got: list[str] = []

        async def wait_on(timeout_s: float | None) -> None:
            got.append(await wait(engine, handle, timeout_s))

        async with anyio.create_task_group() as group:
            group.start_soon(wait_on, WAIT_S)
            group.start_soon(wait_on, None)
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(server.kill)
            group.start_soon(wait_on, WAIT_S)  # this one finds it away
            await anyio.sleep(2.0)
            await anyio.to_thread.run_sync(server.restart)
            group.cancel_scope.deadline = anyio.current_time() + WAIT_S
    assert ["done"] * 3 == got


@each_way
async def test_a_deadline_in_an_outage_says_that_nobody_could_be_asked(server: Server, wait: Wait) -> None:
    """A wait that ends while the server is away says so, has the outage as its cause, and asking once still fails."""
    engine = make_engine(server)
    async with engine:
        handle = await engine.submit("slow", (1.0,))
        server.kill()
        with pytest.raises(WaitTimeout, match="the server could not be asked") as refusal:
            await wait(engine, handle, 1.0)
        assert isinstance(refusal.value.__cause__, BrokerUnavailable)
        with pytest.raises(WaitTimeout, match="the server could not be asked"):
            await wait(engine, handle, 0)
        with pytest.raises(WaitTimeout, match="the server could not be asked"):
            await wait(engine, engine.handle("an-id-of-mine"), 0.2)
        with pytest.raises(BrokerUnavailable):
            await handle.status()
        server.restart()
        await anyio.sleep(AWAY_LONGEST_S + 0.5)  # nobody waits, and the last who tried has paused
        with pytest.raises(WaitTimeout, match="had not ended after 0 s"):
            await wait(engine, handle, 0)


@each_way
async def test_an_outage_that_lasts_is_raised(server: Server, wait: Wait) -> None:
    """A server that wants another password is no outage to wait out: whoever waits or begins to is told at once."""
    engine = make_engine(server)
    async with engine:
        handle = await engine.submit("slow", (1.0,))

        async def lock_out() -> None:
            await anyio.sleep(0.3)
            with redis.Redis(unix_socket_path=server.unix_socket) as client:
                client.config_set("requirepass", "secret")
                client.client_kill_filter(_type="normal", skipme=True)

        async with anyio.create_task_group() as group:
            group.start_soon(lock_out)
            with pytest.raises(BrokerUnavailable, match="wants a password") as refusal:
                await wait(engine, handle, WAIT_S)
        assert Outlook.LASTS is refusal.value.outlook
        with pytest.raises(BrokerUnavailable, match="wants a password"):
            await wait(engine, handle, None)


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps nothing over a restart."""
    with start_valkey(tmp_path_factory.mktemp("forgetful")) as server:
        yield server


def flush(server: Server) -> None:
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        client.flushall()


def replace(server: Server) -> None:
    server.kill()
    server.restart()


@pytest.mark.parametrize("loss", [flush, replace])
@pytest.mark.parametrize("events", ["no event before", "events before", "a worker that goes on", "a worker that comes"])
async def test_who_waits_for_a_job_that_was_lost_is_told(
    forgetful: Server, monkeypatch: pytest.MonkeyPatch, loss: Callable[[Server], None], events: str
) -> None:
    """Emptied or replaced, with a worker or without one: whoever waits hears that the job is gone."""
    monkeypatch.setattr(watch, "READ_S", 1.0)  # each time it is looked whether the place in the stream is there
    engine, other = make_engine(forgetful), make_engine(forgetful)
    async with engine, anyio.create_task_group() as group:
        if events == "events before":
            async with engine.running():
                await (await engine.submit("slow", (0,))).result(timeout=WAIT_S)
        ids = [(await engine.submit("slow", (0,), delay=3600)).id for _ in range(3)]
        lost: list[str] = []

        async def wait_for(job_id: str) -> None:
            with pytest.raises(JobNotFound):
                await engine.handle(job_id).result(timeout=WAIT_S)
            lost.append(job_id)

        async def work(seen: anyio.Event) -> None:
            async with (engine if events == "a worker that goes on" else other).running():
                seen.set()
                while len(lost) < 3:
                    await anyio.sleep(0.01)

        seen = anyio.Event()
        if events == "a worker that goes on":
            group.start_soon(work, seen)
            await seen.wait()
        for job_id in ids:
            group.start_soon(wait_for, job_id)
        await anyio.sleep(0.5)
        await anyio.to_thread.run_sync(loss, forgetful)
        if events == "a worker that comes":
            group.start_soon(work, seen)
    assert sorted(ids) == sorted(lost)
