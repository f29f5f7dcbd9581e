"""What an engine does on a real server beside the small application of the conformance suite."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
import redis

from headrace import ConfigError, Engine, Handlers, JobFailed, UnknownHandler
from headrace.engine import inspect
from headrace.jobs import codec
from headrace.jobs.letters import dead_item
from headrace.jobs.states import State
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("behaviour")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """Somebody who knows Redis and nothing of headrace; finds the server empty."""
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        client.flushall()
        yield client


def busy(milliseconds: int) -> int:
    """Use the CPU; run in child processes."""
    ends_s = time.perf_counter() + milliseconds / 1000
    turns = 0
    while time.perf_counter() < ends_s:
        turns += 1
    return turns


@pytest.fixture
def engine(server: Server, client: redis.Redis) -> Engine:
    """An engine with two handlers."""
    engine = Engine(server.url, drain_timeout=5)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    engine.job(runner="process", queue="cpu")(busy)
    return engine


def add_raw(client: redis.Redis, **fields: bytes | str) -> str:
    """Add an entry as a program in any language would, and return the job's id."""
    entry: bytes = client.xadd("headrace:{default}:jobs", dict(fields))  # type: ignore[arg-type, assignment]
    return f"default:{entry.decode()}"


async def test_a_plain_xadd_runs_a_job(engine: Engine, client: redis.Redis) -> None:
    """Name and JSON arguments in plain fields are a job, and the reply is its id."""
    async with engine.running():
        job_id = add_raw(client, name="add", args="[1, 2]", kwargs="{}")
        assert await engine.handle(job_id).result(timeout=WAIT_S) == 3


async def test_an_envelope_from_elsewhere_runs_a_job(engine: Engine, client: redis.Redis) -> None:
    """One field `m` with the msgpack envelope is a job, too."""
    async with engine.running():
        job_id = add_raw(client, m=msgspec.msgpack.encode([1, "add", [1], {"b": 5}, None]))
        assert await engine.handle(job_id).result(timeout=WAIT_S) == 6


@pytest.mark.parametrize(
    "fields",
    [{"m": b"\xc1"}, {"m": b""}, {"m": b"\x95\x02"}, {"x": "y"}, {"name": "add", "args": "[1"}, {"name": b"\xff"}],
    ids=["no msgpack", "empty", "cut short", "unknown field", "bad JSON", "no UTF-8"],
)
async def test_malformed_entries_are_buried_and_the_reader_goes_on(
    engine: Engine, client: redis.Redis, fields: dict[str, bytes | str]
) -> None:
    """What cannot be read lies in the dead letters with its raw bytes; the next job runs."""
    async with engine.running():
        bad = add_raw(client, **fields)
        good = add_raw(client, name="add", args="[1, 2]")
        assert await engine.handle(good).result(timeout=WAIT_S) == 3
        with pytest.raises(JobFailed):
            await engine.handle(bad).result(timeout=WAIT_S)
    broker = engine.connection.open()
    letter = inspect.dead_letter(broker, bad)
    assert letter.reason == "malformed"
    raw = next(iter(fields.values()))
    assert (raw if isinstance(raw, bytes) else raw.encode()) in letter.body
    assert dead_item(letter)["args"] is None
    engine.connection.close()


async def test_wrong_arguments_from_elsewhere_are_dead_at_once(engine: Engine, client: redis.Redis) -> None:
    """Arguments that do not fit the handler are no reason to try again."""
    async with engine.running():
        job_id = add_raw(client, name="add", args='["one", 2]')
        with pytest.raises(JobFailed, match="argument 'a'"):
            await engine.handle(job_id).result(timeout=WAIT_S)
    broker = engine.connection.open()
    assert inspect.dead_letter(broker, job_id).reason == "invalid_arguments"
    engine.connection.close()


