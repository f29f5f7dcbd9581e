"""Networks that lose replies, fall silent, are slow or cut connections: each job is done once, and soon."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import redis
from checker import leftovers
from fleet import LONG, SOON_S
from proxy import Proxy

from headrace import BrokerUnavailable, Context, Engine, JobHandle
from headrace.engine.redisio import connections
from headrace.engine.redisio.scripts import script
from servers import Server

pytestmark = pytest.mark.anyio
WAIT_S = 20.0
LEASE_S = 2.0
WORKERS = "headrace:{default}:workers"


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A look behind the engine's back."""
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        yield client


class Stage:
    """An engine behind the proxy, and what its handler did."""

    def __init__(self, url: str, lease_s: float = LEASE_S) -> None:
        self.engine = Engine(url, lease=lease_s, drain_timeout=5, slots=20)
        self.starts: Counter[int] = Counter()
        self.deliveries: set[int] = set()
        self.started_at_s: dict[int, float] = {}

        @self.engine.job
        async def work(ctx: Context, number: int) -> int:
            self.starts[number] += 1
            self.deliveries.add(ctx.deliveries)
            self.started_at_s[number] = time.monotonic()
            await anyio.sleep(0.005)
            return number

        self.work = work

    async def do(self, numbers: range) -> None:
        """Have jobs done, each once."""
        handles = await self.work.submit_many((number,) for number in numbers)
        results: set[int] = set()

        async def take(handle: JobHandle[int]) -> None:
            results.add(await handle.result(timeout=WAIT_S))

        async with anyio.create_task_group() as group:
            for handle in handles:
                group.start_soon(take, handle)
        assert set(numbers) == results
        assert {1} == {self.starts[number] for number in numbers}


async def elsewhere(server: Server, number: int) -> None:
    """Submit a job by another way than the proxy."""
    async with Engine(server.unix_url) as direct:
        await direct.submit("work", (number,))


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(os.listdir("/dev/fd"))


async def test_a_submission_whose_reply_is_lost_adds_one_job(proxy: Proxy) -> None:
    """The caller gets the id of the one job that there is, whether he submits one or many."""
    stage = Stage(proxy.url)
    async with stage.engine.running():
        await stage.do(range(3))
        proxy.lose_replies(script("submit").sha1)
        handle = await stage.work.submit(10)
        proxy.lose_replies(script("submit").sha1)
        handles = await stage.work.submit_many([(11,), (12,)])
        assert [10, 11, 12] == [await each.result(timeout=WAIT_S) for each in (handle, *handles)]
        await stage.do(range(20, 30))
    assert 2 == proxy.lost_count
    assert {1} == set(stage.starts.values())


async def test_outcomes_whose_reply_is_lost_are_settled_once(proxy: Proxy, client: redis.Redis) -> None:
    """The batch is sent again, changes nothing, and no job runs twice."""
    stage = Stage(proxy.url)
    async with stage.engine.running():
        await stage.do(range(3))
        proxy.lose_replies(script("settle").sha1, times=3)
        await stage.do(range(10, 60))
        assert 3 == proxy.lost_count
        assert 0 == client.xlen("headrace:{default}:jobs")
        assert [] == leftovers(client, workers=1)


async def test_jobs_whose_delivery_is_lost_are_found_again(proxy: Proxy, server: Server) -> None:
    """A job that was delivered into a cut connection starts within a third of the lease and a second, as its first."""
    stage = Stage(proxy.url)
    async with stage.engine.running():
        await stage.do(range(3))
        await anyio.sleep(0.1)
        # The fetch that waits now has passed already, so the next one is hit, whose reply is this job's delivery.
        for number in range(10, 15):
            proxy.lose_replies(b"XREADGROUP")
            await stage.do(range(number * 100, number * 100 + 1))
            sent_s = time.monotonic()
            await elsewhere(server, number)
            with anyio.fail_after(WAIT_S):
                while not stage.starts[number]:
                    await anyio.sleep(0.005)
            assert stage.started_at_s[number] - sent_s < LEASE_S / 3 + SOON_S
    assert proxy.lost_count
    assert ({1}, {1}) == (set(stage.starts.values()), stage.deliveries)


@pytest.mark.alone
async def test_a_silent_connection_is_noticed(
    proxy: Proxy, server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all connections fall silent without an end, the next job is started within the wait and two seconds."""
    monkeypatch.setattr(connections, "REPLY_TIMEOUT_S", 2.0)
    stage = Stage(proxy.url, lease_s=15.0)
    async with stage.engine.running():
        await stage.do(range(3))
        await anyio.sleep(0.05)
        proxy.stall()
        began_s = time.monotonic()
        await elsewhere(server, 10)
        with anyio.fail_after(WAIT_S):
            while not stage.starts[10]:
                await anyio.sleep(0.005)
        assert stage.started_at_s[10] - began_s < 1.0 + 2.0
        await stage.do(range(20, 30))
        assert [b"1"] == [member.rpartition(b":")[2] for member in client.zrange(WORKERS, 0, -1)]
    assert {1} == set(stage.starts.values())


@pytest.mark.parametrize("delay_s", [0.05, 0.5], ids=["50 ms", "500 ms"])
async def test_a_slow_network_costs_no_lease(proxy: Proxy, client: redis.Redis, delay_s: float) -> None:
    """With each round trip so much longer, and jitter, jobs are done once each under one registration."""
    stage = Stage(proxy.url, lease_s=3.0)
    proxy.delay_s = delay_s
    async with stage.engine.running():
        ends_s = time.monotonic() + (60.0 if LONG else 1.5)
        turn = 0
        while time.monotonic() < ends_s:
            await stage.do(range(turn * 100, turn * 100 + 100))
            turn += 1
        assert [b"1"] == [member.rpartition(b":")[2] for member in client.zrange(WORKERS, 0, -1)]
        proxy.delay_s = 0.0
    assert {1} == set(stage.starts.values())


async def test_cut_connections_are_made_anew(proxy: Proxy, client: redis.Redis, tmp_path: Path) -> None:
    """With all connections reset again and again nothing is lost, and no connection is left open."""
    stage = Stage(proxy.url)
    numbers = iter(range(10_000_000))
    acknowledged: list[int] = []
    async with stage.engine.running():
        await stage.do(range(20_000_000, 20_000_003))
        before_count = descriptors()
        ends_s = time.monotonic() + (60.0 if LONG else 3.0)
        next_s = time.monotonic()
        while time.monotonic() < ends_s:
            if time.monotonic() > next_s:
                proxy.reset()
                next_s = time.monotonic() + (1.0 if LONG else 0.3)
            number = next(numbers)
            try:
                await stage.work.submit(number)
            except BrokerUnavailable:
                continue
            acknowledged.append(number)
            await anyio.sleep(0.002)
        with anyio.fail_after(WAIT_S):
            while set(acknowledged) - stage.starts.keys():
                await anyio.sleep(0.01)
        with anyio.fail_after(WAIT_S):
            while client.xlen("headrace:{default}:jobs"):
                await anyio.sleep(0.01)
        assert {1} == {stage.starts[number] for number in acknowledged}
        assert descriptors() <= before_count + 4
        assert [] == leftovers(client, workers=1)
    assert len(acknowledged) > 100
