"""A worker that is told to stop before it has begun."""

from pathlib import Path

import anyio
import pytest

from headrace.engine.loops.stop import Stop
from headrace.engine.runtime import Engine
from servers import start_valkey

pytestmark = pytest.mark.anyio


async def test_a_request_to_stop_may_come_before_the_work(tmp_path: Path) -> None:
    """A stop that is asked for while the worker starts ends it in order, whatever its first fetch had come to."""
    with start_valkey(tmp_path) as server:
        stop = Stop()
        stop.quiet()
        with anyio.fail_after(20):
            await Engine(server.url).run(stop=stop)
