"""The three counters: attempts, starts and interruptions are never mixed, and each run has a fence of its own."""

import os
from collections.abc import Iterator

import anyio
import pytest

from headrace import Context, Engine, JobCrashed, JobExpired, Retry
from headrace.engine import inspect
from headrace.engine.broker.memory_state import _named
from headrace.engine.broker.port import Registration
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("counters")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A broker of each kind, which engines that come one after the other share."""
    if request.param == "server":
        found: Server = request.getfixturevalue("server")
        yield found.url
        return
    yield "memory://counters"
    _named.pop("counters", None)


class Stage:
    """Engines of one namespace, one after the other, whose handlers say what they were given."""

    def __init__(self, url: str, **options: object) -> None:
        self.url = url
        self.namespace = f"counters-{os.urandom(4).hex()}"
        self.options = options
        self.seen: list[tuple[int, int, tuple[str, int]]] = []
        self.started = anyio.Event()
        self.patient = True

    def engine(self, **settings: object) -> Engine:
        """Return an engine that lets nobody finish in its drain."""
        engine = Engine(self.url, namespace=self.namespace, drain_timeout=0, **settings)

        @engine.job(**self.options)  # type: ignore[call-overload]
        async def work(ctx: Context) -> str:
            self.seen.append((ctx.attempt, ctx.deliveries, ctx.fence))
            self.started.set()
            if self.patient:
                await anyio.sleep(WAIT_S)
            return "done"

        return engine

    async def interrupted(self, **submission: object) -> str:
        """Have a job started, and its worker stopped in the midst of it; return its id."""
        engine = self.engine()
        async with engine.running():
            job_id = (await engine.submit("work", **submission)).id
            with anyio.fail_after(WAIT_S):
                await self.started.wait()
        self.patient = False
        return job_id


async def test_an_interrupted_job_starts_again_with_a_new_fence(url: str) -> None:
    """A drain uses up no attempt, counts one interruption, and the second run's fencing token is greater."""
    stage = Stage(url)
    job_id = await stage.interrupted()
    engine = stage.engine()
    async with engine:
        broker = engine.connection.open()
        waiting = inspect.job(broker, job_id)
        assert ("queued", 0, 1, 1) == (
            waiting["status"], waiting["attempts"], waiting["deliveries"], waiting["interruptions"],
        )  # fmt: skip
        async with engine.running():
            assert "done" == await engine.handle(job_id).result(timeout=WAIT_S)
        ended = inspect.job(broker, job_id)
        engine.connection.close()
    assert [(1, 1, (job_id, 1)), (1, 2, (job_id, 2))] == stage.seen
    assert (1, 2, 1) == (ended["attempts"], ended["deliveries"], ended["interruptions"])


async def test_interruptions_are_no_crashes(url: str) -> None:
    """However often a job is interrupted, it is not given up for having killed its workers."""
    stage = Stage(url, max_deliveries=2)
    job_id = await stage.interrupted()
    for turn in range(2, 6):
        stage.patient, stage.started = True, anyio.Event()
        async with stage.engine().running():
            with anyio.fail_after(WAIT_S):
                await stage.started.wait()
        assert turn == len(stage.seen)
    stage.patient = False
    engine = stage.engine()
    async with engine.running():
        assert "done" == await engine.handle(job_id).result(timeout=WAIT_S)
    assert [fence for *_, fence in stage.seen] == [(job_id, number) for number in range(1, 7)]
    assert {1} == {attempt for attempt, *_ in stage.seen}


