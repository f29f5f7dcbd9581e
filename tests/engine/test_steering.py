"""What operators and producers may ask of jobs and queues while an engine works, on both brokers and both loops."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec
import pytest

from headrace import Context, Engine, JobCancelled, JobNotFound
from headrace.engine import admin, inspect
from headrace.engine.broker.control import OpenBroker
from headrace.engine.broker.port import Bound, Submission
from headrace.engine.loops import gatherer
from headrace.engine.loops.gatherer import BatchWork
from headrace.engine.loops.worker import Worker
from headrace.jobs.batch import BatchRule
from headrace.jobs.codec import EnvelopeOptions, pack_envelope
from headrace.workers.pool import Pool
from headrace.workers.prefetch import Prefetch
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0
#: A running job is promised to be told within 100 ms; a busy machine of two cores is given more.
SOON_S = 1.0
_numbers = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("steering")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def url(request: pytest.FixtureRequest) -> str:
    """A broker of each kind, that several engines of a test share."""
    if request.param == "memory":
        return f"memory://steering-{next(_numbers)}"
    server: Server = request.getfixturevalue("server")
    return server.url


@pytest.fixture
def namespace() -> str:
    """Keys of this test's own."""
    return f"steering-{next(_numbers)}"


class Stage:
    """What handlers and tests tell each other."""

    def __init__(self) -> None:
        self.started = 0
        self.ran: list[int] = []
        self.ended: list[str] = []
        self.go = threading.Event()

    async def until(self, seen: Callable[[], object], within_s: float = WAIT_S) -> None:
        with anyio.fail_after(within_s):
            while not seen():
                await anyio.sleep(0.002)


def hang(path: str) -> None:
    """Run in a child process until it is killed."""
    Path(path).write_text("started")
    time.sleep(WAIT_S)


def measure_in_process(ctx: Context, path: str) -> None:
    """Say in a child process how far it is: often, and once more right before the return."""
    for done in range(5000):
        ctx.progress(done, 4999)
    while not Path(path).exists():
        time.sleep(0.001)
    ctx.progress(5000)


def make(url: str, namespace: str, stage: Stage, **settings: Any) -> Engine:
    """Return an engine with handlers that wait to be told to go on."""
    engine = Engine(url, namespace=namespace, drain_timeout=1, process_slots=1, **settings)

    @engine.job(timeout=0)
    async def sleep() -> None:
        stage.started += 1
        try:
            await anyio.sleep_forever()
        finally:
            stage.ended.append("sleep")

    @engine.job
    async def note(number: int) -> int:
        stage.ran.append(number)
        return number

    @engine.job(queue="threads")
    def look(ctx: Context) -> None:
        stage.started += 1
        while not stage.go.wait(0.005):
            ctx.check_cancelled()

    @engine.job(queue="threads")
    def ignore() -> str:
        stage.started += 1
        stage.go.wait(WAIT_S)
        return "done"

    @engine.job
    async def measure(ctx: Context) -> None:
        for done in range(5):
            ctx.progress(done, 4)
        stage.started += 1
        while not stage.go.is_set():
            await anyio.sleep(0.005)
        ctx.progress(4.5)

    @engine.job(queue="threads")
    def measure_in_thread(ctx: Context) -> None:
        ctx.progress(7, 9)
        stage.started += 1
        stage.go.wait(WAIT_S)

    engine.job(runner="process")(hang)
    engine.job(runner="process")(measure_in_process)
    return engine


@pytest.fixture
def stage() -> Iterator[Stage]:
    """What handlers and tests tell each other; no thread stays behind."""
    stage = Stage()
    yield stage
    stage.go.set()


@pytest.fixture
def engine(url: str, namespace: str, stage: Stage) -> Engine:
    """The engine, not running."""
    return make(url, namespace, stage)


class Deep(Prefetch):
    """Takes in more than the pool's speed asks for."""

    def observe(self, now_s: float, done_count: int) -> int:
        self.depth = 5
        return 5


def hoarder(engine: Engine) -> tuple[Worker, Pool]:
    """Have the engine's worker hold jobs beyond its free slots; return it and its pool."""
    worker = engine._worker
    assert worker is not None
    pool = worker.dispatcher.pools["async"]
    worker._fetcher._prefetch[pool] = Deep()
    return worker, pool


@asynccontextmanager
async def opened(engine: Engine) -> AsyncIterator[OpenBroker]:
    """Give the engine's broker."""
    broker = await anyio.to_thread.run_sync(engine.connection.open)
    try:
        yield broker
    finally:
        await anyio.to_thread.run_sync(engine.connection.close)


