"""One small application, unchanged, on every broker and every loop: what users are promised of an engine."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from application import Row, make_engine

from headrace import (
    ConfigError,
    Engine,
    InvalidArguments,
    JobCrashed,
    JobFailed,
    JobNotFound,
    JobTimedOut,
    PayloadTooLarge,
    QueueFull,
    ResultUnavailable,
    WaitTimeout,
)
from headrace.engine import inspect
from headrace.jobs.submission import DEFAULT
from servers import Server

pytestmark = pytest.mark.anyio

ASYNCIO = ("asyncio", {"use_uvloop": False})
UVLOOP = ("asyncio", {"use_uvloop": True})
TRIO = ("trio", {})
#: Each broker on asyncio and on trio; uvloop, which is another loop for asyncio's own code, on a server.
PAIRS = [
    pytest.param((ASYNCIO, "memory"), id="asyncio-memory"),
    pytest.param((TRIO, "memory"), id="trio-memory"),
    pytest.param((ASYNCIO, "embedded"), id="asyncio-embedded"),
    pytest.param((TRIO, "embedded"), id="trio-embedded"),
    pytest.param((ASYNCIO, "server"), id="asyncio-server", marks=pytest.mark.redis_core),
    pytest.param((UVLOOP, "server"), id="uvloop-server", marks=pytest.mark.redis_core),
    pytest.param((TRIO, "server"), id="trio-server", marks=pytest.mark.redis_core),
]
WAIT_S = 20.0


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[object, str]:
    """A loop and a kind of broker."""
    pair: tuple[object, str] = request.param
    return pair


@pytest.fixture
def anyio_backend(pair: tuple[object, str]) -> object:
    """Run on the loop of the pair."""
    return pair[0]


@pytest.fixture
def url(pair: tuple[object, str], request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A broker of the kind of the pair."""
    if pair[1] == "memory":
        return "memory://"
    if pair[1] == "embedded":
        return f"embedded://{tmp_path}/data"
    server: Server = request.getfixturevalue("conformance_server")
    return server.url


@pytest.fixture
def engine(url: str) -> Engine:
    """The application, not running."""
    return make_engine(url)


async def outcome(engine: Engine, name: str, *args: Any, **options: Any) -> Any:
    """Submit and wait for the result."""
    handle = await engine.submit(name, args, **options)
    return await handle.result(timeout=WAIT_S)


async def test_async_and_thread_and_process_handlers_return_their_values(engine: Engine) -> None:
    """The three runners give the caller what the handler returned."""
    async with engine.running():
        assert await outcome(engine, "add", 1, 2) == 3
        assert await outcome(engine, "multiply", 3, 4) == (12, False)
        assert await outcome(engine, "cube", 3) == 27


