"""What is promised of an engine's events: a replay, then what happens; and of `on`: told, bounded, in nobody's way."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis

from headrace import ConfigError, Engine, InvalidArguments, Retry
from headrace.config import limits
from headrace.jobs.events import Event
from headrace.workers import native
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("events")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def url(request: pytest.FixtureRequest) -> str:
    """A broker of each kind."""
    if request.param == "memory":
        return "memory://"
    found: Server = request.getfixturevalue("server")
    return found.url


@pytest.fixture
def engine(url: str) -> Engine:
    """An engine with handlers in two queues."""
    engine = Engine(url, namespace=f"events-{os.getpid()}-{os.urandom(4).hex()}", drain_timeout=5)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    @engine.job(queue="other", retry=Retry(attempts=2, delay=0.01))
    async def fail() -> None:
        raise ValueError("always")

    return engine


async def read(engine: Engine, count: int, after: str | None = "0", queue: str | None = None) -> list[Event]:
    """Return the next events, and those only that are about jobs."""
    found: list[Event] = []
    with anyio.fail_after(WAIT_S):
        async for event in engine.events(after=after, queue=queue):
            if event.id:
                found.append(event)
            if len(found) == count:
                break
    return found


async def test_events_are_replayed_from_any_cursor(engine: Engine) -> None:
    """Behind the cursor of each event come the events behind it, of all queues, none left out."""
    async with engine.running():
        handles = [await engine.submit("add", (n, n)) for n in range(5)]
        handles.append(await engine.submit("fail", queue="other"))
        everything = await read(engine, 7)
        assert {"job.succeeded": 5, "job.retrying": 1, "job.dead": 1} == {
            kind: sum(event.kind == kind for event in everything) for kind in {event.kind for event in everything}
        }
        assert {handle.id for handle in handles} == {event.id for event in everything}
        assert [("fail", 1, ""), ("fail", 2, "failed")] == [
            (event.name, event.attempt, event.reason) for event in everything if event.queue == "other"
        ]
        for seen in range(1, 7):
            rest = await read(engine, 7 - seen, after=everything[seen - 1].cursor)
            assert {(event.id, event.kind) for event in everything[seen:]} == {(e.id, e.kind) for e in rest}


async def test_a_reader_of_one_queue_sees_that_queue(engine: Engine) -> None:
    """With queue= only that queue's events come."""
    async with engine.running():
        await engine.submit("add", (1, 2))
        await engine.submit("fail", queue="other")
        assert ["job.retrying", "job.dead"] == [event.kind for event in await read(engine, 2, queue="other")]


async def test_without_a_cursor_only_what_happens_now_comes(engine: Engine) -> None:
    """events() tells what happens from then on, as it happens, worker and job; not what was before."""
    async with engine.running():
        await (await engine.submit("add", (1, 2))).result(timeout=WAIT_S)
    got: list[Event] = []
    began = anyio.Event()
    async with engine, anyio.create_task_group() as group:

        async def follow() -> None:
            async for event in engine.events(queue="default"):
                got.append(event)
                began.set()

        group.start_soon(follow)
        with anyio.fail_after(WAIT_S):
            while not got:  # the reader is there once it sees a worker begin
                async with engine.running():
                    await anyio.sleep(0.05)
            seen = len(got)
            async with engine.running():
                handle = await engine.submit("add", (3, 4))
                await handle.result(timeout=WAIT_S)
            while "worker.stopped" not in {event.kind for event in got[seen:]}:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    jobs = [event.id for event in got if event.kind == "job.succeeded"]
    assert [handle.id] == jobs


