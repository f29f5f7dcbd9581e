"""Results of many jobs over HTTP: what is asked, how often, and what comes of it; by script, in memory and for real."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from scripted import answer, scripted

from headrace import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    ConfigError,
    Engine,
    FailJob,
    InvalidArguments,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobResult,
    ResultUnavailable,
    WaitTimeout,
)
from headrace.engine.http.app import make_app
from headrace.engine.http.gateway import Gateway
from headrace.engine.remote import results
from headrace.engine.remote.patience import PAUSE_FIRST_S, PAUSE_LONGEST_S
from headrace.engine.remote.wire import Pause, Reply, Send
from host_scene import hosted
from servers import start_valkey

DEADLINE_S = 60


def found(
    values: dict[str, Any] | None = None, *, waiting: tuple[str, ...] = (), omitted: tuple[str, ...] = ()
) -> bytes:
    """An answer about jobs: what they returned, which go on, and which had no room."""
    ended = [{"id": job_id, "status": "succeeded", "value": value} for job_id, value in (values or {}).items()]
    return answer(200, {"results": ended, "unavailable": [], "waiting": waiting, "omitted": omitted})


def asked(server: Any) -> list[list[str]]:
    """The ids of each request."""
    return [json.loads(heard.body)["ids"] for heard in server.heard]


def test_each_request_asks_for_those_that_are_left() -> None:
    """Results come as the answers have them, with their handles or with made ones, and twice for who is there twice."""
    script = (found({"q:3-0": 3, "q:1-0": 1}, waiting=("q:2-0",)), found({"q:2-0": 2}))
    with scripted(*script) as server, Client(server.url) as client:
        second = client.handle("q:2-0")
        came = list(client.results(["q:1-0", second, "q:3-0", second]))
    assert [("q:3-0", 3), ("q:1-0", 1), ("q:2-0", 2), ("q:2-0", 2)] == [(each.id, got.value) for each, got in came]
    assert came[2][0] is second
    assert [["q:1-0", "q:2-0", "q:3-0"], ["q:2-0"]] == asked(server)
    assert {"POST /v1/results?wait_s=25.0 HTTP/1.1"} == {heard.line for heard in server.heard}


def test_ordered_results_wait_for_those_before() -> None:
    """Those behind one that goes on are held until it has ended."""
    script = (found({"q:2-0": 2, "q:3-0": 3}, waiting=("q:1-0",)), found({"q:1-0": 1}))
    with scripted(*script) as server, Client(server.url) as client:
        ids = ["q:1-0", "q:2-0", "q:3-0"]
        assert [(each, int(each[2])) for each in ids] == [
            (handle.id, got.value) for handle, got in client.results(ids, ordered=True)
        ]


def test_what_is_lost_or_away_is_asked_for_again() -> None:
    """Nothing is taken away by an answer, so a lost one is asked for anew, as are 502, 503 and 504."""
    script = (b"", answer(502), answer(503), answer(504), found({"q:1-0": 1}))
    with scripted(*script) as server, Client(server.url, timeout=0.001) as client:
        assert [1] == client.gather(["q:1-0"])
    assert [["q:1-0"]] * 5 == asked(server)


def test_what_is_refused_for_good_ends_the_reading() -> None:
    """Of a token that may not read, or of somebody else at the address, nobody waits."""
    with scripted(answer(403, {"detail": "the token may not"})) as server, Client(server.url) as client:
        with pytest.raises(ConfigError, match="may not"):
            client.gather(["q:1-0"])
        assert 1 == len(server.heard)


@pytest.mark.parametrize("ordered", [False, True])
def test_few_handles_of_many_are_held(ordered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterable of handles is read no further ahead than the window, and each of it is given out once."""
    monkeypatch.setattr(results, "WINDOW_COUNT", 3)
    read_count = 0

    def coming() -> Iterator[str]:
        nonlocal read_count
        for number in range(1, 8):
            read_count += 1
            yield f"q:{number}-0"

    numbers = [dict.fromkeys(range(1, 4)), dict.fromkeys(range(4, 7)), {7: None}]
    with (
        scripted(*(found({f"q:{number}-0": number for number in some}) for some in numbers)) as server,
        Client(server.url) as client,
    ):
        given = []
        for _, got in client.results(coming(), ordered=ordered):
            assert read_count <= len(given) + 3
            given.append(got.value)
    assert list(range(1, 8)) == given


def test_no_jobs_are_not_asked_for() -> None:
    """Nothing goes over the network for none, and one id in place of many is refused."""
    with Client("http://127.0.0.1:1") as client:
        assert [] == client.gather([], timeout=0)
        assert [] == list(client.results(iter(())))
        for read in (client.results, client.gather):
            with pytest.raises(InvalidArguments, match="'q:1-0' is one id"):
                read("q:1-0")


