"""What is promised of the results of many jobs: each given out once, failures that end nothing, and little held."""

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from headrace import (
    BrokerUnavailable,
    ConfigError,
    Engine,
    FailJob,
    JobFailed,
    JobHandle,
    JobNotFound,
    JobResult,
    ResultUnavailable,
    WaitTimeout,
)
from headrace.engine import gathering
from headrace.engine.broker import looks, watch
from headrace.jobs.codec import Malformed
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("gathering")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine on a broker of each kind."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("server").url
    engine = Engine(url, namespace=f"gathering-{os.urandom(6).hex()}", drain_timeout=5)

    @engine.job
    async def double(number: int) -> int:
        return 2 * number

    @engine.job(retry=None)
    async def odd_only(number: int) -> int:
        if number % 2 == 0:
            raise FailJob("even")
        return number

    @engine.job(result_ttl=0)
    async def unkept() -> None: ...

    @engine.job(timeout=0)
    async def held() -> str:
        await gates[engine].wait()
        return "let go"

    return engine


#: What `held` waits for, for each engine.
gates: dict[Engine, anyio.Event] = {}


async def submit(engine: Engine, name: str, *args: Any) -> JobHandle[Any]:
    """Submit a job by its name."""
    return await engine.submit(name, args)


async def doubles(engine: Engine, count: int) -> list[JobHandle[Any]]:
    """Submit so many jobs, at once where many can be."""
    return [await submit(engine, "double", number) for number in range(count)]


def values(results: dict[JobHandle[Any], JobResult[Any]]) -> list[Any]:
    """Return what the handlers returned."""
    return [result.value for result in results.values()]


async def test_results_come_as_jobs_end(engine: Engine) -> None:
    """A job that goes on holds up none behind it, and comes with its handle once it ends."""
    gates[engine] = anyio.Event()
    async with engine.running():
        held, quick = await submit(engine, "held"), await submit(engine, "double", 21)
        came = []
        with anyio.fail_after(WAIT_S):
            async for handle, result in engine.results([held, quick]):
                came.append((handle, result.value))
                gates[engine].set()
    assert [(quick, 42), (held, "let go")] == came


async def test_results_come_in_the_order_of_the_handles_where_that_is_asked(engine: Engine) -> None:
    """Ordered, a job that goes on holds up those behind it, which are there once it has ended."""
    gates[engine] = anyio.Event()
    async with engine.running(), anyio.create_task_group() as group:
        handles = [await submit(engine, "held"), *await doubles(engine, 3)]
        came: list[Any] = []

        async def read() -> None:
            async for handle, result in engine.results(handles, timeout=WAIT_S, ordered=True):
                came.append((handle, result.value))

        group.start_soon(read)
        assert [0, 2, 4] == await engine.gather(handles[1:], timeout=WAIT_S)
        assert [] == came
        gates[engine].set()
    assert list(zip(handles, ["let go", 0, 2, 4], strict=True)) == came


async def test_a_failure_ends_nothing_but_its_own_job(engine: Engine) -> None:
    """Jobs that failed, that are unknown or whose records are gone come as errors; the others as values."""
    async with engine.running():
        handles = [await submit(engine, "odd_only", number) for number in range(4)]
        handles += [await submit(engine, "unkept"), engine.handle("nowhere:1-1"), engine.handle("nonsense")]
        found = {handle: result async for handle, result in engine.results(handles, timeout=WAIT_S)}
    assert set(handles) == set(found)
    assert (1, 3) == (found[handles[1]].value, found[handles[3]].value)
    assert None is found[handles[1]].error
    kinds = [JobFailed, JobFailed, ResultUnavailable, JobNotFound, JobNotFound]
    assert kinds == [type(found[handles[i]].error) for i in (0, 2, 4, 5, 6)]
    with pytest.raises(JobFailed, match="even"):
        _ = found[handles[0]].value
    assert "JobResult(1)" == repr(found[handles[1]])
    assert "even" in repr(found[handles[0]])


