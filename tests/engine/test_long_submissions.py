"""What a submission of many batches promises: in order, overlapping, bounded, and the same errors as a short one."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest

from headrace.config import limits
from headrace.engine.broker.port import Bound, FirstId, Submission
from headrace.engine.client import Client
from headrace.jobs.errors import BrokerUnavailable, DuplicateJob, InvalidArguments, QueueFull
from headrace.jobs.submission import SubmitOptions

pytestmark = pytest.mark.anyio
BATCH = limits.SUBMIT_BATCH_COUNT
WAIT_S = 20.0
PATIENT = SubmitOptions(on_full="wait", wait_timeout_s=WAIT_S)


class FarBroker:
    """A broker that is waited for; its answers are the test's."""

    waits = True
    url = "far away"

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.tokens: list[str] = []
        self.before: list[Any] = []  # called, in turn, before each batch is taken

    def publish(self, queue: str, jobs: Sequence[Submission], token: str, bound: Bound) -> list[str]:
        """Take a batch."""
        self.tokens.append(token)
        if self.before:
            self.before.pop(0)()
        first = len(self.taken)
        self.taken += [job.body for job in jobs]
        return [f"{queue}:{number}-0" for number in range(first, len(self.taken))]


def numbered(count: int, asked: threading.Event | None = None) -> Iterator[Submission]:
    """Yield jobs; say when one of the second batch is asked for."""
    for number in range(count):
        if number == BATCH and asked is not None:
            asked.set()
        yield Submission(b"%d" % number)


def raising(error: Exception) -> Any:
    """Return a function that raises."""

    def fail() -> None:
        raise error

    return fail


def client_of(broker: FarBroker) -> Client:
    """Return a client of a broker of the test."""
    anything: Any = broker
    return Client(anything, Bound())


def ferries() -> list[threading.Thread]:
    """Return the threads of submissions under way."""
    return [thread for thread in threading.enumerate() if thread.name == "headrace-ferry"]


async def until_none() -> None:
    """Wait until every thread of a submission has ended."""
    with anyio.fail_after(WAIT_S):
        while ferries():
            await anyio.sleep(0.001)


@pytest.mark.parametrize("count", [0, 1, 99, 100, BATCH, BATCH + 1, 5 * BATCH + 7])
async def test_ids_come_in_the_order_of_the_jobs(count: int) -> None:
    """However many there are, each job is added once, under a token of its batch, and no thread is left."""
    broker = FarBroker()
    job_ids = await client_of(broker).submit_many("q", numbered(count), PATIENT)
    assert [f"q:{number}-0" for number in range(count)] == job_ids
    assert [b"%d" % number for number in range(count)] == broker.taken
    assert -(-count // BATCH) == len(set(broker.tokens))
    await until_none()


async def test_the_next_batch_is_packed_while_one_is_away() -> None:
    """The broker answers for the first batch only once the second is being made: they overlap."""
    broker, asked = FarBroker(), threading.Event()
    waited: list[bool] = []
    broker.before = [lambda: waited.append(asked.wait(WAIT_S))]
    assert 2 * BATCH == len(await client_of(broker).submit_many("q", numbered(2 * BATCH, asked), PATIENT))
    assert [True] == waited


async def test_what_comes_before_a_bad_job_is_submitted() -> None:
    """Where a job of the third batch is refused before it travels, two batches are in the queue, and it is raised."""
    broker = FarBroker()

    def jobs() -> Iterator[Submission]:
        yield from numbered(2 * BATCH + 3)
        raise InvalidArguments("the next one does not fit")

    with pytest.raises(InvalidArguments, match="does not fit"):
        await client_of(broker).submit_many("q", jobs(), PATIENT)
    assert 2 * BATCH == len(broker.taken)
    await until_none()


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), QueueFull("full", queue="q", reason="length")])
async def test_what_the_broker_says_of_a_batch_is_raised(error: Exception) -> None:
    """An error of the second batch ends the submission: the first is in the queue, and nothing comes behind."""
    broker = FarBroker()
    broker.before = [lambda: None, raising(error)]
    with pytest.raises(type(error)) as raised:
        await client_of(broker).submit_many("q", numbered(4 * BATCH), SubmitOptions(on_full="reject"))
    assert (error, BATCH) == (raised.value, len(broker.taken))
    await until_none()


async def test_a_full_queue_is_waited_for_in_the_midst() -> None:
    """A batch that found no room is sent again under its token, in its place."""
    broker = FarBroker()
    broker.before = [lambda: None, *[raising(QueueFull("full", queue="q", reason="length"))] * 2]
    assert 3 * BATCH == len(await client_of(broker).submit_many("q", numbered(3 * BATCH), PATIENT))
    assert [b"%d" % number for number in range(3 * BATCH)] == broker.taken
    assert (5, 3) == (len(broker.tokens), len(set(broker.tokens)))


async def test_a_duplicate_in_the_midst_is_raised() -> None:
    """The first job whose key another has ends it; its batch and those before it are in the queue."""
    broker = FarBroker()
    publish = broker.publish

    def answered(queue: str, jobs: Sequence[Submission], token: str, bound: Bound) -> list[str]:
        ids = publish(queue, jobs, token, bound)
        return [FirstId("q:1-9") if each == f"q:{BATCH + 3}-0" else each for each in ids]

    broker.publish = answered  # type: ignore[method-assign]
    with pytest.raises(DuplicateJob):
        await client_of(broker).submit_many("q", numbered(4 * BATCH), PATIENT)
    assert 2 * BATCH == len(broker.taken)
    await until_none()


async def test_a_cancelled_submission_holds_nobody_up() -> None:
    """Cancelled while a batch is away, it ends at once; that batch arrives, no other does, and its thread ends."""
    broker, may_go = FarBroker(), threading.Event()
    under_way = threading.Event()

    def hold() -> None:
        under_way.set()
        may_go.wait(WAIT_S)

    broker.before = [hold]
    with anyio.fail_after(WAIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(client_of(broker).submit_many, "q", numbered(3 * BATCH), PATIENT)
            while not under_way.is_set():
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
    assert [] == broker.taken
    may_go.set()
    await until_none()
    assert BATCH == len(broker.taken)
