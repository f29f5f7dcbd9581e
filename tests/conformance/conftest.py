"""Fixtures of the broker suite: every test runs once with each adapter; a new broker is one row in ADAPTERS."""

from collections.abc import Callable, Iterator

import pytest
from places import FullBroker, MemoryPlace, Place, RedisPlace

from headrace.engine.broker.port import Registration
from servers import Server, start_valkey


def _memory(request: pytest.FixtureRequest) -> Place:
    return MemoryPlace()


def _redis(request: pytest.FixtureRequest) -> Place:
    server: Server = request.getfixturevalue("conformance_server")
    return RedisPlace(server.url)


ADAPTERS = [
    pytest.param(_memory, id="memory"),
    pytest.param(_redis, id="redis", marks=pytest.mark.redis_core),
]


@pytest.fixture(scope="session")
def conformance_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests; each empties it first."""
    with start_valkey(tmp_path_factory.mktemp("conformance")) as server:
        yield server


@pytest.fixture(params=ADAPTERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where this test's jobs are kept."""
    place: Place = request.param(request)
    yield place
    place.close()


@pytest.fixture
def broker(place: Place) -> FullBroker:
    """A broker that is no worker: the one who submits and looks."""
    return place.connect()


@pytest.fixture
def advance(place: Place) -> Callable[[float], None]:
    """Let seconds pass by the broker's clock."""
    return place.advance


@pytest.fixture
def join(place: Place) -> Callable[..., FullBroker]:
    """Return another broker, registered as a worker."""

    def join(worker: str, queues: tuple[str, ...] = ("default",), lease_s: float = 30.0) -> FullBroker:
        broker = place.connect()
        broker.register(Registration(worker, queues, lease_s))
        return broker

    return join
