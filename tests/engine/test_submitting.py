"""What an engine's user is promised of ids, unique keys, expiry and full queues; on both loops and both brokers."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.to_thread
import pytest

from headrace import (
    BrokerUnavailable,
    ConfigError,
    DuplicateJob,
    Engine,
    InvalidArguments,
    JobExpired,
    JobFailed,
    QueueFull,
    Unique,
)
from headrace.engine.broker.memory import Fault, MemoryBroker
from headrace.engine.broker.port import Bound, FirstId, Submission
from headrace.jobs import codec
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


@pytest.fixture(scope="module")
def submitting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("submitting")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def url(request: pytest.FixtureRequest) -> str:
    """A broker of each kind."""
    if request.param == "memory":
        return "memory://"
    server: Server = request.getfixturevalue("submitting_server")
    return server.unix_url


def make_engine(url: str, **settings: Any) -> Engine:
    """Return an engine with a few handlers."""
    engine = Engine(url, namespace=f"test-{os.getpid()}-{time.monotonic_ns()}", **settings)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    @engine.job(unique=True)
    async def once(number: int) -> int:
        return number

    @engine.job(unique=Unique("one at a time", on_duplicate="return"))
    async def alone(number: int) -> int:
        return number

    @engine.job(retry=None)
    async def fail() -> None:
        raise ValueError("no")

    @engine.job(expires=0.05)
    async def fresh() -> None: ...

    return engine


async def test_an_id_of_ones_own_finds_the_job(url: str) -> None:
    """A handle made from the caller's id has the job's status and result; in `default` it needs no queue's name."""
    engine = make_engine(url)
    async with engine:
        handle = await engine.submit("add", (1, 2), id="order-17")
        assert "queued" == await engine.handle("order-17").status()
        with pytest.raises(DuplicateJob, match="'order-17'") as caught:
            await engine.submit("add", (5, 6), id="order-17")
        assert handle.id == caught.value.job_id
        again = await engine.submit("add", (5, 6), id="order-17", on_duplicate="return")
        assert handle == again
        async with engine.running():
            assert 3 == await engine.handle("order-17").result(timeout=WAIT_S)
            assert 3 == await again.result(timeout=WAIT_S)
            assert "succeeded" == await engine.handle("default:order-17").status()


async def test_a_unique_job_is_submitted_once_at_a_time(url: str) -> None:
    """While a job has the key a second one raises DuplicateJob; when it has ended, whichever way, the key is free."""
    engine = make_engine(url)
    async with engine:
        first = await engine.submit("add", (1, 2), unique="sum")
        failed = await engine.submit("fail", unique="failing")
        with pytest.raises(DuplicateJob, match="unique key 'sum'") as caught:
            await engine.submit("add", (1, 2), unique="sum")
        assert first.id == caught.value.job_id
        assert first == await engine.submit("add", (1, 2), unique=Unique("sum", on_duplicate="return"))
        async with engine.running():
            assert 3 == await first.result(timeout=WAIT_S)
            with pytest.raises(JobFailed):
                await failed.result(timeout=WAIT_S)
            assert first != await engine.submit("add", (1, 2), unique="sum")
            assert failed != await engine.submit("fail", unique="failing")


async def test_a_duplicate_of_two_keys_names_the_one_that_is_taken(url: str) -> None:
    """Of a job with an id and a unique key the error says which of them another job has; of both, the id."""
    engine = make_engine(url)
    async with engine:
        first = await engine.submit("add", (1, 2), id="mine", unique="k")
        for said, keys in (
            ("the unique key 'k'", {"id": "other", "unique": "k"}),
            ("the id 'mine'", {"id": "mine", "unique": "free"}),
            ("the id 'mine'", {"id": "mine", "unique": "k"}),
        ):
            with pytest.raises(DuplicateJob, match=said) as caught:
                await engine.submit("add", (1, 2), **keys)
            assert first.id == caught.value.job_id


async def test_a_handler_says_what_makes_its_jobs_the_same(url: str) -> None:
    """unique=True is by arguments, a text is for all of a handler's jobs; the submission's own word is stronger."""
    engine = make_engine(url)
    async with engine:
        one = await engine.submit("once", (1,))
        two = await engine.submit("once", (2,))
        assert one != two
        with pytest.raises(DuplicateJob):
            await engine.submit("once", (1,))
        assert one == await engine.submit("once", (1,), on_duplicate="return")
        assert one != await engine.submit("once", (1,), unique="another")
        first = await engine.submit("alone", (1,))
        assert first == await engine.submit("alone", (2,))
        with pytest.raises(DuplicateJob):
            await engine.submit("alone", (2,), on_duplicate="reject")