async def test_a_job_that_waits_is_cancelled(engine: Engine, stage: Stage) -> None:
    """A queued and a delayed job end at once, their waiters hear JobCancelled, and no worker starts them later."""
    async with engine:
        handles = [await engine.submit("note", (1,)), await engine.submit("note", (2,), delay=0.05)]
        assert [True, True] == [await handle.cancel() for handle in handles]
        assert [False, False] == [await handle.cancel() for handle in handles]
        for handle in handles:
            with pytest.raises(JobCancelled):
                await handle.result(timeout=WAIT_S)
        async with engine.running():
            last = await engine.submit("note", (3,), delay=0.1)
            assert 3 == await last.result(timeout=WAIT_S)
    assert [3] == stage.ran


async def test_a_running_coroutine_is_cancelled(engine: Engine, stage: Stage) -> None:
    """The handler sees the cancellation, its `finally` runs, and the job is cancelled: it is not tried again."""
    async with engine.running():
        handle = await engine.submit("sleep")
        await stage.until(lambda: stage.started)
        assert await handle.cancel()
        await stage.until(lambda: stage.ended, SOON_S)
        with pytest.raises(JobCancelled):
            await handle.result(timeout=WAIT_S)
        assert "cancelled" == await handle.status()
        assert not await handle.cancel()
        assert 1 == await (await engine.submit("note", (1,))).result(timeout=WAIT_S)
    assert 1 == stage.started


async def test_a_running_process_is_killed(engine: Engine, tmp_path: Path) -> None:
    """The child that runs the job is ended, and the job is cancelled, not crashed."""
    async with engine.running():
        handle = await engine.submit("hang", (str(tmp_path / "mark"),))
        await Stage().until((tmp_path / "mark").exists)
        assert await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(timeout=WAIT_S)


async def test_a_thread_that_looks_is_cancelled(engine: Engine, stage: Stage) -> None:
    """`ctx.check_cancelled()` raises in a thread whose job was cancelled."""
    async with engine.running():
        handle = await engine.submit("look")
        await stage.until(lambda: stage.started)
        assert await handle.cancel()
        with pytest.raises(JobCancelled):
            await handle.result(timeout=WAIT_S)


async def test_a_thread_that_does_not_look_ends_as_it_ends(engine: Engine, stage: Stage) -> None:
    """The recorded outcome stands: a thread that returns although it was told to stop has succeeded."""
    async with engine.running():
        handle = await engine.submit("ignore")
        await stage.until(lambda: stage.started)
        assert await handle.cancel()
        stage.go.set()
        assert "done" == await handle.result(timeout=WAIT_S)
        assert not await handle.cancel()


async def test_a_prefetched_job_is_cancelled(url: str, namespace: str, stage: Stage) -> None:
    """A job that a worker has taken but not started ends without a start."""
    engine = make(url, namespace, stage, slots=1)
    async with engine.running():
        blocker = await engine.submit("sleep")
        await stage.until(lambda: stage.started)
        _, pool = hoarder(engine)
        waiting = await engine.submit("note", (1,))
        await stage.until(lambda: pool.ready)
        assert await waiting.cancel()
        with pytest.raises(JobCancelled):
            await waiting.result(timeout=WAIT_S)
        assert await blocker.cancel()
    assert [] == stage.ran


async def test_an_unknown_job_is_not_cancelled(engine: Engine) -> None:
    """An id that never was raises JobNotFound."""
    async with engine:
        with pytest.raises(JobNotFound):
            await engine.handle("default:1-0").cancel()


async def test_a_paused_queue_waits(engine: Engine, stage: Stage) -> None:
    """No job of a paused queue starts, submitting goes on, other queues go on, and a resume starts them at once."""
    async with opened(engine) as broker, engine.running():
        running = await engine.submit("look")
        await stage.until(lambda: stage.started)
        await anyio.to_thread.run_sync(admin.pause, broker, "threads")
        worker = engine._worker
        assert worker is not None
        await stage.until(lambda: "threads" in worker._steering._paused)
        await anyio.sleep(0.1)  # fetches that began before have come home
        later = await engine.submit("ignore")
        assert 1 == await (await engine.submit("note", (1,))).result(timeout=WAIT_S)
        assert "queued" == await later.status()
        assert "running" == await running.status()
        await anyio.to_thread.run_sync(admin.resume, broker, "threads")
        await stage.until(lambda: stage.started == 2)
        stage.go.set()
        assert "done" == await later.result(timeout=WAIT_S)


