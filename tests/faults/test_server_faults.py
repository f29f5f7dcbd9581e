"""A server that dies, forgets, is full, is busy or locks us out: workers and producers go on without a restart."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import redis
from fleet import IN_HAND_AWAY, LONG, SOON_S, Fleet
from journal import until

from headrace import BrokerUnavailable, Engine, QueueFull
from servers import Server

WAIT_S = 20.0
JOBS, WORKERS = "headrace:{default}:jobs", "headrace:{default}:workers"


def client_of(server: Server) -> redis.Redis:
    return redis.Redis(unix_socket_path=server.unix_socket)


@pytest.mark.parametrize(("lease_s", "outage_s"), [(5.0, 0.3), (0.7, 1.5)], ids=["soon back", "beyond the lease"])
def test_a_killed_server_with_its_journal_loses_nothing(
    durable: Server, tmp_path: Path, lease_s: float, outage_s: float
) -> None:
    """With appendfsync always the server may be killed under load: each acknowledged job is done, nobody restarted."""
    with Fleet(durable, tmp_path, lease_s=lease_s) as fleet:
        crew = fleet.workers()
        producers = [fleet.producer("asyncio"), fleet.producer("trio")]
        for turn in range(30 if LONG else 3):
            fleet.journal.wait("end", (turn + 1) * 50)
            durable.kill()
            fleet.strike()
            time.sleep(fleet.random.uniform(outage_s / 2, outage_s))
            durable.start()
            fleet.strike()  # what was started from the prefetch meanwhile could not be settled before the lease's end
        fleet.journal.wait("end", fleet.journal.count("end") + 100)
        fleet.stop(*producers)
        report = fleet.drained(IN_HAND_AWAY)
        report.insist(fleet.seed)
        if outage_s < lease_s:  # nobody lost a registration, so nothing had to run twice
            assert {} == report.duplicates
        fleet.leave(*crew)


def test_a_server_that_forgets_is_used_again(server: Server, tmp_path: Path) -> None:
    """Emptied, robbed of scripts and stream, its clients killed, over and over: workers go on, quiet and cool."""
    with Fleet(server, tmp_path, lease_s=2.0) as fleet, client_of(server) as client:
        crew = fleet.workers()
        producer = fleet.producer("asyncio", 5.0)
        fleet.journal.wait("end", 20)
        blows: list[Callable[[], object]] = [
            client.flushall,
            client.script_flush,
            lambda: client.delete(JOBS),
            lambda: client.client_kill_filter(_type="normal", skipme=True),
        ]
        lines, began_s = len(fleet.log.read_text().splitlines()), time.monotonic()
        period_s = 60.0 if LONG else 5.0
        while time.monotonic() < began_s + period_s:
            fleet.random.choice(blows)()
            time.sleep(fleet.random.uniform(0.02, 0.2))
        said = fleet.log.read_text().splitlines()[lines:]
        fleet.stop(producer)
        print(f"\n{period_s:.0f} s of blows: {len(said) / period_s:.2f} lines a second of two workers and a producer")
        print(f"{len(said) / period_s:.2f} lines a second")
        # In a short run the first line of each kind, which every worker writes at once, weighs more.
        assert len(said) < 5 * period_s * (1 if LONG else len(crew)), "\n".join(said[-50:])
        until(lambda: 2 == client.zcard(WORKERS), "both workers to be registered again")
        jobs = fleet.submit("work", 50, 1)
        assert set(jobs) == {job for job in jobs if fleet.handle(job).result(timeout=20)}
        assert [None, None] == [each.poll() for each in crew]
        fleet.leave(*crew)
        shares = [float(line.words[0]) / float(line.words[1]) for line in fleet.journal.lines("used")]
        assert 2 == len(shares)
        assert max(shares) < 0.5, f"{shares} of a core"


@pytest.mark.anyio
@pytest.mark.parametrize("blow", ["flushall", "jobs deleted"])
async def test_a_lost_queue_is_told_once_and_used_again(server: Server, blow: str) -> None:
    """Of two workers on an emptied server one makes the queue anew and tells of it, and both go on within 2 s."""
    told: list[str] = []
    engines = []
    for _ in range(2):
        engine = Engine(server.url, lease="2s", drain_timeout=5)
        engine.on("queue.lost")(lambda event: told.append(event.queue))
        engine.job(name="answer")(_answer)
        engines.append(engine)
    with client_of(server) as client:
        client.flushall()
        async with engines[0].running(), engines[1].running():
            await anyio.sleep(0.2)
            for turn in range(1, 4):
                client.flushall() if blow == "flushall" else client.delete(JOBS)
                began_s = time.monotonic()
                with anyio.fail_after(WAIT_S):
                    while len(told) < turn:
                        await anyio.sleep(0.01)
                assert time.monotonic() - began_s < 2.0 + SOON_S
                handles = [await engines[0].submit("answer", (n,)) for n in range(20)]
                assert list(range(20)) == [await handle.result(timeout=WAIT_S) for handle in handles]
                kept = 1 if blow == "flushall" else turn
                assert kept == await lost_count(engines[1], kept * 20)
                with anyio.fail_after(WAIT_S):
                    while 2 != client.zcard(WORKERS):
                        await anyio.sleep(0.01)
        assert ["default"] * 3 == told


async def _answer(number: int) -> int:
    return number


async def lost_count(engine: Engine, jobs: int) -> int:
    """Return how many events of lost queues the streams keep up to the end of so many jobs."""
    done = lost = 0
    async for event in engine.events(after="0"):
        lost += event.kind == "queue.lost"
        done += event.kind == "job.succeeded"
        if done == jobs:
            break
    return lost


@pytest.fixture
def engine(server: Server) -> Engine:
    """An engine with a small lease and a handler that counts its runs."""
    engine = Engine(server.url, lease="2s", drain_timeout=5, slots=20)

    @engine.job
    async def work(number: int) -> int:
        await anyio.sleep(0.01)
        return number

    return engine


def epochs(client: redis.Redis) -> list[bytes]:
    """Return how often each worker has registered, as text."""
    return [member.rpartition(b":")[2] for member in client.zrange(WORKERS, 0, -1)]


def endless(client: redis.Redis) -> None:
    """Run a script until it is killed."""
    with pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)


@pytest.mark.anyio
async def test_a_full_server_refuses_new_work_only(server: Server, engine: Engine) -> None:
    """At maxmemory submitting is refused as such, and workers settle what there is, keep their lease, and go on."""
    async with engine.running():
        handles = [await engine.submit("work", (number,)) for number in range(200)]
        with client_of(server) as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(QueueFull) as refusal:
                await engine.submit("work", (0,))
            assert "memory" == refusal.value.reason
            assert list(range(200)) == [await handle.result(timeout=WAIT_S) for handle in handles]
            await anyio.sleep(2.5)  # longer than the lease
            client.config_set("maxmemory", 0)
            assert 7 == await (await engine.submit("work", (7,))).result(timeout=WAIT_S)
            assert [b"1"] == epochs(client)


@pytest.mark.anyio
async def test_a_new_password_locks_out_until_it_is_taken_back(server: Server, engine: Engine) -> None:
    """Who cannot log in any more is told so, and goes on once the server lets him in again."""
    async with engine.running():
        with client_of(server) as client:
            client.config_set("requirepass", "s3cret")
            client.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(BrokerUnavailable, match="wants a password"):
                await engine.submit("work", (1,))
            await anyio.sleep(0.3)
            client.config_set("requirepass", "")
            assert 1 == await (await engine.submit("work", (1,))).result(timeout=WAIT_S)
            assert 7 == await (await engine.submit("work", (7,))).result(timeout=WAIT_S)


@pytest.mark.anyio
async def test_a_script_that_does_not_end_is_waited_for(server: Server, engine: Engine) -> None:
    """While somebody's script holds the server up, submitting says so; afterwards all goes on."""
    async with engine.running():
        with client_of(server) as client, client_of(server) as other:
            client.config_set("lua-time-limit", 50)
            thread = threading.Thread(target=endless, args=(other,))
            thread.start()
            await anyio.sleep(0.3)
            with pytest.raises(BrokerUnavailable, match="held up by a script"):
                await engine.submit("work", (1,))
            client.script_kill()
            await anyio.to_thread.run_sync(thread.join)
            assert 7 == await (await engine.submit("work", (7,))).result(timeout=WAIT_S)
            assert [b"1"] == epochs(client)
