"""What every sink does, whatever it writes to: full, slow, failing, drained on close, nothing lost, order kept."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from sink_scenes import FileScene, MemoryScene, RedisScene, Scene

from headrace.engine.sinks.file import FileSink, OutcomeLog
from headrace.engine.sinks.port import Sink
from headrace.jobs.outcome import Failure, Outcome, Status
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of this file."""
    with start_valkey(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(params=["memory", "file", "outcome log", "redis"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """The outside of one kind of sink."""
    made: Scene
    if request.param == "memory":
        made = MemoryScene()
    elif request.param == "redis":
        made = RedisScene(request.getfixturevalue("server"))
    else:
        made = FileScene(tmp_path / "out.jsonl", FileSink if request.param == "file" else OutcomeLog)
    yield made
    made.discard()


@asynccontextmanager
async def opened(scene: Scene) -> AsyncIterator[Sink]:
    """Open a sink, close it, and take no longer than is generous."""
    with anyio.fail_after(30):
        sink = await scene.make()
        await sink.open()
        try:
            yield sink
        finally:
            await sink.close()


def outcomes(first: int, count: int) -> list[Outcome]:
    """Return outcomes with the ids FIRST, FIRST + 1, ..."""
    return [
        Outcome(SimpleNamespace(label="f", job_id=str(number), queue="q", attempt=1), Status.SUCCEEDED, number)
        if number % 3
        else Outcome(SimpleNamespace(label="f", job_id=str(number)), Status.FAILED, failure=Failure("ValueError"))
        for number in range(first, first + count)
    ]


def ids(count: int) -> list[str]:
    """Return the ids of the first outcomes."""
    return [str(number) for number in range(count)]


async def test_nothing_is_lost_and_order_is_kept(scene: Scene) -> None:
    """Batches of all sizes, the empty one too, are in the outside after close, once and in order."""
    async with opened(scene) as sink:
        first = 0
        for count in (1, 0, 7, 501, 2, 1200):
            await sink.write(outcomes(first, count))
            first += count
    assert ids(first) == scene.ids()


async def test_the_counters_agree_with_what_was_written(scene: Scene) -> None:
    """After close everything is written, nothing pends, nothing was dropped, and the sink has a name."""
    async with opened(scene) as sink:
        await sink.write(outcomes(0, 20))
        assert 0 < sink.statistics().pending_max
    statistics = sink.statistics()
    assert (20, 0, 0, 0) == (statistics.written, statistics.pending, statistics.dropped, statistics.errors)
    assert statistics.name == sink.name != ""


async def test_a_slow_outside_makes_the_writer_wait_within_the_bound(scene: Scene) -> None:
    """While the outside does not answer, pending stays within its bound and write waits; then all is there in order."""
    async with opened(scene) as sink:
        scene.block()
        finished: list[int] = []

        async def produce() -> None:
            for batch in range(60):
                await sink.write(outcomes(batch * 250, 250))
                finished.append(batch)

        async with anyio.create_task_group() as group:
            group.start_soon(produce)
            for _ in range(20):
                await anyio.sleep(0.01)
                assert sink.statistics().pending <= sink.statistics().pending_max
            assert len(finished) < 60, "nothing made the writer wait"
            scene.unblock()
    assert ids(15_000) == scene.ids()


async def test_a_failing_outside_is_counted_and_waited_for(scene: Scene) -> None:
    """Refusals show in the counters, drop nothing, double nothing, and end when the outside takes writes again."""
    async with opened(scene) as sink:
        await sink.write(outcomes(0, 10))
        scene.fail()
        async with anyio.create_task_group() as group:
            group.start_soon(sink.write, outcomes(10, 10))
            while sink.statistics().errors < 2:
                await anyio.sleep(0.01)
            assert getattr(sink, "healthy", False) is False
            scene.mend()
        await sink.write(outcomes(20, 10))
    assert getattr(sink, "healthy", True) is True
    assert ids(30) == scene.ids()


async def test_close_drains_what_was_taken(scene: Scene) -> None:
    """Everything taken is in the outside when close returns, and closing again does nothing."""
    async with opened(scene) as sink:
        await sink.write(outcomes(0, 700))
    assert ids(700) == scene.ids()
    await sink.close()
    assert ids(700) == scene.ids()


async def test_close_drains_under_cancellation(scene: Scene) -> None:
    """An owner that is cancelled still closes whole."""
    with anyio.CancelScope() as scope:
        async with opened(scene) as sink:
            await sink.write(outcomes(0, 300))
            scope.cancel()
            await anyio.sleep_forever()
    assert ids(300) == scene.ids()


async def test_a_cancelled_write_given_again_doubles_nothing(scene: Scene) -> None:
    """A write that was cancelled while the outside failed can be made again with the same outcomes."""
    async with opened(scene) as sink:
        batches = [outcomes(first, 400) for first in range(0, 12_000, 400)]
        scene.fail()
        given = 0
        with anyio.move_on_after(0.5):
            for batch in batches:
                await sink.write(batch)
                given += 1
        scene.mend()
        assert given < len(batches), "nothing made the writer wait"
        for batch in batches[given:]:
            await sink.write(batch)
    assert ids(12_000) == scene.ids()
