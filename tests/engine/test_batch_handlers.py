"""Batch handlers: one call for many jobs, and yet each job ends for itself; on both kinds of broker and both loops."""

import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from headrace import ConfigError, Context, Engine, FailJob, JobFailed, JobTimedOut, ResultUnavailable, Retry
from headrace.engine import inspect
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
WAIT_S = 20.0
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("batches")) as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("server", marks=pytest.mark.redis_core)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine without handlers."""
    name = f"batches-{next(_numbers)}"
    url = request.getfixturevalue("server").url if request.param == "server" else f"memory://{name}"
    return Engine(url, namespace=name, drain_timeout=5)


@dataclass
class Row:
    """An item that travels as data and arrives as itself."""

    number: int


async def results(handles: Sequence[Any]) -> list[Any]:
    """Return what became of each job, failures as their class's name and reason."""
    found = []
    for handle in handles:
        try:
            found.append(await handle.result(timeout=WAIT_S))
        except JobFailed as error:
            found.append(str(error).partition("\n")[0])
    return found


async def test_a_call_gets_what_is_there_up_to_its_size(engine: Engine) -> None:
    """Twenty-five jobs run in three calls of at most ten, in order, as their own types, and each has its result."""
    calls: list[list[int]] = []

    @engine.job(batch=10, batch_linger=0.05)
    async def double(rows: list[Row]) -> list[int]:
        calls.append([row.number for row in rows])
        return [row.number * 2 for row in rows]

    async with engine:
        handles = await double.submit_many([(Row(number),) for number in range(25)])
        async with engine.running():
            assert [number * 2 for number in range(25)] == await results(handles)
    assert [10, 10, 5] == [len(call) for call in calls]
    assert list(range(25)) == [number for call in calls for number in call]


async def test_one_slot_still_gets_a_whole_batch(engine: Engine) -> None:
    """A call occupies one slot, and as many jobs are fetched for a free slot as a call takes."""
    engine.configure(slots=1)
    calls: list[int] = []

    @engine.job(batch=50, batch_linger=5)
    async def count(rows: list[int]) -> list[int]:
        calls.append(len(rows))
        return rows

    async with engine:
        handles = await count.submit_many([(number,) for number in range(100)])
        async with engine.running():
            assert list(range(100)) == await results(handles)
    assert [50, 50] == calls


async def test_a_lone_job_waits_no_longer_than_its_linger(engine: Engine) -> None:
    """A job without company runs after batch_linger; a full call does not wait at all."""

    @engine.job(batch=2, batch_linger=0.2)
    async def when(rows: list[int]) -> list[float]:
        return [time.monotonic()] * len(rows)

    async with engine.running():
        began_s = time.monotonic()
        (alone,) = await results([await when.submit(1)])
        again_s = time.monotonic()
        pair = await results(await when.submit_many([(1,), (2,)]))
    assert 0.15 <= alone - began_s
    assert pair[0] == pair[1]
    assert pair[0] - again_s < 0.2


async def test_a_returned_exception_fails_its_item_only(engine: Engine) -> None:
    """An exception in the list is that job's failure: it is tried again by its own policy; FailJob ends it at once."""
    attempts: list[int] = []

    @engine.job(batch=10, retry=Retry(attempts=2, delay=0.01))
    async def pick(rows: list[int]) -> list[int | Exception]:
        attempts.extend(rows)
        return [ValueError("odd") if row == 1 else FailJob("no use") if row == 2 else row for row in rows]

    async with engine.running():
        handles = await pick.submit_many([(row,) for row in range(4)])
        found = await results(handles)
        letters, _ = inspect.dead(engine.connection.open(), None, "", 10)
        engine.connection.close()
    assert [0, 3] == [found[0], found[3]]
    assert ["odd" in found[1], "no use" in found[2]] == [True, True]
    assert [2, 1] == [attempts.count(1), attempts.count(2)]
    assert {(handles[1].id, "failed", 2), (handles[2].id, "refused", 1)} == {
        (letter.id, letter.reason, letter.attempts) for letter in letters
    }


