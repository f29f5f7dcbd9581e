"""A server that dies, forgets, is full, is busy or locks us out: workers and producers go on without a restart."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import redis
from fleet import IN_HAND_AWAY, LONG, Fleet
from journal import until
from refusing import Refusing

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
        assert len(said) < 5 * period_s * len(crew), "\n".join(said[-50:])
        until(lambda: 2 == client.zcard(WORKERS), "both workers to be registered again")
        jobs = fleet.submit("work", 50, 1)
        assert set(jobs) == {job for job in jobs if fleet.handle(job).result(timeout=20)}
        assert [None, None] == [each.poll() for each in crew]
        fleet.leave(*crew)
        shares = [float(line.words[0]) / float(line.words[1]) for line in fleet.journal.lines("used")]
        assert 2 == len(shares)
        assert max(shares) < 0.5, f"{shares} of a core"


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


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("LOADING Redis is loading the dataset in memory", "is still loading its data"),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL", "is held up by a script"),
        ("MISCONF Redis is configured to save RDB snapshots", "cannot save to its disk"),
        ("NOAUTH Authentication required.", "wants a password"),
        ("CLUSTERDOWN The cluster is down", "is part of a cluster that is down"),
        ("MASTERDOWN Link with MASTER is down", "has lost its primary"),
        ("READONLY You can't write against a read only replica.", "is a read-only replica"),
        ("NOPERM this user has no permissions", "forbids its user a command"),
    ],
)
def test_a_refusal_is_put_in_words(reply: str, said: str) -> None:
    """What keeps a server from serving is named, and is an outage, after which the caller may try again."""
    with Refusing(reply) as server:
        engine = Engine(server.url)
        with pytest.raises(BrokerUnavailable, match=said):
            engine.sync.submit("work", (1,)).status()
