"""A worker that is busy, is told to stop, or runs a hog when the others or the server fail."""

import signal
import time
from pathlib import Path

import anyio
import pytest
import redis
from fleet import LOOPS, Fleet
from journal import until

from headrace import Engine, JobCrashed
from headrace.engine.broker.port import Registration
from headrace.engine.broker.redis import RedisBroker
from servers import Server

WAIT_S = 20.0


def hog(megabytes: int) -> int:
    """Take memory until the system says no, as the kernel's killer does: without a word."""
    import os
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
    try:
        return len(bytearray(megabytes << 20))
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)
        raise


@pytest.mark.anyio
@pytest.mark.parametrize("took_s", [0.06, 0.001], ids=["slow", "fast"])
async def test_orphans_find_a_slot_in_a_busy_worker(server: Server, took_s: float) -> None:
    """However many new jobs wait, what a dead worker left is started while they do."""
    engine = Engine(server.url, slots=1, lease="1s", drain_timeout=0)
    order: list[int] = []

    @engine.job
    async def work(number: int) -> None:
        order.append(number)
        await anyio.sleep(took_s)

    dead = RedisBroker(server.url)
    async with engine:
        dead.register(Registration("dead", ("default",), 30.0))
        await work.submit_many((-number,) for number in range(1, 4))
        assert 3 == len(dead.fetch({"default": 3}, 1.0))
        new_count = round(6.0 / took_s)
        await work.submit_many((number,) for number in range(new_count))
        async with engine.running():
            with anyio.fail_after(WAIT_S):
                while len(order) < 10:
                    await anyio.sleep(0.01)
                dead.unregister()
                dead.close()
                while not {-1, -2, -3} <= set(order):
                    await anyio.sleep(0.01)
    assert len(order) < new_count


@pytest.mark.parametrize("loop", LOOPS)
def test_a_worker_stops_although_the_server_is_gone(durable: Server, tmp_path: Path, loop: str) -> None:
    """Told to stop while the server is away, an idle worker ends in order and at once."""
    with Fleet(durable, tmp_path) as fleet:
        worker = fleet.worker(loop)
        fleet.submit("work", 1, 1)
        fleet.journal.wait("end")
        with redis.Redis(unix_socket_path=durable.unix_socket) as client:
            until(lambda: not client.xlen("headrace:{default}:jobs"), "the job to be settled")
        durable.kill()
        time.sleep(0.3)
        began_s = time.monotonic()
        fleet.stop(worker)
        assert time.monotonic() - began_s < 5.0
        assert "not unregistered" in fleet.log.read_text()


@pytest.mark.anyio
async def test_a_memory_hog_dies_alone(server: Server) -> None:
    """A process job that is killed for its memory is the one that is given up; its neighbours are done."""
    engine = Engine(server.url, process_slots=2, max_deliveries=2)
    engine.job(runner="process")(hog)
    async with engine.running():
        good = [await engine.submit("hog", (1,)) for _ in range(6)]
        bad = await engine.submit("hog", (4096,))
        good += [await engine.submit("hog", (1,)) for _ in range(6)]
        assert [1 << 20] * 12 == [await handle.result(timeout=WAIT_S) for handle in good]
        with pytest.raises(JobCrashed):
            await bad.result(timeout=WAIT_S)