@pytest.mark.redis_core
async def test_a_reader_survives_reconnects(server: Server) -> None:
    """Connections that are cut again and again cost a reader no event."""
    engine = Engine(server.url, namespace=f"events-{os.urandom(4).hex()}", drain_timeout=5)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        async with engine.running(), anyio.create_task_group() as group:
            got: list[Event] = []

            async def follow() -> None:
                got.extend(await read(engine, 20))

            group.start_soon(follow)
            for number in range(20):
                await engine.submit("add", (number, 1))
                for each in client.client_list():
                    if each["name"] in {"headrace:events", "headrace:any"}:
                        client.client_kill_filter(_id=each["id"])
                await anyio.sleep(0.01)
    assert 20 == len({event.id for event in got})


async def test_wrong_cursors_and_queues_are_refused(engine: Engine) -> None:
    """What is no cursor, or no queue's name, raises InvalidArguments at the first event."""
    async with engine:
        for wrong in ({"after": "yesterday"}, {"queue": "no such: queue"}):
            with pytest.raises(InvalidArguments):
                await anext(engine.events(**wrong))  # type: ignore[arg-type]


async def test_on_hears_what_this_worker_settles(engine: Engine) -> None:
    """Functions of `on`, async and plain, are called with the events of their kinds; a plain one in a thread."""
    heard: list[tuple[str, str]] = []
    threads: list[threading.Thread] = []

    @engine.on("job.succeeded", "job.dead", "worker.started")
    async def note(event: Event) -> None:
        heard.append((event.kind, event.name))

    @engine.on("job.dead")
    def note_in_thread(event: Event) -> None:
        threads.append(threading.current_thread())
        assert "failed" == event.reason

    async with engine.running():
        await engine.submit("add", (1, 2))
        await engine.submit("fail", queue="other")
        with anyio.fail_after(WAIT_S):
            while not threads:
                await anyio.sleep(0.01)
        assert 0 == engine.statistics().backpressure.sinks["on"].errors
    assert [("job.dead", "fail"), ("job.succeeded", "add")] == sorted(heard)[:2]
    assert {"worker.started"} == {kind for kind, _ in sorted(heard)[2:]}
    assert threading.main_thread() is not threads[0]


