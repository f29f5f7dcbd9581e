"""RedisSink on a real server: lost replies, crashes, refusals, and what stays in the stream."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
import redis

from headrace.engine.sinks.redis import _ADD, RedisSink
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.outcome import Outcome, Status
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps what it acknowledged over a crash."""
    folder = tmp_path_factory.mktemp("server")
    with start_valkey(folder, "--appendonly", "yes", "--appendfsync", "always") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A client on an empty server."""
    with redis.Redis.from_url(server.unix_url, decode_responses=True) as made:
        made.flushall()
        yield made


class ReplyLoser:
    """A proxy to a server that passes one batch on, waits for the reply, and hangs up instead of handing it back."""

    def __init__(self, port: int, losses: int) -> None:
        self.losses = losses
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            with inside, socket.create_connection(("127.0.0.1", self._port)) as outside:
                self._pass_on(inside, outside)

    def _pass_on(self, inside: socket.socket, outside: socket.socket) -> None:
        while request := inside.recv(1 << 20):
            outside.sendall(request)
            reply = outside.recv(1 << 20)
            if b"XADD" in request and self.losses:
                self.losses -= 1
                return
            inside.sendall(reply)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def outcomes(first: int, count: int) -> list[Outcome]:
    """Return outcomes with the ids FIRST, FIRST + 1, ..."""
    return [
        Outcome(SimpleNamespace(label="f", job_id=str(number)), Status.SUCCEEDED, number)
        for number in range(first, first + count)
    ]


def entries(client: redis.Redis) -> list[dict[str, str]]:
    """Return the fields of the entries in the stream, in its order."""
    found = cast("list[tuple[str, dict[str, str]]]", client.xrange("headrace:outcomes"))
    return [fields for _, fields in found]


def numbers(client: redis.Redis) -> list[int]:
    """Return the numbers of the outcomes in the stream, in its order."""
    return [int(json.loads(fields["outcome"])["id"]) for fields in entries(client)]


async def test_a_resend_after_a_lost_reply_doubles_nothing(server: Server, client: redis.Redis) -> None:
    """The server took the batch, its reply was lost, the batch is sent again: each outcome is there once."""
    proxy = ReplyLoser(server.port, losses=2)
    sink = RedisSink(f"redis://127.0.0.1:{proxy.port}/0")
    with anyio.fail_after(20):
        await sink.open()
        await sink.write(outcomes(0, 50))
        await sink.write(outcomes(50, 5))
        await sink.close()
    proxy.close()
    assert list(range(55)) == numbers(client)
    assert 2 == sink.statistics().errors
    assert 0 == proxy.losses


async def test_a_server_that_dies_under_the_sink_is_waited_for(server: Server, client: redis.Redis) -> None:
    """Killed and started again, the server ends up with every outcome once and in order."""
    sink = RedisSink(server.url)
    with anyio.fail_after(30):
        await sink.open()
        await sink.write(outcomes(0, 100))
        server.kill()
        async with anyio.create_task_group() as group:
            group.start_soon(sink.write, outcomes(100, 1100))
            while sink.healthy:
                await anyio.sleep(0.01)
            await anyio.to_thread.run_sync(server.restart)
        await sink.close()
    assert sink.healthy
    assert list(range(1200)) == numbers(client)


async def test_a_key_of_another_type_is_named_at_once(server: Server, client: redis.Redis) -> None:
    """A refusal that waiting cannot end raises and says why; once mended, the same outcomes can be given again."""
    client.set("headrace:outcomes", "text")
    sink = RedisSink(server.url)
    await sink.open()
    batch = outcomes(0, 3)
    with pytest.raises(BrokerUnavailable, match=r"refuses the outcomes for headrace:outcomes: WRONGTYPE"):
        await sink.write(batch)
    assert not sink.healthy
    client.delete("headrace:outcomes")
    await sink.write(batch)
    await sink.close()
    assert [0, 1, 2] == numbers(client)


async def test_the_stream_keeps_about_max_length(server: Server, client: redis.Redis) -> None:
    """The stream is trimmed to about `max_length`, and not at all for None."""
    for max_length, most in ((200, 400), (None, 2000)):
        client.flushall()
        sink = RedisSink(server.url, max_length=max_length)
        await sink.open()
        await sink.write(outcomes(0, 2000))
        await sink.close()
        assert (max_length or 2000) <= client.xlen("headrace:outcomes") <= most


async def test_two_sinks_write_to_one_stream(server: Server, client: redis.Redis) -> None:
    """Sinks number their entries apart from each other, and sink and number are unique together."""
    for _ in range(2):
        sink = RedisSink(server.url)
        await sink.open()
        await sink.write(outcomes(0, 3))
        await sink.close()
    found = [(fields["sink"], fields["number"]) for fields in entries(client)]
    assert 6 == len(set(found))
    assert ["0", "1", "2"] * 2 == [number for _, number in found]


async def test_an_absent_server_is_named_without_its_password(tmp_path: Path) -> None:
    """Opening towards nobody raises with the address and without the secret."""
    sink = RedisSink(f"unix://:secret@{tmp_path}/none")
    with pytest.raises(BrokerUnavailable, match=f"cannot reach {tmp_path}/none") as caught:
        await sink.open()
    assert "secret" not in str(caught.value)
    await sink.close()


async def test_a_part_whose_predecessor_was_refused_waits_for_it(server: Server, client: redis.Redis) -> None:
    """A server that refuses the first parts of a batch and would take later ones loses none of them."""
    sink = RedisSink(server.url)
    await sink.open()
    await sink.write(outcomes(0, 100))
    with pytest.raises(redis.ResponseError, match="before these are missing"):
        client.eval(_ADD, 2, "headrace:outcomes", sink._cursor, sink._token, 400, 0, 60, "early")
    await sink.write(outcomes(100, 600))
    await sink.close()
    assert list(range(700)) == numbers(client)