async def test_arguments_and_results_keep_their_types(engine: Engine) -> None:
    """A dataclass goes in, is itself in the handler, and comes back as itself."""
    row = Row(1, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    async with engine.running():
        assert await outcome(engine, "later", row) == Row(2, row.at)


async def test_a_job_that_fails_is_tried_again(engine: Engine) -> None:
    """A handler that fails twice succeeds on its third try, under the same id."""
    async with engine.running():
        assert await outcome(engine, "flaky", 3) == 3


async def test_a_job_whose_tries_are_used_up_is_dead(engine: Engine) -> None:
    """After the last try the caller gets the remote traceback, and the job lies in the dead letters."""
    async with engine.running():
        handle = await engine.submit("flaky", (9,))
        with pytest.raises(JobFailed, match="not at 3") as caught:
            await handle.result(timeout=WAIT_S)
        assert "ValueError" in caught.value.traceback
        assert await handle.status() == "dead"
        broker = engine.connection.open()
        letters, cursor = inspect.dead(broker, None, "", 10)
        engine.connection.close()
    assert [(handle.id, "failed", 3)] == [(letter.id, letter.reason, letter.attempts) for letter in letters]
    assert cursor == ""


async def test_a_timeout_ends_the_job(engine: Engine) -> None:
    """A handler that never ends is stopped at its timeout."""
    async with engine.running():
        with pytest.raises(JobTimedOut):
            await outcome(engine, "forever")


async def test_retry_rules_of_a_handler_hold(engine: Engine) -> None:
    """`on=` leaves other exceptions alone; FailJob ends at once; RetryJob says when."""
    async with engine.running():
        with pytest.raises(JobFailed, match="not an OSError"):
            await outcome(engine, "picky")
        with pytest.raises(JobFailed, match="no use"):
            await outcome(engine, "hopeless")
        assert await outcome(engine, "again") == 2


async def test_delayed_jobs_wait_for_their_time(engine: Engine) -> None:
    """A delay and a point in time both hold, and the job is `delayed` until then."""
    async with engine.running():
        began_s = time.monotonic()
        soon = await engine.submit("add", (1, 1), delay=0.3)
        assert await soon.status() == "delayed"
        at = await engine.submit("add", (2, 2), at=datetime.now(UTC) + timedelta(seconds=0.3))
        assert await soon.result(timeout=WAIT_S) == 2
        assert await at.result(timeout=WAIT_S) == 4
    assert time.monotonic() - began_s >= 0.29


async def test_many_jobs_are_submitted_and_none_is_lost(engine: Engine) -> None:
    """Each of two thousand jobs gets its own id and its own result."""
    async with engine.running():
        add = engine.registry.find("add")
        handles = await engine.submit_plan_many(add, ((n, 1) for n in range(2000)), DEFAULT)
        results = [await handle.result(timeout=WAIT_S) for handle in handles]
    assert [n + 1 for n in range(2000)] == results
    assert len({handle.id for handle in handles}) == 2000


async def test_handlers_of_a_collection_have_their_own_queue_and_aliases(engine: Engine) -> None:
    """Included handlers work on the collection's queue and answer to an old name."""
    async with engine.running():
        assert await outcome(engine, "aside") == "x on side"
        handle = await engine.submit("old_name", (), {"text": "y"}, queue="side")
        assert await handle.result(timeout=WAIT_S) == "y on side"


async def test_lifespan_opens_before_the_first_job_and_closes_after_the_last(engine: Engine) -> None:
    """State is there for handlers; middleware wraps each job."""
    async with engine.running():
        await outcome(engine, "later", Row(1, datetime.now(UTC)))
        seen = engine._worker.state["seen"]  # type: ignore[union-attr]
    assert ["open", "before later", "closed"] == seen


async def test_results_that_are_not_there_say_why(engine: Engine) -> None:
    """A handler that keeps none, a value that cannot be packed, and an id that never was are told apart."""
    async with engine.running():
        kept_none = await engine.submit("forgotten")
        with pytest.raises(ResultUnavailable, match="result_ttl"):
            await kept_none.result(timeout=WAIT_S)
        unpackable = await engine.submit("unpackable")
        with pytest.raises(ResultUnavailable, match="packed"):
            await unpackable.result(timeout=WAIT_S)
        assert await unpackable.status() == "succeeded"
        with pytest.raises(JobNotFound):
            await engine.handle("default:99999999999999-0").result(timeout=WAIT_S)


async def test_a_process_that_dies_takes_only_its_own_job(engine: Engine) -> None:
    """A handler that ends its process again and again is given up on as crashed; others go on."""
    engine.configure(max_deliveries=2)
    async with engine.running():
        crash = await engine.submit("crash", (3,))
        assert await outcome(engine, "cube", 2) == 8
        with pytest.raises(JobCrashed):
            await crash.result(timeout=WAIT_S)


async def test_bad_submissions_are_refused_at_once(engine: Engine) -> None:
    """Wrong arguments, an oversized payload and a full queue each raise their own error, and nothing is queued."""
    engine.configure(max_payload="2KiB", max_queue_length=3)
    async with engine:
        with pytest.raises(InvalidArguments, match="'a'"):
            await engine.submit("add", ("one", 2))
        with pytest.raises(PayloadTooLarge):
            await engine.submit("aside", (), {"text": "x" * 3000})
        for _ in range(3):
            await engine.submit("add", (1, 2))
        with pytest.raises(QueueFull) as caught:
            await engine.submit("add", (1, 2))
        assert (3, 3) == (caught.value.depth, caught.value.bound)


async def test_a_wait_that_ends_leaves_the_job_alone(engine: Engine) -> None:
    """WaitTimeout is the wait's end, not the job's."""
    async with engine:
        handle = await engine.submit("add", (1, 2))
        with pytest.raises(WaitTimeout):
            await handle.result(timeout=0.05)
        assert await handle.status() == "queued"
        async with engine.running():
            assert await handle.result(timeout=WAIT_S) == 3


async def test_the_blocking_form_works_from_threads_and_refuses_the_loop(engine: Engine) -> None:
    """`.sync` is for threads; inside a loop it raises and names the form to await."""
    async with engine.running():
        with pytest.raises(ConfigError, match="await"):
            engine.sync.submit("add", (1, 2))

        def submit_and_wait() -> Any:
            return engine.sync.submit("add", (1, 2)).result(timeout=WAIT_S)

        assert await anyio.to_thread.run_sync(submit_and_wait) == 3
    engine.connection.close()  # `.sync` keeps it open until the process ends


async def test_leaving_the_block_finishes_running_jobs_and_returns_the_rest(url: str) -> None:
    """What runs ends; what has not started is back in the queue, for the next worker."""
    engine = make_engine(url, slots=2)

    @engine.job
    async def slow(number: int) -> int:
        await anyio.sleep(0.2)
        return number

    async with engine:
        handles = [await slow.submit(number) for number in range(12)]
        async with engine.running():
            await handles[0].result(timeout=WAIT_S)
        states = [await handle.status() for handle in handles]
        assert {"succeeded", "queued"} == set(states)
        async with engine.running():
            assert list(range(12)) == [await handle.result(timeout=WAIT_S) for handle in handles]


async def test_statistics_show_what_was_done(engine: Engine) -> None:
    """The record counts jobs, failures and queues."""
    async with engine.running():
        for number in range(5):
            await outcome(engine, "add", number, 1)
        with pytest.raises(JobFailed):
            await outcome(engine, "hopeless")
        with anyio.fail_after(WAIT_S):  # an outcome is counted a moment after its result can be read
            while not engine.statistics().errors.dead:
                await anyio.sleep(0.01)
        figures = engine.statistics()
    assert figures.concurrency.runners["async"].slots == 100
    assert figures.handlers["add"].latency_ms.run.p50 is not None
    assert figures.backpressure.sinks["broker"].written == 6


async def test_many_jobs_fit_through_a_small_queue(url: str) -> None:
    """submit_many waits for room, also where the queue takes fewer jobs than a batch has."""
    engine = make_engine(url, max_queue_length=8)
    add = engine.registry.find("add")
    async with engine.running():
        handles = await engine.submit_plan_many(add, ((n, 1) for n in range(60)), DEFAULT)
        assert list(range(1, 61)) == [await handle.result(timeout=WAIT_S) for handle in handles]
