"""What the fault tests share: a server whose acknowledged writes are on its disk."""

from collections.abc import Iterator

import pytest

from servers import Server, start_valkey


@pytest.fixture
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that forgets nothing that it acknowledged."""
    with start_valkey(tmp_path_factory.mktemp("durable"), "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps everything in memory."""
    with start_valkey(tmp_path_factory.mktemp("server")) as server:
        yield server