async def test_an_expired_entry_is_not_started(engine: Engine, client: redis.Redis) -> None:
    """`expires_at` in the past ends the job as expired."""
    async with engine.running():
        job_id = add_raw(client, name="add", args="[1, 2]", expires_at="2020-01-01T00:00:00Z")
        with pytest.raises(JobFailed, match="expired"):
            await engine.handle(job_id).result(timeout=WAIT_S)
        assert await engine.handle(job_id).status() == "expired"


async def test_a_job_of_an_unknown_handler_goes_round_and_then_dies(server: Server, client: redis.Redis) -> None:
    """Within the grace it waits for a worker that knows it; after it, it is dead as unknown_handler."""
    patient = Engine(server.url)
    async with patient.running():
        job_id = add_raw(client, name="coming", args="[]")
        with anyio.fail_after(WAIT_S):
            while await patient.handle(job_id).status() not in ("delayed", "retrying"):
                await anyio.sleep(0.01)
    knowing = Engine(server.url)

    @knowing.job
    async def coming() -> str:
        return "here"

    async with knowing.running():
        assert await knowing.handle(job_id).result(timeout=WAIT_S) == "here"
    strict = Engine(server.url, unknown_handler_grace=0)
    async with strict.running():
        lost = add_raw(client, name="never", args="[]")
        with pytest.raises(JobFailed, match="never"):
            await strict.handle(lost).result(timeout=WAIT_S)


async def test_a_full_runner_pauses_only_the_queues_that_feed_it(server: Server, client: redis.Redis) -> None:
    """While every thread is taken, jobs of the threads' queue wait on the server, and other queues go on."""
    engine = Engine(server.url, thread_slots=2, drain_timeout=5)
    let_go = threading.Event()

    @engine.job(queue="slow")
    def hold(number: int) -> int:
        let_go.wait(WAIT_S)
        return number

    @engine.job
    async def quick(number: int) -> int:
        return number

    async with engine.running():
        held = [await hold.submit(number) for number in range(50)]
        for number in range(20):
            assert number == await (await quick.submit(number)).result(timeout=WAIT_S)
        states = [await handle.status() for handle in held]
        assert states.count("queued") >= 50 - 2 - 2
        let_go.set()
        assert list(range(50)) == [await handle.result(timeout=WAIT_S) for handle in held]


async def test_cpu_jobs_do_not_hold_up_async_ones(engine: Engine, server: Server) -> None:
    """With a hundred CPU jobs in the queue, async jobs are done long before the last of them."""
    async with engine.running():
        cpu = [await engine.submit("busy", (20,)) for _ in range(100)]
        for number in range(50):
            assert number + 1 == await (await engine.submit("add", (number, 1))).result(timeout=WAIT_S)
        assert await cpu[-1].status() in ("queued", "running")
        for handle in cpu:
            assert await handle.result(timeout=60) > 0


async def test_threads_share_the_blocking_form(engine: Engine) -> None:
    """Eight threads submit and wait through one engine."""

    def work(number: int) -> int:
        handles = [engine.sync.submit("add", (number, other)) for other in range(20)]
        return sum(handle.result(timeout=WAIT_S) for handle in handles)

    def all_threads() -> list[int]:
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(work, range(8)))

    async with engine.running():
        assert [number * 20 + 190 for number in range(8)] == await anyio.to_thread.run_sync(all_threads)


@pytest.mark.parametrize("kind", ["server", "embedded"])
def test_a_forked_child_submits_through_a_connection_of_its_own(
    server: Server, client: redis.Redis, kind: str, tmp_path: Path
) -> None:
    """As under a preloading web server: the parent has submitted, then children do, and the parent still can."""
    engine = Engine(server.url if kind == "server" else f"embedded://{tmp_path}/data")

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    ids = [add.sync.submit(0, 0).id]
    for number in range(3):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writing, add.sync.submit(number, 1).id.encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        ids.append(os.read(reading, 100).decode())
        os.close(reading)
    ids.append(add.sync.submit(9, 9).id)
    assert 5 == len(set(ids))
    broker = engine.connection.open()
    assert [State.QUEUED] * 5 == [view.state for view in broker.lookup(ids) if view is not None]
    engine.connection.close()
    if kind == "embedded":
        engine.connection.close()