async def test_gathered_values_are_in_the_order_of_the_handles(engine: Engine) -> None:
    """A list of values, one for each handle, also for one that is there twice, and for none."""
    async with engine.running():
        handles = await doubles(engine, 5)
        assert [8, 0, 2, 4, 6, 8] == await engine.gather([handles[4], *handles], timeout=WAIT_S)
        assert [] == await engine.gather([], timeout=0)


async def test_gathering_raises_the_first_failure_or_returns_all(engine: Engine) -> None:
    """Without being told otherwise a failure is raised at once, whoever still runs; with it, it stands in its place."""
    gates[engine] = anyio.Event()
    async with engine.running():
        held, failed = await submit(engine, "held"), await submit(engine, "odd_only", 2)
        with pytest.raises(JobFailed, match="even"):
            await engine.gather([held, failed], timeout=WAIT_S)
        gates[engine].set()
        both = await engine.gather([held, failed], timeout=WAIT_S, return_exceptions=True)
    assert "let go" == both[0]
    assert isinstance(both[1], JobFailed)


async def test_a_time_that_is_over_leaves_what_came_before(engine: Engine) -> None:
    """All that had ended is given out, and then WaitTimeout says how many had not; the jobs go on."""
    gates[engine] = anyio.Event()
    async with engine.running():
        handles = [await submit(engine, "held"), *await doubles(engine, 3), await submit(engine, "held")]
        await engine.gather(handles[1:4], timeout=WAIT_S)
        came = []

        async def read() -> None:
            async for _, result in engine.results(handles, timeout="500ms"):
                came.append(result.value)

        with pytest.raises(WaitTimeout, match=r"2 of the jobs waited for, default:.* had not ended after 0\.5 s"):
            await read()
        assert [0, 2, 4] == sorted(came)
        gates[engine].set()
        assert ["let go", 0, 2, 4, "let go"] == await engine.gather(handles, timeout=WAIT_S)


async def test_no_time_looks_at_each_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a timeout of 0 all that is there is given out, however many, and what is not is waited for no longer."""
    monkeypatch.setattr(gathering, "WINDOW_COUNT", 4)
    gates[engine] = anyio.Event()
    async with engine.running():
        handles = await doubles(engine, 11)
        await engine.gather(handles, timeout=WAIT_S)
        assert list(range(0, 22, 2)) == await engine.gather(handles, timeout=0)
        with pytest.raises(WaitTimeout, match="1 of the jobs"):
            await engine.gather([*handles, await submit(engine, "held")], timeout=0)
        gates[engine].set()


@pytest.mark.parametrize("ordered", [False, True])
async def test_few_handles_of_many_are_held(engine: Engine, ordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterable of handles is read no further ahead than the window, and each of it is given out once."""
    monkeypatch.setattr(gathering, "WINDOW_COUNT", 10)
    async with engine.running():
        handles = await doubles(engine, 60)
        read_count = given_count = 0

        def coming() -> Iterator[JobHandle[Any]]:
            nonlocal read_count
            for handle in handles:
                read_count += 1
                yield handle

        found = []
        async for handle, _ in engine.results(coming(), timeout=WAIT_S, ordered=ordered):
            found.append(handle)
            given_count += 1
            assert given_count <= read_count <= given_count + 10
    assert handles == (found if ordered else sorted(found, key=handles.index))


def waits_of(engine: Engine) -> int:
    """Return for how many jobs an engine's watch and looks still wait, once somebody else has begun to."""
    told = engine._open()[1].looks
    told.put(())
    return len(told._line) + sum(len(each.ears) for each in told._watch._queues.values())


async def until_nobody_waits(engine: Engine, *, somebody: bool = False) -> None:
    """Return once that is so, or once somebody does: the threads of watch and looks may be at it."""
    with anyio.fail_after(WAIT_S):
        while (waits_of(engine) > 0) is not somebody:
            await anyio.sleep(0.01)