def test_no_time_looks_at_each_once() -> None:
    """All that is there is given out, also what had no room in the first answer, and then the time is over."""
    script = (
        found({"q:1-0": 1}, omitted=("q:2-0", "q:3-0")),
        found({"q:2-0": 2}, waiting=("q:3-0",)),
    )
    with scripted(*script) as server, Client(server.url) as client:
        reading = client.results(["q:1-0", "q:2-0", "q:3-0"], timeout=0)
        assert [1, 2] == [next(reading)[1].value for _ in range(2)]
        with pytest.raises(WaitTimeout, match=r"1 of the jobs waited for, q:3-0 among them, had not ended after 0 s"):
            next(reading)
    assert 2 == len(server.heard)


def test_time_that_is_over_while_the_server_is_away_says_so() -> None:
    """WaitTimeout has the outage as its cause, and says that nothing is known."""
    with scripted(*[answer(503, {"detail": "the server is away"})] * 100) as server, Client(server.url) as client:
        with pytest.raises(WaitTimeout, match=r"not known after 0\.3 s.*the server is away") as caught:
            client.gather(["q:1-0"], timeout=0.3)
        assert isinstance(caught.value.__cause__, BrokerUnavailable)
        assert 1 < len(server.heard)


def test_a_server_that_does_not_wait_is_not_hurried() -> None:
    """After answers that come at once and tell nothing, as of a server that stops, there are pauses that grow."""
    client = Client("http://127.0.0.1:1")
    gathering = results.Gathering(client.options, ["q:1-0"], client.handle, DEADLINE_S, False)
    nothing = Reply(200, {}, found(waiting=("q:1-0",)).partition(b"\r\n\r\n")[2])
    for tries_count in range(1, 6):
        steps = gathering.ask()
        assert isinstance(next(steps), Send)
        pause = steps.send(nothing)
        assert isinstance(pause, Pause)
        assert 0.5 * PAUSE_FIRST_S * 2**tries_count <= pause.seconds <= PAUSE_LONGEST_S
        with pytest.raises(StopIteration):
            steps.send(None)


def test_a_failure_has_its_error() -> None:
    """What became of a job is what `result()` would return or raise; a name that is not known is some error of ours."""
    ended = [{"id": "q:1-0", "status": "dead", "error": {
        "type": "ValueError", "message": "no", "traceback": "", "reason": "failed",
    }}]  # fmt: skip
    names = {"q:2-0": "JobNotFound", "q:3-0": "ResultUnavailable", "q:4-0": "OfLater"}
    gone = [{"id": job_id, "error": f"why {job_id}", "error_name": name} for job_id, name in names.items()]
    body = {"results": ended, "unavailable": gone, "waiting": [], "omitted": []}
    with scripted(answer(200, body), answer(200, body)) as server, Client(server.url) as client:
        ids = ["q:1-0", *names]
        errors = client.gather(ids, return_exceptions=True)
        with pytest.raises(JobFailed, match="ValueError: no"):
            client.gather(ids)
    assert ["JobFailed", "JobNotFound", "ResultUnavailable", "HeadraceError"] == [
        type(each).__name__ for each in errors
    ]
    assert "why q:2-0" == str(errors[1])


@asynccontextmanager
async def api() -> AsyncIterator[tuple[AsyncClient, anyio.Event]]:
    """Yield a client of the API of an engine in memory that works, and what its job `held` waits for."""
    engine, gate = Engine("memory://", result_ttl=60, drain_timeout=5), anyio.Event()

    @engine.job
    async def double(number: int) -> int:
        return 2 * number

    @engine.job(retry=None)
    async def odd_only(number: int) -> int:
        if number % 2 == 0:
            raise FailJob("even")
        return number

    @engine.job(timeout=0)
    async def held() -> str:
        await gate.wait()
        return "let go"

    gateway = Gateway(engine.connection.open(), engine.settings, engine.registry)
    app: Any = make_app(gateway)
    try:
        with anyio.fail_after(DEADLINE_S):
            transport = httpx.ASGITransport(app)
            async with engine.running(), AsyncClient("http://localhost", transport=transport) as client:
                try:
                    yield client, gate
                finally:
                    gate.set()
    finally:
        gateway.close()
        engine.connection.close()


@pytest.mark.anyio
async def test_results_come_as_jobs_end() -> None:
    """A job that goes on holds up none behind it, and comes with its handle once it ends."""
    async with api() as (client, gate):
        held, quick = await client.submit("held"), await client.submit("double", (21,))
        came = []
        async for handle, result in client.results([held, quick.id]):
            assert isinstance(result, JobResult)
            came.append((handle.id, result.value))
            gate.set()
    assert [(quick.id, 42), (held.id, "let go")] == came


@pytest.mark.anyio
async def test_failures_end_nothing_but_their_own_job() -> None:
    """Failed and unknown jobs come as errors, the others as values; gathering raises the first or returns all."""
    async with api() as (client, gate):
        handles = await client.submit_many("odd_only", [(number,) for number in range(4)])
        handles += [client.handle("nowhere:1-1"), client.handle("nonsense")]
        found = {handle.id: result async for handle, result in client.results(handles, timeout=DEADLINE_S)}
        held = await client.submit("held")
        with pytest.raises(JobFailed, match="even"):
            await client.gather([held, handles[0]], timeout=DEADLINE_S)
        gate.set()
        every = await client.gather([*handles, held, handles[1]], return_exceptions=True, timeout=DEADLINE_S)
    assert (1, 3) == (found[handles[1].id].value, found[handles[3].id].value)
    kinds = [JobFailed, JobFailed, JobNotFound, JobNotFound]
    assert kinds == [type(found[handles[at].id].error) for at in (0, 2, 4, 5)]
    assert kinds == [type(every[at]) for at in (0, 2, 4, 5)]
    assert [1, 3, "let go", 1] == [every[at] for at in (1, 3, 6, 7)]