async def test_on_stands_in_nobodys_way(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that hangs or fails stops no job; events above the bound are dropped and counted."""
    monkeypatch.setattr(limits, "EVENT_HANDLERS_BACKLOG_COUNT", 10)
    release = anyio.Event()

    @engine.on("job.succeeded")
    async def hang(event: Event) -> None:
        await release.wait()
        raise RuntimeError("a defect of the user's")

    async with engine.running():
        handles = [await engine.submit("add", (n, n)) for n in range(30)]
        assert [2 * n for n in range(30)] == [await handle.result(timeout=WAIT_S) for handle in handles]
        with anyio.fail_after(WAIT_S):
            while engine.statistics().backpressure.sinks["on"].dropped < 20:
                await anyio.sleep(0.01)
            release.set()
            while engine.statistics().backpressure.sinks["on"].errors < 10:
                await anyio.sleep(0.01)


async def test_a_plain_on_that_never_returns_is_left_behind(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails after its time and the telling goes on; with four such threads no more are called, until one returns."""
    monkeypatch.setattr(limits, "EVENT_HANDLER_TIMEOUT_S", 0.2)
    release = threading.Event()
    calls: list[str] = []
    heard: list[str] = []

    @engine.on("job.succeeded")
    def hang(event: Event) -> None:
        calls.append(event.id)
        release.wait(WAIT_S)

    @engine.on("job.succeeded")
    async def note(event: Event) -> None:
        heard.append(event.id)

    async with engine.running():
        with anyio.fail_after(WAIT_S / 2):
            handles = [await engine.submit("add", (n, n)) for n in range(7)]
            while len(heard) < 7:
                await anyio.sleep(0.01)
            figures = engine.statistics().backpressure.sinks["on"]
            assert (4, 4, 3) == (len(calls), figures.errors, figures.dropped)
            release.set()
            while len(calls) < 5:
                handles.append(await engine.submit("add", (1, 1)))
                while len(heard) < len(handles):
                    await anyio.sleep(0.01)
    assert {handle.id for handle in handles} == set(heard)


async def stray_cancellation(event: Event) -> None:
    """Wait for something that somebody else cancels."""
    if native.on_asyncio():
        waiting = asyncio.ensure_future(asyncio.sleep(WAIT_S))
        waiting.cancel()
        await waiting
    raise asyncio.CancelledError


async def own_cancellation(event: Event) -> None:
    """Cancel the coroutine that it runs in, and wait."""
    if native.on_asyncio():
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
    await anyio.lowlevel.checkpoint()
    raise ValueError("there is no such thing on trio")


async def own_late_cancellation(event: Event) -> None:
    """Cancel the coroutine that it runs in, and be gone when that comes."""
    if native.on_asyncio():
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
    else:
        raise ValueError("there is no such thing on trio")


async def group_of_exits(event: Event) -> None:
    """Leave by an exception of two that are none of Exception's."""
    raise BaseExceptionGroup("both", [SystemExit(1), KeyboardInterrupt()])


class Unsayable(BaseException):
    """An exception that ends whoever wants to print it."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


async def unsayable(event: Event) -> None:
    """Raise what cannot be printed."""
    raise Unsayable


async def open_scope(event: Event) -> None:
    """Leave a cancel scope open, and cancelled."""
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()
    raise ValueError("and fail")


def raising(error: type[BaseException], *, plain: bool) -> Callable[[Event], Any]:
    """Return a function that raises it."""

    def fail(event: Event) -> None:
        raise error

    async def fail_async(event: Event) -> None:
        fail(event)

    return fail if plain else fail_async


WICKED: dict[str, Callable[[Event], Any]] = {
    function.__name__: function
    for function in (stray_cancellation, own_cancellation, own_late_cancellation, group_of_exits, unsayable, open_scope)
} | {
    f"{error.__name__} {'plain' if plain else 'async'}": raising(error, plain=plain)
    for error in (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration)
    for plain in (True, False)
}


@pytest.mark.parametrize("wicked", WICKED.values(), ids=WICKED)
async def test_whatever_on_raises_ends_nothing(wicked: Callable[[Event], Any]) -> None:
    """Exits and cancellations of a function's own making are logged and counted; the worker and the telling go on."""
    engine = Engine("memory://", drain_timeout=5)
    heard: list[str] = []

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    engine.on("job.succeeded")(wicked)

    @engine.on("job.succeeded")
    async def note(event: Event) -> None:
        heard.append(event.id)

    async with engine.running():
        handles = [await engine.submit("add", (number, 1)) for number in range(3)]
        assert [1, 2, 3] == [await handle.result(timeout=WAIT_S) for handle in handles]
        with anyio.fail_after(WAIT_S):
            while len(heard) < 3:
                await anyio.sleep(0.01)
        assert 3 == engine.statistics().backpressure.sinks["on"].errors
    assert [handle.id for handle in handles] == heard


async def test_a_hanging_on_ends_with_its_worker(engine: Engine) -> None:
    """A function that waits for ever sees the worker's end as a cancellation, and is not counted as failed."""
    seen: list[BaseException] = []
    began = anyio.Event()

    @engine.on("job.succeeded")
    async def hang(event: Event) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            seen.append(error)
            raise

    with anyio.fail_after(WAIT_S):
        async with engine.running():
            await engine.submit("add", (1, 2))
            await began.wait()
            worker = engine._worker
            assert worker is not None
    assert [anyio.get_cancelled_exc_class()] == [type(error) for error in seen]
    assert 0 == worker._telling.statistics().errors


def test_on_knows_its_kinds(engine: Engine) -> None:
    """A kind that does not exist, or none at all, is a ConfigError that names those that do."""
    for kinds in (("job.done",), ()):
        with pytest.raises(ConfigError, match=r"job\.succeeded"):
            engine.on(*kinds)