async def test_whoever_leaves_leaves_no_waits(engine: Engine) -> None:
    """A loop that was broken off, a reader that was closed and a call that was cancelled wait for nobody any more."""
    gates[engine] = anyio.Event()
    async with engine.running():
        handles = [await submit(engine, "held"), *await doubles(engine, 2)]

        async def first() -> None:
            async for _ in engine.results(handles, timeout=WAIT_S):
                break

        await first()
        gc.collect()
        await until_nobody_waits(engine)
        reader = engine.results(handles, timeout=WAIT_S)
        await anext(reader)
        await until_nobody_waits(engine, somebody=True)
        await reader.aclose()
        await until_nobody_waits(engine)
        with pytest.raises(StopAsyncIteration):
            await anext(reader)
        with anyio.move_on_after(0.2):
            await engine.gather(handles)
        gc.collect()
        await until_nobody_waits(engine)
        gates[engine].set()


async def test_a_reader_is_dropped_under_any_lock(engine: Engine) -> None:
    """The garbage collector may end it in any allocation, while a thread has the locks of those who tell of results."""
    gates[engine] = anyio.Event()
    async with engine.running():
        reader = engine.results([await submit(engine, "held"), *await doubles(engine, 1)], timeout=WAIT_S)
        await anext(reader)
        told = engine._open()[1].looks
        held, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with told._lock, told._watch._lock:
                held.set()
                let_go.wait(WAIT_S)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(WAIT_S)
        del reader
        gc.collect()
        assert thread.is_alive()  # nobody had to wait for it
        let_go.set()
        thread.join()
        await until_nobody_waits(engine)
        gates[engine].set()


async def test_a_reader_holds_not_whoever_holds_it(engine: Engine) -> None:
    """An object that reads results, and makes the handles by a method of its own, is collected as any other."""

    class Owner:
        def __init__(self) -> None:
            self.reader = engine.results(self.handles())

        def handles(self) -> Iterator[JobHandle[Any]]:
            while True:
                yield endless

    async with engine.running():
        endless = (await doubles(engine, 1))[0]
        owner = Owner()
        assert 0 == (await anext(owner.reader))[1].value
        dead = weakref.ref(owner)
        del owner
        gc.collect()
        assert dead() is None
        await until_nobody_waits(engine)