async def test_a_raised_exception_fails_the_whole_call(engine: Engine) -> None:
    """What the handler raises is every job's failure, and each keeps its own attempts."""

    @engine.job(batch=10, retry=None)
    async def broken(rows: list[int]) -> list[int]:
        raise KeyError("table")

    async with engine.running():
        found = await results(await broken.submit_many([(row,) for row in range(3)]))
    assert 3 == len([line for line in found if "KeyError" in line])


class Closed:
    """Cannot be asked anything, its class included, as a proxy of what is not there."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"no {name}")


async def test_results_that_cannot_be_asked_harm_no_neighbour(engine: Engine) -> None:
    """A value that cannot even be asked for its class is its own job's missing result, and the others have theirs."""

    @engine.job(batch=3, batch_linger=5, retry=None)
    async def odd(rows: list[int]) -> list[Any]:
        return [row or Closed() for row in rows]

    async with engine.running():
        first, *rest = await odd.submit_many([(row,) for row in range(3)])
        assert [1, 2] == await results(rest)
        with pytest.raises(ResultUnavailable, match="cannot be packed"):
            await first.result(timeout=WAIT_S)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: [1, 2], "returned 2 results for 3 items"),
        (lambda: None, "returned NoneType"),
        (Closed, "returned Closed"),
    ],
)
async def test_a_wrong_number_of_results_fails_all_of_them(engine: Engine, made: Callable[[], Any], said: str) -> None:
    """Nobody can say whose results these are, so each job fails, and is told why."""

    @engine.job(batch=3, batch_linger=5, retry=None)
    async def short(rows: list[int]) -> list[int]:
        wrong: list[int] = made()
        return wrong

    async with engine.running():
        found = await results(await short.submit_many([(row,) for row in range(3)]))
    assert 3 == len([line for line in found if said in line])


async def test_an_item_of_the_wrong_type_fails_alone(engine: Engine) -> None:
    """A job whose argument does not fit goes to the dead letters; its neighbours run without it."""
    calls: list[list[int]] = []

    @engine.job(batch=3, batch_linger=5)
    async def numbers(rows: list[int]) -> list[int]:
        calls.append(rows)
        return [row + 1 for row in rows]

    other = Engine(engine.settings.url, namespace=engine.settings.namespace)
    async with engine.running(), other:
        handles = [await other.submit("numbers", (value,)) for value in (1, "two", 3)]
        found = await results(handles)
    assert [2, 4] == [found[0], found[2]]
    assert "item" in found[1]
    assert [[1, 3]] == calls


async def test_batches_run_in_threads_too(engine: Engine) -> None:
    """A plain function takes its batch in a thread."""

    @engine.job(batch=10)
    def shout(rows: Sequence[str]) -> list[str | Exception]:
        return [row.upper() for row in rows]

    async with engine.running():
        assert ["A", "B"] == await results(await shout.submit_many([("a",), ("b",)]))


async def test_the_timeout_holds_for_the_call(engine: Engine) -> None:
    """A call past its time is cancelled, and each of its jobs has timed out."""

    @engine.job(batch=2, batch_linger=5, timeout=0.05, retry=None)
    async def forever(rows: list[int]) -> list[int]:
        await anyio.sleep_forever()
        return rows

    async with engine.running():
        for handle in await forever.submit_many([(1,), (2,)]):
            with pytest.raises(JobTimedOut):
                await handle.result(timeout=WAIT_S)


async def test_a_job_with_a_timeout_of_its_own_has_a_call_of_its_own(engine: Engine) -> None:
    """A job's own timeout is not put upon its neighbours."""
    calls: list[list[int]] = []

    @engine.job(batch=10, retry=None)
    async def wait(rows: list[int]) -> list[int]:
        calls.append(rows)
        if 9 in rows:
            await anyio.sleep_forever()
        return rows

    async with engine:
        handles = await wait.submit_many([(1,), (2,)])
        hurried = await wait.options(timeout=0.05).submit(9)
        async with engine.running():
            assert [1, 2] == await results(handles)
            with pytest.raises(JobTimedOut):
                await hurried.result(timeout=WAIT_S)
    assert [[1, 2], [9]] == sorted(calls)


