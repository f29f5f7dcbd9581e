"""How a Dispatcher's block ends: drained, interrupted, cancelled, or with a sink that fails; and its real sinks."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis

from headrace.config import limits
from headrace.engine.loops.dispatcher import Dispatcher
from headrace.engine.loops.ticket import Ticket
from headrace.engine.sinks.file import FileSink
from headrace.engine.sinks.redis import RedisSink
from headrace.jobs.errors import ConfigError, JobCancelled
from headrace.jobs.outcome import Status
from noting_sink import NotingSink
from runner_handlers import until
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of this file."""
    with start_valkey(tmp_path_factory.mktemp("server")) as running:
        yield running


async def square(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return number * number


async def errors_of(tickets: list[Ticket[Any]]) -> list[type[BaseException] | None]:
    """Return what each ticket's result raises; fails when one is not filled."""
    raised: list[type[BaseException] | None] = []
    for ticket in tickets:
        assert ticket.done
        try:
            await ticket.result()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            raised.append(type(error))
        else:
            raised.append(None)
    return raised


async def test_leaving_the_block_drains() -> None:
    """When the block is left, all accepted work has ended, every sink has every outcome, and the sinks are closed."""
    sinks = [NotingSink("first"), NotingSink("second")]
    with anyio.fail_after(30):
        async with Dispatcher(slots=7, sinks=sinks) as dispatcher:
            tickets = [await dispatcher.submit(square, number) for number in range(3000)]
            assert [True, True] == [sink.is_open for sink in sinks]
    assert [number * number for number in range(3000)] == [await ticket.result() for ticket in tickets]
    for sink in sinks:
        assert (False, {*tickets}, 3000) == (sink.is_open, {each.work for each in sink.outcomes}, len(sink.outcomes))


async def test_entered_once() -> None:
    """A Dispatcher is entered once, and takes work only inside its block."""
    dispatcher = Dispatcher()
    with pytest.raises(ConfigError, match="inside its"):
        await dispatcher.submit(square, 1)
    async with dispatcher:
        with pytest.raises(ConfigError, match="entered once"):
            await dispatcher.__aenter__()
        assert 4 == await (await dispatcher.submit(square, 2)).result()
    with pytest.raises(ConfigError, match="entered once"):
        await dispatcher.__aenter__()
    with pytest.raises(ConfigError, match="inside its"):
        await dispatcher.submit(square, 1)
    with pytest.raises(ConfigError, match="inside its"):
        dispatcher.submit_nowait(square, 1)


async def test_who_waits_when_the_block_ends_is_refused() -> None:
    """A submitter that waits for room while the block is left is told so, and is not left waiting."""
    refused: list[str] = []
    gate = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:  # noqa: SIM117 - the one outlives the other
            async with Dispatcher(slots=1, backlog=0) as dispatcher:
                await dispatcher.submit(gate.wait)

                async def submit() -> None:
                    try:
                        await dispatcher.submit(square, 1)
                    except ConfigError as error:
                        refused.append(str(error))

                for _ in range(3):
                    group.start_soon(submit)
                await until(lambda: len(dispatcher._lines["async"].waiting) == 3)
                gate.set()
    assert 3 == len(refused)


class BlockError(Exception):
    """Raised in a block."""


async def test_an_exception_in_the_block_interrupts() -> None:
    """An exception leaves the block as itself; what ran or waited is interrupted, noted by the sinks, and told."""
    sink = NotingSink()
    cleaned: list[bool] = []

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(True)

    error = BlockError("in the block")
    tickets: list[Ticket[Any]] = []
    with anyio.fail_after(30), pytest.raises(BlockError) as caught:  # noqa: PT012 - it is about the block
        async with Dispatcher(slots=3, backlog=10, sinks=[sink]) as dispatcher:
            tickets.append(await dispatcher.submit(square, 2))
            await tickets[0].wait()
            tickets += [await dispatcher.submit(hang) for _ in range(8)]
            await until(lambda: dispatcher.pools["async"].busy == 3)
            raise error
    assert error is caught.value
    assert [None, *[JobCancelled] * 8] == await errors_of(tickets)
    assert ([True] * 3, False) == (cleaned, sink.is_open)
    assert {Status.SUCCEEDED: 1, Status.INTERRUPTED: 8} == Counter(each.status for each in sink.outcomes)


async def test_a_group_of_the_users_own_stays_one() -> None:
    """An ExceptionGroup that the block raises, even of one, is not unwrapped."""
    error = ExceptionGroup("mine", [BlockError("in the block")])
    with pytest.raises(ExceptionGroup) as caught:
        async with Dispatcher():
            raise error
    assert error is caught.value


async def test_cancelled_from_outside() -> None:
    """A cancelled block interrupts what runs, tells its tickets, hands everything to the sinks, and ends cancelled."""
    sink = NotingSink()
    with anyio.fail_after(30):
        with anyio.CancelScope() as scope:
            async with Dispatcher(slots=2, sinks=[sink]) as dispatcher:
                tickets = [await dispatcher.submit(anyio.sleep_forever) for _ in range(5)]
                await until(lambda: dispatcher.pools["async"].busy == 2)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert [JobCancelled] * 5 == await errors_of(tickets)
    assert (5, False) == (len(sink.outcomes), sink.is_open)


async def test_cancelled_while_it_drains() -> None:
    """A cancellation while the block waits for its work ends it like one inside the block."""
    sink = NotingSink()
    with anyio.fail_after(30):
        with anyio.CancelScope() as scope:
            async with Dispatcher(slots=2, sinks=[sink]) as dispatcher:
                tickets = [await dispatcher.submit(anyio.sleep_forever) for _ in range(5)]
                scope.deadline = anyio.current_time() + 0.02
        assert scope.cancelled_caught
        assert [JobCancelled] * 5 == await errors_of(tickets)
    assert (5, False) == (len(sink.outcomes), sink.is_open)


async def test_stopped_from_inside() -> None:
    """A dispatcher that its own block stops interrupts what runs, and the block ends without an exception."""
    with anyio.fail_after(30):
        async with Dispatcher() as dispatcher:
            ticket = await dispatcher.submit(anyio.sleep_forever)
            await until(lambda: dispatcher.pools["async"].busy == 1)
            dispatcher.stop()
            dispatcher.stop()
            await anyio.sleep_forever()
        assert [JobCancelled] == await errors_of([ticket])


async def test_a_thread_is_abandoned_when_the_block_is_interrupted() -> None:
    """A thread that runs on does not hold up an interrupted block."""
    release = threading.Event()
    try:
        with anyio.fail_after(30), pytest.raises(BlockError):  # noqa: PT012 - it is about the block
            async with Dispatcher() as dispatcher:
                ticket = await dispatcher.submit(release.wait, 60)
                await until(lambda: dispatcher.pools["thread"].busy == 1)
                raise BlockError
        assert [JobCancelled] == await errors_of([ticket])
    finally:
        release.set()


@pytest.mark.parametrize("fails_at", [0, 3])
@pytest.mark.parametrize("block", ["goes on", "is left", "waits for a ticket"])
async def test_a_failing_sink(fails_at: int, block: str) -> None:
    """A sink's error leaves the block as itself; tickets are filled, and the other sink has every outcome."""
    bad, good = NotingSink("bad", fails_at=fails_at), NotingSink("good")
    tickets: list[Ticket[Any]] = []
    with anyio.fail_after(30), pytest.raises(OSError, match="bad is full"):  # noqa: PT012 - it is about the block
        async with Dispatcher(slots=2, backlog=5, sinks=[bad, good]) as dispatcher:
            for _ in range(fails_at):
                tickets.append(await dispatcher.submit(square, 1))
                await tickets[-1].wait()
            tickets += [await dispatcher.submit(square, 1) for _ in range(5)]
            while block != "is left":
                tickets.append(await dispatcher.submit(square, 1))
                if block == "waits for a ticket":
                    await tickets[-1].wait()
    assert None in await errors_of(tickets)
    assert {*tickets} == {each.work for each in good.outcomes}
    assert len(tickets) == len(good.outcomes)
    assert (False, False) == (bad.is_open, good.is_open)


async def test_a_sink_that_cannot_be_opened() -> None:
    """When a sink cannot be opened, its error comes as itself and the sinks opened before are closed."""

    class Closed(NotingSink):
        async def open(self) -> None:
            raise OSError("no such folder")

    first = NotingSink("first")
    with pytest.raises(OSError, match="no such folder"):
        await Dispatcher(sinks=[first, Closed("second")]).__aenter__()
    assert not first.is_open


async def test_a_dead_sink_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that takes nothing any more is given up in time when the block is interrupted, and tickets are filled."""
    monkeypatch.setattr(limits, "DRAIN_TIMEOUT_S", 0.05)
    dead, good = NotingSink("dead"), NotingSink("good")
    dead.gate = anyio.Event()
    with anyio.fail_after(30), pytest.raises(TimeoutError, match="dead") as caught:  # noqa: PT012 - the block's end
        async with Dispatcher(slots=2, sinks=[dead, good]) as dispatcher:
            tickets = [await dispatcher.submit(square, number) for number in range(20)]
            await until(lambda: dead.offered == 1)
            raise BlockError
    assert isinstance(caught.value.__context__, BlockError)
    assert {None, JobCancelled} >= set(await errors_of(tickets))
    assert {*tickets} == {each.work for each in good.outcomes}


async def test_a_file(tmp_path: Path) -> None:
    """With a FileSink every outcome is a line, with what the function returned or how it failed."""

    async def fail() -> None:
        raise ValueError("no")

    path = tmp_path / "out.jsonl"
    with anyio.fail_after(30):
        async with Dispatcher(timeout=0.05, sinks=[FileSink(path)]) as dispatcher:
            for number in range(500):
                await dispatcher.submit(square, number)
            await dispatcher.submit(fail)
            await dispatcher.submit(anyio.sleep_forever)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {number * number for number in range(500)} == {each["value"] for each in lines if each["name"] == "square"}
    assert {"succeeded": 500, "failed": 1, "timed_out": 1} == Counter(each["status"] for each in lines)
    assert 502 == len({each["id"] for each in lines})


async def test_a_stream_and_a_file(tmp_path: Path, server: Server) -> None:
    """With a RedisSink and a FileSink both have every outcome, and both show in the statistics."""
    path = tmp_path / "out.jsonl"
    key = f"outcomes-{tmp_path.name}"
    sinks = [RedisSink(server.url, key=key), FileSink(path)]
    with anyio.fail_after(30):
        async with Dispatcher(sinks=sinks) as dispatcher:
            for number in range(2000):
                await dispatcher.submit(square, number)
            await dispatcher.drain()
            shown = dispatcher.statistics().backpressure.sinks
    with redis.Redis.from_url(server.url) as client:
        values = [json.loads(fields[b"outcome"])["value"] for _, fields in client.xrange(key)]
    assert sorted(values) == [number * number for number in range(2000)]
    assert 2000 == len(path.read_text().splitlines())
    assert 2000 == shown[f"redis:{key}"].written
    assert {f"redis:{key}", f"file:{path}"} == set(shown)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_ctrl_c_is_no_jobs_failure(loop: str) -> None:
    """A Ctrl-C that arrives while a handler runs ends the program's block, and both jobs are told interrupted."""
    done = subprocess.run(
        [sys.executable, str(HERE / "interrupted_script.py"), loop],
        capture_output=True, text=True, timeout=60, check=False, env={"PYTHONPATH": str(HERE.parents[1])},
    )  # fmt: skip
    assert "KeyboardInterrupt interrupted=interrupted sleep_forever=interrupted" == done.stdout.strip(), done.stderr


def test_uvloop_drains_and_times_out() -> None:
    """On uvloop, too, work is run, timed out, and drained."""
    pytest.importorskip("uvloop")
    sink = NotingSink()

    async def main() -> None:
        async with Dispatcher(slots=50, timeout=0.05, sinks=[sink]) as dispatcher:
            for number in range(500):
                await dispatcher.submit(square, number)
                if number % 5 == 0:
                    await dispatcher.submit(anyio.sleep_forever)
            await dispatcher.submit(threading.get_ident)

    anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})
    assert {Status.SUCCEEDED: 501, Status.TIMED_OUT: 100} == Counter(each.status for each in sink.outcomes)
