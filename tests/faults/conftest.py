"""What the fault tests share: a server whose acknowledged writes are on its disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import LONG, LOOPS

from servers import Server, start_valkey


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a short run have one loop run what both could, in turn, so that it stays under three minutes."""
    if LONG:
        return
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    names = list(dict.fromkeys(item.nodeid.partition("[")[0] for item in here))
    left = set()
    for item in here:
        name, _, shown = item.nodeid.partition("[")
        loops = [part for part in shown.rstrip("]").split("-") if part in LOOPS]
        if loops and loops != [LOOPS[names.index(name) % 2]]:
            left.add(item)
    config.hook.pytest_deselected(items=[item for item in items if item in left])
    items[:] = [item for item in items if item not in left]


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
