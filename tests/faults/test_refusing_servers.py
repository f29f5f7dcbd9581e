"""Servers that refuse: what passes is waited for, what lasts is said at once, and who works goes on when it is over."""

import threading
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import redis
from refusing import Refusing

from headrace import BrokerUnavailable, Engine
from headrace.engine.loops.stop import Stop
from headrace.engine.redisio.address import parse_address
from headrace.engine.redisio.connections import Wire
from headrace.jobs.errors import Outlook
from servers import Server, start_valkey

WAIT_S = 20.0
PASSES, OPEN, LASTS = Outlook.PASSES, Outlook.OPEN, Outlook.LASTS
REFUSALS = [
    ("LOADING Redis is loading the dataset in memory", PASSES, "is still loading its data"),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL", PASSES, "is held up by a script"),
    ("CLUSTERDOWN The cluster is down", PASSES, "is part of a cluster that is down"),
    ("MASTERDOWN Link with MASTER is down", PASSES, "has lost its primary"),
    ("MISCONF Redis is configured to save RDB snapshots", OPEN, "cannot save to its disk"),
    ("READONLY You can't write against a read only replica.", OPEN, "is a read-only replica"),
    ("NOAUTH Authentication required.", LASTS, "wants a password"),
    ("WRONGPASS invalid username-password pair or user is disabled.", LASTS, "wants a password"),
    ("NOPERM this user has no permissions", LASTS, "forbids its user a command"),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", LASTS, "with another type"),
    ("ERR unknown command 'EVALSHA'", LASTS, "lacks a command"),
]


def engine_at(url: str) -> Engine:
    """Return an engine with a handler."""
    engine = Engine(url, lease="2s", drain_timeout=5)

    @engine.job
    async def work(number: int) -> int:
        return number

    return engine


@pytest.mark.parametrize(("reply", "outlook", "said"), REFUSALS, ids=[reply.split()[0] for reply, *_ in REFUSALS])
def test_a_refusal_is_put_in_words_and_classified(reply: str, outlook: Outlook, said: str) -> None:
    """What keeps a server from serving is named, with what is to be expected of it."""
    with Refusing(reply) as server, pytest.raises(BrokerUnavailable, match=said) as raised:
        Engine(server.url).sync.submit("work", (1,))
    assert outlook is raised.value.outlook


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "outlook"), [row[:2] for row in REFUSALS], ids=[row[0].split()[0] for row in REFUSALS]
)
async def test_a_worker_that_starts_waits_for_what_passes(reply: str, outlook: Outlook) -> None:
    """A server that will be ready soon is waited for until told to stop; any other refusal ends the start."""
    stop = Stop()
    with Refusing(reply) as server, anyio.fail_after(WAIT_S):
        if outlook is not PASSES:
            with pytest.raises(BrokerUnavailable):
                await engine_at(server.url).run(stop=stop)
            return
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: engine_at(server.url).run(stop=stop))
            while server.answered_count < 5:
                await anyio.sleep(0.01)
            stop.quiet()


@pytest.mark.anyio
async def test_a_worker_starts_once_the_server_is_ready(tmp_path: Path) -> None:
    """A worker that is started while somebody's script holds the server up works when that has ended."""
    with start_valkey(tmp_path) as server, client_of(server) as client, client_of(server) as other:
        engine = engine_at(server.url)
        async with engine:
            handle = await engine.submit("work", (7,))
        client.config_set("lua-time-limit", 50)
        thread = threading.Thread(target=run_for_ever, args=(other,))
        thread.start()
        await anyio.sleep(0.3)
        stop = Stop()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: engine.run(stop=stop))
            await anyio.sleep(0.5)
            client.script_kill()
            await anyio.to_thread.run_sync(thread.join)
            async with engine:
                assert 7 == await engine.handle(handle.id).result(timeout=WAIT_S)
            stop.quiet()


@pytest.mark.anyio
async def test_a_demoted_server_is_used_again_when_it_is_promoted(tmp_path: Path) -> None:
    """While the server is a read-only replica submitting says so; afterwards workers go on, registered as before."""
    with start_valkey(tmp_path) as server, client_of(server) as client:
        engine = engine_at(server.url)
        async with engine.running():
            assert 1 == await (await engine.submit("work", (1,))).result(timeout=WAIT_S)
            client.replicaof("127.0.0.1", 1)
            with pytest.raises(BrokerUnavailable, match="read-only replica"):
                await engine.submit("work", (2,))
            await anyio.sleep(0.5)
            client.replicaof("NO", "ONE")
            assert 3 == await (await engine.submit("work", (3,))).result(timeout=WAIT_S)


def test_a_connection_that_reached_a_replica_is_made_anew(tmp_path: Path) -> None:
    """After READONLY the next command goes over another connection, which may lead to the new primary."""
    with start_valkey(tmp_path) as server, client_of(server) as client:
        wire = Wire(parse_address(server.url), "test")
        first = wire.exchange([(b"CLIENT", b"ID")])
        client.replicaof("127.0.0.1", 1)
        assert isinstance(wire.exchange([(b"SET", b"key", b"value")])[0], redis.ResponseError)
        assert first != wire.exchange([(b"CLIENT", b"ID")])
        wire.close()


def client_of(server: Server) -> redis.Redis:
    return redis.Redis(unix_socket_path=server.unix_socket)


def run_for_ever(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError):
        client.eval("while true do end", 0)