async def test_a_worker_that_starts_finds_the_pause(engine: Engine, stage: Stage) -> None:
    """A worker that comes later leaves a paused queue alone from its first fetch on, and is not stalled by it."""
    async with opened(engine) as broker, engine:
        await anyio.to_thread.run_sync(admin.pause, broker, "default")
        handle = await engine.submit("note", (1,))
        async with engine.running(queues={"default": 1}):
            await anyio.sleep(0.1)
            assert "queued" == await handle.status()
            await stage.until(lambda: inspect.workers(broker))
            assert [] == inspect.stalled_queues(inspect.workers(broker))
            await anyio.to_thread.run_sync(admin.resume, broker, "default")
            assert 1 == await handle.result(timeout=WAIT_S)


async def test_a_burst_leaves_a_paused_queue(engine: Engine) -> None:
    """A worker that ends when its queues are empty does not wait for what nobody may start."""
    async with opened(engine) as broker, engine:
        await anyio.to_thread.run_sync(admin.pause, broker, "default")
        handle = await engine.submit("note", (1,))
        with anyio.fail_after(WAIT_S):
            await engine.run(burst=True)
        assert "queued" == await handle.status()


async def test_waiters_of_purged_jobs_do_not_hang(engine: Engine) -> None:
    """Who waits for a job that an operator purged hears JobCancelled."""
    async with opened(engine) as broker, engine:
        handles = [await engine.submit("note", (n,)) for n in range(3)]
        assert admin.Purged("default", 3) == await anyio.to_thread.run_sync(admin.purge, broker, "default")
        for handle in handles:
            with pytest.raises(JobCancelled):
                await handle.result(timeout=WAIT_S)


@pytest.mark.parametrize(
    ("name", "first", "last"), [("measure", (4, 4), (4.5, None)), ("measure_in_thread", (7, 9), (7, 9))]
)
async def test_progress_is_seen_from_elsewhere(
    engine: Engine, stage: Stage, name: str, first: object, last: object
) -> None:
    """The newest progress of a running job is seen by its handle and in its record, also after its end."""
    async with opened(engine) as broker, engine.running():
        handle = await engine.submit(name)
        await stage.until(lambda: stage.started)
        with anyio.fail_after(WAIT_S):
            while first != await handle.progress():
                await anyio.sleep(0.01)
        stage.go.set()
        await handle.result(timeout=WAIT_S)
        with anyio.fail_after(WAIT_S):
            while last != await handle.progress():
                await anyio.sleep(0.01)
        shown = await anyio.to_thread.run_sync(inspect.job, broker, handle.id)
        assert last == (shown["progress"].done, shown["progress"].total)
        silent = await engine.submit("note", (1,))
        assert await silent.progress() is None


async def test_progress_is_seen_from_a_child_process(engine: Engine, tmp_path: Path) -> None:
    """What a process handler says is seen while it runs; what it said last is seen after its end."""
    async with engine.running():
        handle = await engine.submit("measure_in_process", (str(tmp_path / "go"),))
        for expected in ((4999, 4999), (5000, None)):
            with anyio.fail_after(WAIT_S):
                while expected != await handle.progress():
                    await anyio.sleep(0.01)
            (tmp_path / "go").touch()
        await handle.result(timeout=WAIT_S)


async def test_odd_numbers_of_progress_harm_nobody(stage: Stage) -> None:
    """Numbers of other types, or longer than can be sent, are seen as what they are worth; the worker goes on."""
    engine = Engine(f"memory://steering-{next(_numbers)}", drain_timeout=1)

    class Share(float):
        pass

    @engine.job
    async def tell(ctx: Context) -> None:
        ctx.progress(Share(0.5), 2**70)

    async with engine.running():
        handle = await tell.submit()
        await handle.result(timeout=WAIT_S)
        with anyio.fail_after(WAIT_S):
            while await handle.progress() is None:
                await anyio.sleep(0.01)
        assert (0.5, float(2**70)) == await handle.progress()


def test_progress_takes_numbers() -> None:
    """What is no number is the handler's mistake, and is said where it is made."""
    from headrace.workers.context import JobInfo

    ctx = Context(JobInfo("default:1-0", "x"))
    ctx.progress(1)
    for wrong in ("half", True, None):
        with pytest.raises(TypeError, match="takes numbers"):
            ctx.progress(wrong)  # type: ignore[arg-type]