async def test_interruptions_follow_a_job_to_its_next_try(url: str) -> None:
    """After an interruption and a failed attempt the fence goes on growing and the record has both counts."""
    stage = Stage(url)
    engine = Engine(url, namespace=stage.namespace, drain_timeout=0)
    seen: list[tuple[int, int]] = []
    started = anyio.Event()

    def declare(engine: Engine, *, stuck: bool) -> None:
        @engine.job(retry=Retry(attempts=2, delay=0, jitter=0))
        async def work(ctx: Context) -> int:
            seen.append((ctx.attempt, ctx.deliveries))
            started.set()
            if stuck:
                await anyio.sleep(WAIT_S)
            if ctx.attempt == 1:
                raise ValueError("once")
            return ctx.deliveries

    declare(engine, stuck=True)
    async with engine.running():
        job_id = (await engine.submit("work")).id
        with anyio.fail_after(WAIT_S):
            await started.wait()
    engine = Engine(url, namespace=stage.namespace, drain_timeout=0)
    declare(engine, stuck=False)
    async with engine.running():
        assert 3 == await engine.handle(job_id).result(timeout=WAIT_S)
        broker = engine.connection.open()
        record = inspect.job(broker, job_id)
        engine.connection.close()
    assert [(1, 1), (1, 2), (2, 3)] == seen
    assert (2, 3, 1) == (record["attempts"], record["deliveries"], record["interruptions"])


async def test_what_must_never_start_twice_is_given_up_when_it_is_stopped(url: str) -> None:
    """With on_crash="dead" a job that a drain stops in its midst is a dead letter that says so; it starts no more."""
    stage = Stage(url, on_crash="dead")
    job_id = await stage.interrupted()
    engine = stage.engine()
    async with engine.running():
        with pytest.raises(JobCrashed, match="stopped in its midst"):
            await engine.handle(job_id).result(timeout=WAIT_S)
    assert 1 == len(stage.seen)


async def test_what_must_never_start_twice_is_not_taken_before_it_can_start(url: str) -> None:
    """Of such jobs a worker has no more in hand than it runs, so that its death gives up no other."""
    engine = Engine(url, namespace=f"careful-{os.urandom(4).hex()}", drain_timeout=0, slots=2)
    release, count = anyio.Event(), 0

    @engine.job(on_crash="dead")
    async def pay() -> None:
        nonlocal count
        count += 1
        if count > 500:  # quick until the worker would fetch ahead
            await release.wait()

    async with engine.running():
        await pay.submit_many(() for _ in range(600))
        with anyio.fail_after(WAIT_S):
            while count < 502:
                await anyio.sleep(0.01)
        await anyio.sleep(0.2)
        broker = engine.connection.open()
        view = broker.queues(["default"])[0]
        engine.connection.close()
        assert (2, 98) == (view.running, view.queued)
        release.set()


async def test_an_interrupted_job_is_not_too_late(url: str) -> None:
    """Once a job was started in time its expiry is over: it does not end as expired because a drain stopped it."""
    for options, submission in (({"expires": 0.3}, {}), ({}, {"expires": 0.3})):
        stage = Stage(url, **options)
        job_id = await stage.interrupted(**submission)
        await anyio.sleep(0.4)
        engine = stage.engine()
        async with engine.running():
            assert "done" == await engine.handle(job_id).result(timeout=WAIT_S)


async def test_a_late_job_of_an_unknown_handler_is_expired(url: str) -> None:
    """Its time is over whether or not a worker knows its name."""
    engine = Stage(url).engine()
    async with engine.running():
        handle = await engine.submit("nobody", expires=1.0)
        with pytest.raises(JobExpired):
            await handle.result(timeout=WAIT_S)


async def test_a_crashed_jobs_letter_counts_its_tries(url: str) -> None:
    """A job that failed once and then killed its workers made two tries, and its record is kept as it asked for."""
    stage = Stage(url, max_deliveries=1, result_ttl="1h")
    engine = stage.engine()
    async with engine:
        broker = engine.connection.open()
        job_id = (await engine.submit("work")).id
        broker.register(Registration("dead", ("default",), 30.0))
        (lease,) = broker.fetch({"default": 1}, 1.0)
        assert job_id == lease.job_id
        broker.unregister()
        other = Engine(url, namespace=stage.namespace, drain_timeout=0, lease="1s")

        @other.job(name="work", max_deliveries=1, result_ttl="1h")
        async def work() -> None:
            raise AssertionError("not started again")

        async with other.running():
            with pytest.raises(JobCrashed, match="once a worker died that had started this job, or was about to"):
                await other.handle(job_id).result(timeout=WAIT_S)
        letter = inspect.dead_letter(broker, job_id)
        engine.connection.close()
    assert ("crashed", 1, 1) == (letter.reason, letter.attempts, letter.deliveries)