@pytest.mark.parametrize("error", [Malformed("a record of version 99"), RuntimeError("anything")], ids=repr)
async def test_what_cannot_be_read_is_told_and_waited_for_no_more(
    engine: Engine, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with a record, its job's wait ends with an error of ours, and nothing is left of it."""

    def see(*_: Any) -> Any:
        raise error

    gates[engine] = anyio.Event()
    async with engine.running():
        handles = [await submit(engine, "held") for _ in range(3)]  # so that the watch has nothing to tell of them
        monkeypatch.setattr(looks, "see", see)
        found = await engine.gather(handles, timeout=WAIT_S, return_exceptions=True)
        assert [ResultUnavailable] * 3 == list(map(type, found))
        assert error is found[0].__cause__
        await until_nobody_waits(engine)
        gates[engine].set()


async def test_a_defect_of_the_watch_is_not_the_end_of_waiting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and what ends afterwards is told of all the same."""
    monkeypatch.setattr(watch, "AWAY_LONGEST_S", 0.05)
    gates[engine] = anyio.Event()
    async with engine.running():
        handle = await submit(engine, "held")
        events = engine.connection.open().events
        wait, failed = events.wait, threading.Event()

        def fail_once(*arguments: Any) -> Any:
            if not failed.is_set():
                failed.set()
                raise RuntimeError("a defect")
            return wait(*arguments)

        monkeypatch.setattr(events, "wait", fail_once)
        async with anyio.create_task_group() as group:
            group.start_soon(handle.result)
            assert await anyio.to_thread.run_sync(failed.wait, WAIT_S)
            gates[engine].set()
        assert "let go" == await handle.result(timeout=WAIT_S)
        engine.connection.close()
    assert "a defect" in caplog.text


async def test_a_cancelled_turn_loses_no_result(engine: Engine) -> None:
    """Who is cancelled while waiting for the next result gets it with the next turn."""
    gates[engine] = anyio.Event()
    async with engine.running():
        reader = engine.results([await submit(engine, "held")], timeout=WAIT_S)
        for _ in range(3):
            with anyio.move_on_after(0.05) as scope:
                await anext(reader)
            assert scope.cancelled_caught
        gates[engine].set()
        assert "let go" == (await anext(reader))[1].value


async def test_others_have_their_turn_while_results_are_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results that are all there already do not keep the loop to themselves."""
    monkeypatch.setattr(gathering, "TURN_COUNT", 10)
    async with engine.running(), anyio.create_task_group() as group:
        handles = await doubles(engine, 60)
        await engine.gather(handles, timeout=WAIT_S)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        group.start_soon(count)
        seen = set()
        async for _ in engine.results(handles, timeout=WAIT_S, ordered=True):
            seen.add(turns)
        group.cancel_scope.cancel()
    assert len(seen) >= 2


async def test_an_error_of_the_handles_own_source_is_raised(engine: Engine) -> None:
    """What an iterable of handles raises ends the reading."""

    def broken() -> Iterator[JobHandle[Any]]:
        yield handle
        raise RuntimeError("no more")

    async with engine.running():
        handle = await submit(engine, "double", 1)
        with pytest.raises(RuntimeError, match="no more"):
            await engine.gather(broken(), timeout=WAIT_S)


async def test_whoever_reads_when_the_engine_closes_is_told(engine: Engine) -> None:
    """Reading that outlives its engine's block ends with an error instead of never."""

    async def read() -> None:
        with anyio.fail_after(WAIT_S), pytest.raises(BrokerUnavailable, match="closed by this program"):
            async for _ in engine.results(handles):
                pass

    async with anyio.create_task_group() as group:
        await engine.__aenter__()
        handles = await doubles(engine, 3)
        group.start_soon(read)
        await anyio.sleep(0.2)
        await engine.__aexit__(None, None, None)


async def test_results_need_an_open_engine(engine: Engine) -> None:
    """Without its block an engine says so at once."""
    with pytest.raises(ConfigError, match="not open"):
        engine.results([])


def in_order(engine: Engine, handles: list[Any]) -> None:
    """Read in the order of the handles."""
    assert [0, 2, 4] == [r.value for _, r in engine.sync.results(handles, timeout=WAIT_S, ordered=True)]


def as_they_end(engine: Engine, handles: list[Any]) -> None:
    """Read as jobs end."""
    assert {handles[n].id: 2 * n for n in range(3)} == {
        handle.id: result.value for handle, result in engine.sync.results(handles, timeout=WAIT_S)
    }


def gathered(engine: Engine, handles: list[Any]) -> None:
    """Gather, with and without a failure."""
    assert [0, 2, 4] == engine.sync.gather(handles, timeout=WAIT_S)
    failed = engine.sync.submit("odd_only", (2,))
    with pytest.raises(JobFailed):
        engine.sync.gather([*handles, failed], timeout=WAIT_S)
    assert JobFailed is type(engine.sync.gather([*handles, failed], timeout=WAIT_S, return_exceptions=True)[3])


def left_early(engine: Engine, handles: list[Any]) -> None:
    """Break off, and run out of time."""
    for _ in engine.sync.results([*handles, engine.sync.submit("held")], timeout=WAIT_S):
        break
    assert 0 == waits_of(engine)
    with pytest.raises(WaitTimeout, match="1 of the jobs"):
        engine.sync.gather([*handles, engine.sync.submit("held")], timeout=0.2)
    assert 0 == waits_of(engine)


@pytest.mark.parametrize("reading", [in_order, as_they_end, gathered, left_early])
async def test_threads_read_results_too(engine: Engine, reading: Callable[[Engine, list[Any]], None]) -> None:
    """The blocking form gives the same, in a thread without a loop."""
    gates[engine] = anyio.Event()

    def in_a_thread() -> None:
        reading(engine, [engine.sync.submit("double", (number,)) for number in range(3)])

    async with engine.running():
        await anyio.to_thread.run_sync(in_a_thread)
        gates[engine].set()


async def test_inside_a_loop_the_blocking_form_is_refused_at_once(engine: Engine) -> None:
    """It would hold up the loop; so it is refused where it is called, not where it is read."""
    with pytest.raises(ConfigError, match="inside a running"):
        engine.sync.results([])
