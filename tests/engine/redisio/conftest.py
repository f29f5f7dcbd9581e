"""Fixtures for what touches a real server: one for the session, emptied before each test; brokers are closed after."""

from collections.abc import Iterator

import pytest
import redis
from redis_scenes import Open

from headrace.engine.broker.port import Registration
from headrace.engine.broker.redis import RedisBroker
from servers import Server, start_valkey


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_valkey(tmp_path_factory.mktemp("redisio")) as server:
        yield server


@pytest.fixture
def client(shared_server: Server) -> Iterator[redis.Redis]:
    """A plain client of the emptied server, for looking behind the broker's back."""
    with redis.Redis.from_url(shared_server.unix_url) as client:
        client.flushall()
        client.config_set("maxmemory", 0)
        yield client
        client.config_set("maxmemory", 0)


@pytest.fixture
def server(shared_server: Server, client: redis.Redis) -> Server:
    """The emptied server."""
    return shared_server


@pytest.fixture
def opened(server: Server) -> Iterator[Open]:
    """Return a broker on the server, registered as a worker where one is named."""
    brokers: list[RedisBroker] = []

    def opened(worker: str = "", lease_s: float = 30.0, url: str = "", queues: tuple[str, ...] = ("q",)) -> RedisBroker:
        broker = RedisBroker(url or server.unix_url)
        brokers.append(broker)
        if worker:
            broker.register(Registration(worker, queues, lease_s))
        return broker

    yield opened
    for broker in brokers:
        broker.close()
