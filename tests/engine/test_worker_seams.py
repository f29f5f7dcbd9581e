"""A worker between two states: it loses its place while it drains, or while one of its queues is paused."""

import threading
from collections.abc import Iterator

import anyio
import pytest
import redis

from headrace import Engine
from headrace.engine.loops.fetcher import Fetcher
from headrace.engine.loops.stop import Stop
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("seams")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """An emptied server."""
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        client.flushall()
        yield client


async def test_a_worker_that_loses_its_place_in_its_drain_stops_what_it_runs(
    server: Server, client: redis.Redis
) -> None:
    """Once others may have its jobs it does not run them on beside those for the rest of the drain."""
    engine = Engine(server.url, lease="500ms", drain_timeout=3600)
    started, cut = anyio.Event(), anyio.Event()

    @engine.job
    async def work() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cut.set()

    stop = Stop()
    async with engine, anyio.create_task_group() as group:
        await work.submit()
        group.start_soon(lambda: engine.run(stop=stop))
        with anyio.fail_after(WAIT_S):
            await started.wait()
            stop.quiet()
            await anyio.sleep(0.1)
            assert not cut.is_set()
            client.delete("headrace:{default}:workers")
            await cut.wait()


async def test_a_paused_queue_of_full_slots_makes_nobody_sweep(
    server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a queue whose slots were full is paused, its worker sweeps the others as seldom as ever."""
    engine = Engine(server.url, thread_slots=1, slots=10, lease="3s", drain_timeout=5)
    busy, release = threading.Event(), threading.Event()
    looks: list[int] = []
    rooms = Fetcher.rooms

    def counted(self: Fetcher) -> dict[str, int]:
        looks.append(1)
        return rooms(self)

    monkeypatch.setattr(Fetcher, "rooms", counted)

    @engine.job(queue="slow")
    def slow() -> None:
        busy.set()
        release.wait(WAIT_S)

    @engine.job
    async def quick(number: int) -> None:
        """Do nothing."""

    async with engine.running():
        await slow.submit()
        with anyio.fail_after(WAIT_S):
            while not busy.is_set():
                await anyio.sleep(0.01)
        await anyio.sleep(1.5)  # a sweep finds the slot taken, and keeps it
        broker = engine.connection.open()
        broker.pause("slow", True)
        await anyio.sleep(0.3)
        release.set()
        await anyio.sleep(1.2)
        looks.clear()
        for number in range(200):  # each has a slot tell of its room
            await (await quick.submit(number)).result(timeout=WAIT_S)
        engine.connection.close()
    assert len(looks) < 50


@pytest.mark.parametrize("batch", [0, 3], ids=["single", "batch"])
async def test_jobs_of_a_fetch_that_a_pause_did_not_reach_go_back(batch: int) -> None:
    """What comes for a paused queue after all is not started, and waits in its queue again."""
    engine = Engine("memory://", slots=1, drain_timeout=0, prefetch_ttl=3600)
    started: list[int] = []
    held = anyio.Event()

    @engine.job(queue="other")
    async def hold() -> None:
        held.set()
        await anyio.sleep_forever()

    if batch:

        @engine.job(name="work", batch=batch)
        async def work_together(numbers: list[int]) -> list[None]:
            started.extend(numbers)
            return [None] * len(numbers)

    else:

        @engine.job(name="work")
        async def work(number: int) -> None:
            started.append(number)

    async with engine.running():
        await engine.submit("hold", queue="other")
        with anyio.fail_after(WAIT_S):
            await held.wait()
        broker, worker = engine.connection.open(), engine._worker
        assert worker is not None
        broker.pause("default", True)
        await anyio.sleep(0.1)
        for number in range(5):
            await engine.submit("work", (number,))
        worker._take(broker.fetch({"default": 5}, 0.0))
        assert 5 == broker.queues(["default"])[0].running
        with anyio.fail_after(WAIT_S):
            while broker.queues(["default"])[0].queued < 5:
                await anyio.sleep(0.01)
        engine.connection.close()
    assert [] == started