async def test_handlers_may_be_declared_after_they_were_included(server: Server, client: redis.Redis) -> None:
    """A collection goes on belonging to the engine that included it."""
    engine, handlers = Engine(server.url), Handlers(queue="mail")
    engine.include(handlers)

    @handlers.job
    async def send(to: str) -> str:
        return f"sent to {to}"

    async with engine.running():
        assert "sent to you" == await (await send.submit("you")).result(timeout=WAIT_S)


async def test_two_handlers_of_one_name_are_a_configuration_error() -> None:
    """The message names both places."""
    engine = Engine("memory://")

    @engine.job(name="twice")
    async def first() -> None: ...

    with pytest.raises(ConfigError, match=r"test_engine_behaviour\.py:\d+ and .*test_engine_behaviour\.py:\d+"):

        @engine.job(name="twice")
        async def second() -> None: ...


async def test_an_unknown_name_is_found_out_where_it_is_asked_for() -> None:
    """The registry lists what there is."""
    with pytest.raises(UnknownHandler, match="this engine has: none"):
        Engine("memory://").registry.find("nothing")


async def test_submission_outside_the_block_says_what_to_do() -> None:
    """Neither open nor running: the error names both ways, and the blocking one."""
    engine = Engine("memory://")

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    with pytest.raises(ConfigError, match=r"async with engine"):
        await add.submit(1, 2)
    assert 3 == await add(1, 2)


async def test_single_submissions_share_round_trips(engine: Engine, server: Server, client: redis.Redis) -> None:
    """A thousand concurrent submissions take far fewer script calls, and each gets its own id."""
    add = engine.registry.find("add")
    ids: set[str] = set()

    async def one(number: int) -> None:
        ids.add((await engine.submit("add", (number, 1))).id)

    async with engine:
        before = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(one, number)
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert add.name == "add"
    assert 1000 == len(ids)
    assert calls < 100


async def test_an_envelope_keeps_what_its_submission_said(engine: Engine, client: redis.Redis) -> None:
    """Timeout and retry given at submission travel with the job."""
    async with engine:
        handle = await engine.submit("add", (1, 2), timeout=7, retry=2, result_ttl=9)
    broker = engine.connection.open()
    view = broker.lookup([handle.id])[0]
    engine.connection.close()
    assert view is not None
    options = codec.unpack_envelope(view.body).options
    assert options is not None
    assert (7.0, 2, 9.0) == (options.timeout_s, options.attempts, options.result_ttl_s)


@pytest.mark.parametrize("busy_worker", [True, False], ids=["under a worker", "under a producer"])
async def test_a_killed_embedded_server_comes_back_with_its_jobs(tmp_path: Path, busy_worker: bool) -> None:
    """Whoever next needs it starts it again, on the same data; what was acknowledged is there."""
    data = tmp_path / "data"
    engine = Engine(f"embedded://{data}", drain_timeout=5)

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b

    async with engine:
        before = await add.submit(1, 2)
        if busy_worker:
            async with engine.running():
                assert 3 == await before.result(timeout=WAIT_S)
                os.kill(msgspec.json.decode((data / "server.json").read_bytes())["pid"], signal.SIGKILL)
                after = [await add.submit(number, 1) for number in range(10)]
                assert list(range(1, 11)) == [await handle.result(timeout=WAIT_S) for handle in after]
        else:
            os.kill(msgspec.json.decode((data / "server.json").read_bytes())["pid"], signal.SIGKILL)
            await add.submit(3, 4)
            async with engine.running():
                assert 3 == await before.result(timeout=WAIT_S)