async def test_given_back_jobs_start_elsewhere_at_once(url: str, namespace: str) -> None:
    """A job that a stopping worker had not started runs in another worker well within a second."""
    ours, theirs = Stage(), Stage()
    first, second = make(url, namespace, ours, slots=1), make(url, namespace, theirs, slots=5)
    async with first, first.running(queues={"default": 1}):
        await first.submit("sleep")
        await ours.until(lambda: ours.started)
        worker, pool = hoarder(first)
        await first.submit("note", (1,))
        await ours.until(lambda: pool.ready)
        async with second.running(queues={"default": 1}):
            worker._fetcher.pause(frozenset({"default"}))  # what it gives back is for the other one
            worker._steering._give_back(lambda job: True)
            await theirs.until(lambda: theirs.ran, SOON_S)
            assert [] == ours.ran


async def test_what_waits_too_long_for_a_slot_goes_back(url: str, namespace: str) -> None:
    """A job that waited for `prefetch_ttl` in a busy worker is started by another one."""
    ours, theirs = Stage(), Stage()
    first = make(url, namespace, ours, slots=1, prefetch_ttl="100ms")
    second = make(url, namespace, theirs, slots=5)
    async with first, first.running(queues={"default": 1}):
        await first.submit("sleep")
        await ours.until(lambda: ours.started)
        worker, pool = hoarder(first)
        waiting = await first.submit("note", (1,))
        await ours.until(lambda: pool.ready)
        worker._fetcher.pause(frozenset({"default"}))  # what it gave back is for the other one
        async with second.running(queues={"default": 1}):
            assert 1 == await waiting.result(timeout=WAIT_S)
    assert ([], [1]) == (ours.ran, theirs.ran)


class Rows:
    """An engine with a handler that takes its jobs by fifties, and what it was called with."""

    def __init__(self, url: str, namespace: str, linger_s: float, **settings: Any) -> None:
        self.calls: list[list[int]] = []
        self.engine = Engine(url, namespace=namespace, drain_timeout=1, **settings)
        self.blocked = anyio.Event()

        @self.engine.job(batch=50, batch_linger=linger_s, queue="rows")
        async def index(rows: list[int]) -> list[int]:
            self.calls.append(rows)
            return rows

        @self.engine.job(queue="blocks")
        async def block() -> None:
            self.blocked.set()
            await anyio.sleep_forever()

    def gathered(self) -> int:
        """Return how many jobs wait for company in the running worker."""
        worker = self.engine._worker
        assert worker is not None
        assert worker._gathering is not None
        return worker._gathering.waiting

    async def until_gathered(self, count: int) -> None:
        with anyio.fail_after(WAIT_S):
            while self.gathered() != count:
                await anyio.sleep(0.002)


#: Longer than any of these tests may take: what ends before it did not wait for company.
LINGER_S = 3 * WAIT_S


async def test_a_job_that_lingers_for_a_batch_is_cancelled(url: str, namespace: str) -> None:
    """It ends at once as cancelled and is never started; those that linger with it go on lingering."""
    rows = Rows(url, namespace, LINGER_S, prefetch_ttl=LINGER_S)
    async with rows.engine.running():
        first, second, third = [await rows.engine.submit("index", (number,), queue="rows") for number in range(3)]
        await rows.until_gathered(3)
        assert 3 == rows.engine.statistics().backpressure.prefetched
        assert await second.cancel()
        with pytest.raises(JobCancelled):
            await second.result(timeout=WAIT_S)
        assert 2 == rows.gathered()
        assert not await second.cancel()
        assert ["running", "cancelled", "running"] == [await each.status() for each in (first, second, third)]
    assert [] == rows.calls
    assert ["queued", "cancelled", "queued"] == await statuses(rows.engine, [first, second, third])


async def statuses(engine: Engine, handles: list[Any]) -> list[str]:
    """Return where jobs are, by an engine that is opened for it."""
    async with engine:
        return [await engine.handle(handle.id).status() for handle in handles]


