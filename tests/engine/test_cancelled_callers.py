"""Callers that are cancelled while they submit or wait: whatever they leave half done, nobody else is held up."""

import asyncio
from collections.abc import Iterator

import anyio
import pytest

from headrace import Engine
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 15.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("cancelled")) as server:
        yield server


@pytest.fixture(params=["memory", "server"])
def engine(request: pytest.FixtureRequest, server: Server) -> Engine:
    """An engine with one handler, on either broker."""
    engine = Engine("memory://" if request.param == "memory" else server.url, drain_timeout=5)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    return engine


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_submitter_holds_up_nobody(engine: Engine, turns: int) -> None:
    """Cancelled at once or a few turns of the loop later, alone or among others: later submissions go through."""
    ids = []

    async def another(number: int) -> None:
        ids.append((await engine.submit("add", (number, 1))).id)

    async with engine:
        async with anyio.create_task_group() as others, anyio.create_task_group() as mine:
            mine.start_soon(engine.submit, "add", (1, 2))
            for number in range(3):
                others.start_soon(another, number)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            mine.cancel_scope.cancel()
        with anyio.fail_after(WAIT_S):
            await another(9)
    assert 4 == len(set(ids))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("turns", range(4))
async def test_asyncios_own_cancellation_holds_up_nobody(engine: Engine, turns: int) -> None:
    """As by `wait_for` or a web framework, which no shield of ours stops: those who ride along get their ids."""
    async with engine:
        first = asyncio.create_task(engine.submit("add", (1, 2)))
        others = [asyncio.create_task(engine.submit("add", (number, 2))) for number in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        handles = await asyncio.wait_for(asyncio.gather(*others), WAIT_S)
    assert 3 == len({handle.id for handle in handles})


async def test_whoever_gives_up_waiting_leaves_the_others_waiting_well(engine: Engine) -> None:
    """Two waits that end in the same moment do not take the third one's answer with them."""
    for _ in range(10):
        async with engine:
            handle = await engine.submit("add", (1, 2))
            results = []

            async def wait(timeout_s: float | None, handle: object = handle, results: list[object] = results) -> None:
                with anyio.move_on_after(timeout_s):
                    results.append(await handle.result())  # type: ignore[attr-defined]

            async with anyio.create_task_group() as group:
                group.start_soon(wait, 0.02)
                group.start_soon(wait, 0.02)
                group.start_soon(wait, WAIT_S)
                await anyio.sleep(0.06)
                async with engine.running():
                    with anyio.fail_after(WAIT_S):
                        while not results:
                            await anyio.sleep(0.005)
        assert [3] == results