async def test_what_a_stop_interrupts_goes_back(engine: Engine) -> None:
    """Jobs of a call that the drain cuts short, and those that waited for company, are run by the next worker."""
    engine.configure(drain_timeout=0.1)
    started = anyio.Event()
    calls: list[list[int]] = []

    @engine.job(batch=2, batch_linger=30)
    async def slow(rows: list[int]) -> list[int]:
        calls.append(rows)
        if len(calls) == 1:
            started.set()
            await anyio.sleep_forever()
        return rows

    async with engine:
        handles = await slow.submit_many([(1,), (2,), (3,)])
        async with engine.running():
            with anyio.fail_after(WAIT_S):
                await started.wait()
        assert [[1, 2]] == calls
        await slow.submit(4)
        async with engine.running():
            assert [1, 2, 3] == await results(handles)


async def test_figures_count_jobs(engine: Engine) -> None:
    """Statistics say how many jobs were done, not how many calls."""

    @engine.job(batch=50, batch_linger=0.05, retry=None)
    async def count(rows: list[int]) -> list[int | Exception]:
        return [ValueError() if row % 2 else row for row in rows]

    async with engine.running():
        await results(await count.submit_many([(number,) for number in range(40)]))
        figures = engine.statistics()
    assert (20, 20) == (figures.errors.failed, figures.errors.dead)
    assert 20 == figures.handlers["count"].errors.dead


async def test_middleware_wraps_the_call(engine: Engine) -> None:
    """Middleware is called once for a call, with the Context of its first job."""
    seen: list[tuple[str, int]] = []

    @engine.middleware
    async def note(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        value = await call_next()
        seen.append((ctx.id, len(value)))
        return value

    @engine.job(batch=3, batch_linger=5)
    async def count(rows: list[int]) -> list[int]:
        return rows

    async with engine.running():
        handles = await count.submit_many([(number,) for number in range(3)])
        await results(handles)
    assert [(handles[0].id, 3)] == seen


async def test_plain_handlers_beside_batches_are_never_fetched_beyond_their_room() -> None:
    """In a queue that has other handlers too, a worker takes no more jobs than it has slots."""
    engine = Engine("memory://", namespace=f"batches-{next(_numbers)}", slots=2)
    ended = anyio.Event()
    most: list[int] = []

    @engine.job(batch=100)
    async def rows(rows: list[int]) -> list[int]:
        return rows

    @engine.job
    async def hold(number: int) -> None:
        broker = engine.connection.open()
        most.append(broker.queues(["default"])[0].running)
        engine.connection.close()
        await ended.wait()

    async with engine.running():
        handles = await hold.submit_many([(number,) for number in range(20)])
        with anyio.fail_after(WAIT_S):
            while len(most) < 2:
                await anyio.sleep(0.01)
        ended.set()
        await results(handles)
    assert max(most[:2]) <= 2


class TestDeclarations:
    """What cannot be a batch handler is refused where it is declared, with the reason."""

    def test_a_context_is_refused(self) -> None:
        """Many jobs have no one Context."""

        async def index(ctx: Context, rows: list[int]) -> list[int]:
            return rows

        with pytest.raises(ConfigError, match="wants a Context"):
            Engine("memory://").job(batch=10)(index)  # type: ignore[arg-type]

    def test_process_handlers_are_refused(self) -> None:
        """A batch does not cross to a child process."""

        def index(rows: list[int]) -> list[int]:
            return rows

        with pytest.raises(ConfigError, match="process"):
            Engine("memory://").job(batch=10, runner="process")(index)

    @pytest.mark.parametrize("size", [0, 1001])
    def test_a_size_out_of_bounds_is_refused(self, size: int) -> None:
        """A batch has from one to a thousand jobs."""

        async def index(rows: list[int]) -> list[int]:
            return rows

        with pytest.raises(ConfigError, match="use 1 to 1,000"):
            Engine("memory://").job(batch=size)(index)

    async def test_what_takes_no_list_is_refused_at_the_start(self) -> None:
        """The type hints are read when a worker starts, as those of every handler."""
        engine = Engine("memory://", namespace=f"batches-{next(_numbers)}")

        @engine.job(batch=10)  # type: ignore[arg-type]
        async def index(rows: dict[str, int]) -> list[int]:
            return []

        with pytest.raises(ConfigError, match=r"takes list\[ITEM\]"):
            async with engine.running():
                pass