async def test_a_job_whose_batch_waits_for_a_slot_is_cancelled(
    url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that was not started loses the jobs that are cancelled, and one that lost them all is never called."""
    monkeypatch.setattr(gatherer, "HOLD_S", 0.01)
    rows = Rows(url, namespace, 0.01, slots=2, prefetch_ttl=LINGER_S)
    async with rows.engine.running(queues={"rows": 1, "blocks": 1}):
        blocker = await rows.engine.submit("block", queue="blocks")
        with anyio.fail_after(WAIT_S):
            await rows.blocked.wait()
        worker = rows.engine._worker
        assert worker is not None
        pool = worker.dispatcher.pools["async"]
        monkeypatch.setattr(pool, "_wake", lambda count=1: None)  # the free slot takes nothing yet
        handles = [await rows.engine.submit("index", (number,), queue="rows") for number in range(2)]
        with anyio.fail_after(WAIT_S):
            while 2 != sum(len(work.items) for work in pool.ready if isinstance(work, BatchWork)):
                await anyio.sleep(0.002)
        for handle in handles:
            assert await handle.cancel()
            with pytest.raises(JobCancelled):
                await handle.result(timeout=WAIT_S)
        assert not pool.ready
        await blocker.cancel()
    assert [] == rows.calls


async def test_a_pause_sends_back_what_lingers(url: str, namespace: str) -> None:
    """Jobs of a paused queue that wait for company go back at once, and run after its end."""
    rows = Rows(url, namespace, LINGER_S, prefetch_ttl=LINGER_S)
    async with opened(rows.engine) as broker, rows.engine.running():
        handle = await rows.engine.submit("index", (1,), queue="rows")
        await rows.until_gathered(1)
        await anyio.to_thread.run_sync(admin.pause, broker, "rows")
        await rows.until_gathered(0)
        with anyio.fail_after(WAIT_S):
            while "queued" != await handle.status():
                await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(admin.resume, broker, "rows")
        await rows.until_gathered(1)
    assert [] == rows.calls


async def test_a_linger_beyond_prefetch_ttl_ends_with_it(url: str, namespace: str) -> None:
    """Where batch_linger is longer than prefetch_ttl, a lone job starts when that is over, as a slot is free."""
    rows = Rows(url, namespace, LINGER_S, prefetch_ttl="200ms")
    async with rows.engine.running():
        assert 7 == await (await rows.engine.submit("index", (7,), queue="rows")).result(timeout=WAIT_S)
    assert [[7]] == rows.calls


async def test_what_lingers_too_long_without_a_slot_goes_back(url: str, namespace: str) -> None:
    """With no slot free for its call, a job that waited for `prefetch_ttl` runs in another worker."""
    ours = Rows(url, namespace, 0.01, slots=1, prefetch_ttl="200ms")
    theirs = Rows(url, namespace, 0.01, slots=5)
    async with ours.engine.running(queues={"rows": 1, "blocks": 1}):
        worker = ours.engine._worker
        assert worker is not None
        handle = await ours.engine.submit("index", (1,), queue="rows", delay=0.1)
        # Taken before the only slot is; a fetch that knows of no room would leave it in the queue.
        gathering = worker._gathering
        assert gathering is not None
        gathering._gatherers[worker._handlers["index"]]._rule = BatchRule(count=50, age_s=LINGER_S, count_max=50)
        await ours.until_gathered(1)
        blocker = await ours.engine.submit("block", queue="blocks")
        with anyio.fail_after(WAIT_S):
            await ours.blocked.wait()
        async with theirs.engine.running(queues={"rows": 1}):
            assert 1 == await handle.result(timeout=WAIT_S)
        await blocker.cancel()
    assert ([], [[1]]) == (ours.calls, theirs.calls)


async def test_a_suspect_that_waits_for_its_turn_is_cancelled(url: str, namespace: str) -> None:
    """A job that may be what kills workers, and waits for another such job to end, is cancelled at once, unstarted."""
    engine = Engine(url, namespace=namespace, drain_timeout=1)
    started: list[int] = []

    @engine.job
    async def hang(number: int) -> None:
        started.append(number)
        await anyio.sleep_forever()

    def publish(broker: OpenBroker, number: int) -> str:
        options = EnvelopeOptions(deliveries=3)
        body = pack_envelope("hang", msgspec.msgpack.encode([number]), options=options)
        return broker.publish("default", [Submission(body)], f"t{number}", Bound())[0]

    async with opened(engine) as broker, engine.running():
        first = await anyio.to_thread.run_sync(publish, broker, 1)
        await Stage().until(lambda: started)
        second = await anyio.to_thread.run_sync(publish, broker, 2)
        worker = engine._worker
        assert worker is not None
        await Stage().until(lambda: worker._suspects.waiting)
        assert await engine.handle(second).cancel()
        with pytest.raises(JobCancelled):
            await engine.handle(second).result(timeout=WAIT_S)
        assert 0 == worker._suspects.waiting
        third = await anyio.to_thread.run_sync(publish, broker, 3)
        await Stage().until(lambda: worker._suspects.waiting)
        assert await engine.handle(first).cancel()
        await Stage().until(lambda: 3 in started)
        assert await engine.handle(third).cancel()
    assert [1, 3] == started
