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