async def test_submissions_of_one_moment_share_a_key_safely(url: str) -> None:
    """Of many submissions of one key at once, one is added, and the duplicates fail no others that travel with them."""
    engine = make_engine(url)
    refused: list[str] = []
    ids: set[str] = set()

    async def submit(number: int) -> None:
        try:
            ids.add((await engine.submit("add", (number, 0), **({"unique": "k"} if number % 2 else {}))).id)
        except DuplicateJob as error:
            refused.append(error.job_id)

    async with engine:
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(submit, number)
        assert (21, 19, 1) == (len(ids), len(refused), len(set(refused)))
        assert set(refused) < ids


async def test_many_jobs_may_be_unique_but_not_share_an_id(url: str) -> None:
    """submit_many takes unique=True for each, and refuses one id for all."""
    engine = make_engine(url)

    @engine.job
    async def note(number: int) -> int:
        return number

    async with engine:
        numbers = [(1,), (2,), (1,)]
        handles = await note.options(unique=True, on_duplicate="return").submit_many(numbers)
        assert handles[0] == handles[2] != handles[1]
        with pytest.raises(DuplicateJob):
            await note.options(unique=True).submit_many([(3,), (3,)])
        with pytest.raises(InvalidArguments, match="one id is for one job"):
            await note.options(id="x").submit_many(numbers)


async def test_a_job_that_is_late_is_not_started(url: str) -> None:
    """A job whose expires has passed ends as expired, by a span, by a time, and by its handler's word."""
    engine = make_engine(url)
    async with engine:
        late = [
            await engine.submit("add", (1, 2), expires=0.05),
            await engine.submit("add", (1, 2), expires=datetime.now(UTC) + timedelta(seconds=0.05), unique="k"),
            await engine.submit("fresh"),
        ]
        in_time = await engine.submit("add", (1, 2), expires="1m")
        await anyio.sleep(0.1)
        async with engine.running():
            for handle in late:
                with pytest.raises(JobExpired):
                    await handle.result(timeout=WAIT_S)
                assert "expired" == await handle.status()
            assert 3 == await in_time.result(timeout=WAIT_S)
            assert late[1] != await engine.submit("add", (1, 2), unique="k")


async def test_options_that_cannot_be_are_refused(url: str) -> None:
    """Ids, keys and times out of their bounds raise InvalidArguments before anything travels; ConfigError in @job."""
    engine = make_engine(url)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"id": "a:b"}, "id="),
        ({"id": "1795406593154-0"}, "own ids"),
        ({"unique": ""}, "unique="),
        ({"unique": "\ud800"}, "Unicode"),
        ({"on_duplicate": "ignore"}, "on_duplicate"),
        ({"expires": 5, "delay": 10}, "before it is due"),
        ({"expires": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001 - that is what is wrong
    ]
    async with engine:
        for options, said in wrong:
            with pytest.raises(InvalidArguments, match=said):
                await engine.submit("add", (1, 2), **options)
    with pytest.raises(ConfigError, match="expires"):
        engine.job(expires=0)(time.sleep)
    with pytest.raises(ConfigError, match="unique"):
        engine.job(unique="")(time.sleep)


async def test_a_queue_is_bounded_by_bytes(url: str) -> None:
    """max_queue_bytes refuses what would pass it, and submit_many fits its batches to it and waits for room."""
    engine = make_engine(url, max_queue_bytes="20KiB")

    @engine.job
    async def keep(text: str) -> int:
        return len(text)

    texts = [("x" * 1000,)] * 60
    async with engine:
        with pytest.raises(QueueFull) as caught:
            await keep.options(on_full="reject").submit_many(texts)
        assert ("bytes", 20 * 1024) == (caught.value.reason, caught.value.bound)
        with pytest.raises(QueueFull, match="waited 0 s for room"):
            await keep.options(on_full="wait", wait_timeout=0).submit("x" * 10_000)
        async with engine.running():
            handles = await keep.submit_many(texts)
            assert [1000] * 60 == [await handle.result(timeout=WAIT_S) for handle in handles]


async def test_the_blocking_form_takes_the_same(url: str) -> None:
    """A script's submission takes ids and keys, and raises DuplicateJob as the awaited form does."""
    engine = make_engine(url)

    def script() -> tuple[str, str]:
        handle = engine.sync.submit("add", (1, 2), id="mine", unique=True)
        with pytest.raises(DuplicateJob):
            engine.sync.submit("add", (1, 2), unique=True)
        same = engine.sync.submit("add", (1, 2), unique=True, on_duplicate="return")
        return handle.id, same.id

    first, second = await anyio.to_thread.run_sync(script)
    assert first == second


async def test_a_lost_reply_makes_no_duplicate() -> None:
    """When the reply to a unique submission is lost, sending it again gives the job's own id, not DuplicateJob."""
    broker = MemoryBroker()
    broker.faults.append(Fault("publish", "after"))
    job, token = Submission(codec.pack_envelope("add"), unique="k"), "token"
    with pytest.raises(BrokerUnavailable):
        broker.publish("default", [job], token, Bound())
    assert not isinstance(broker.publish("default", [job], token, Bound())[0], FirstId)
    assert isinstance(broker.publish("default", [job], "another", Bound())[0], FirstId)