@pytest.mark.anyio
async def test_time_that_is_over_leaves_what_came_before() -> None:
    """All that had ended is given out, then WaitTimeout says how many had not; a new reader goes on with them."""
    async with api() as (client, gate):
        handles = [await client.submit("held"), *await client.submit_many("double", [(1,), (2,)])]
        await client.gather(handles[1:])
        came = []

        async def read() -> None:
            async for _, result in client.results(handles, timeout="200ms"):
                came.append(result.value)

        with pytest.raises(WaitTimeout, match=r"1 of the jobs waited for, .* had not ended after 0\.2 s"):
            await read()
        assert [2, 4] == sorted(came)
        gate.set()
        assert ["let go", 2, 4] == await client.gather(handles, timeout=DEADLINE_S)


@pytest.mark.anyio
async def test_a_reader_that_is_left_may_be_read_on() -> None:
    """A wait that is cancelled loses nothing; one that is closed gives out nothing more."""
    async with api() as (client, gate):
        reader = client.results([await client.submit("held"), await client.submit("held")])
        for _ in range(2):
            with anyio.move_on_after(0.05) as scope:
                await anext(reader)
            assert scope.cancelled_caught
        gate.set()
        assert "let go" == (await anext(reader))[1].value
        await reader.aclose()
        assert [] == [each async for each in reader]


@pytest.mark.anyio
async def test_more_jobs_than_one_request_takes() -> None:
    """Thousands come, each once, in order where that is asked."""
    async with api() as (client, _):
        handles = await client.submit_many("double", [(number,) for number in range(2500)])
        expected = [2 * number for number in range(2500)]
        assert expected == [got.value async for _, got in client.results(handles, ordered=True)]
        assert expected == await client.gather(handles, timeout=DEADLINE_S)
        assert expected == await client.gather((handle.id for handle in handles), timeout=0)


@pytest.fixture(scope="module", params=["starlette-uvicorn", "starlette-hypercorn-trio"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an API that is mounted beside workers on a real server."""
    folder: Path = tmp_path_factory.mktemp("host")
    with start_valkey(folder) as server, hosted(server, folder, request.param) as (_, address):
        yield f"{address}/headrace"


def test_a_thread_reads_them_from_a_real_server(url: str) -> None:
    """Values and failures of a thousand jobs by the blocking client, beside one that is cancelled meanwhile."""
    with Client(url) as client:
        late = client.submit("add", (1, 2), delay="1h")
        handles = client.submit_many("add", [(number, 1) for number in range(1500)])
        failed = client.submit("fail", attempts=1)
        came: dict[str, Any] = {}
        for handle, result in client.results([late, failed.id, *handles], timeout=DEADLINE_S):
            came[handle.id] = result
            if len(came) == 1501:
                assert late.cancel()
        assert 1502 == len(came)
        assert [number + 1 for number in range(1500)] == [came[handle.id].value for handle in handles]
        assert isinstance(came[late.id].error, JobCancelled)
        with pytest.raises(JobFailed, match="no such row"):
            _ = came[failed.id].value
        assert [number + 1 for number in range(1500)] == client.gather(handles, timeout=0)
        with pytest.raises(WaitTimeout):
            client.gather([client.submit("add", (1, 2), delay="1h", queue="late")], timeout=0.1)


@pytest.mark.anyio
async def test_a_loop_reads_them_from_a_real_server(url: str) -> None:
    """The same from asyncio and trio, many readers at a time."""
    with anyio.fail_after(DEADLINE_S):
        async with AsyncClient(url) as client:
            sums: list[list[Any]] = []

            async def one(first: int) -> None:
                handles = await client.submit_many("add", [(first, number) for number in range(200)])
                sums.append(await client.gather(handles))

            async with anyio.create_task_group() as group:
                for first in range(5):
                    group.start_soon(one, first)
            assert [[first + number for number in range(200)] for first in range(5)] == sorted(sums)
            ids = ["nonsense", (await client.submit("add", (1, 2))).id]
            found = {handle.id: result async for handle, result in client.results(ids, timeout=DEADLINE_S)}
            assert (3, JobNotFound) == (found[ids[1]].value, type(found["nonsense"].error))


def test_results_that_were_not_kept_are_named() -> None:
    """The name of the API's error is the error that is raised."""
    gone = [{"id": "q:1-0", "error": "its record is gone", "error_name": "ResultUnavailable"}]
    body = {"results": [], "unavailable": gone, "waiting": [], "omitted": []}
    with scripted(answer(200, body)) as server, Client(server.url) as client:
        with pytest.raises(ResultUnavailable, match="record is gone"):
            client.gather(["q:1-0"])
        assert 1 == len(server.heard)
