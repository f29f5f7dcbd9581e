"""What a plain job costs, counted and never timed: commands at the server, calls in the worker.

A slower engine shows here without a quiet machine: one command or one call more for each job is a red test. The bounds
leave room for batches that a busy machine makes smaller, and for another Python's way to count.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import anyio
import msgspec
import pytest
import redis

import headrace
from headrace import Engine
from headrace.engine.broker.port import Lease, Source
from headrace.engine.broker.redis_entries import leases_of
from headrace.engine.broker.redis_settling import calls_for
from headrace.engine.loops.assigner import Assigner
from headrace.engine.loops.assignment import BoundHandler, Terms
from headrace.engine.loops.dispatcher import Dispatcher
from headrace.engine.redisio.keys import Keys
from headrace.engine.sinks.broker import BrokerSink
from headrace.jobs import codec
from headrace.jobs.disposition import Disposition, Rules
from headrace.jobs.outcome import Outcome
from servers import Server, start_valkey

pytestmark = pytest.mark.anyio
JOBS = 20_000
WAIT_S = 120.0
#: Measured 1.05 without results, on a machine with eight times the work it can do: one XADD, and a share of what a
#: batch takes; with results one SET more.
COMMANDS_MAX, COMMANDS_WITH_RESULTS_MAX = 1.4, 2.4
#: Measured 0.007 to 0.008: a batch of 500 is submitted, fetched and settled with one each.
ROUND_TRIPS_MAX = 0.02
#: Measured 25.1 to 26.4 on Python 3.11, functions in C included, from the server's reply to the settled statistics.
CALLS_MAX = 29.0
OURS = tuple(str(Path(headrace.__file__).parent / part) for part in ("engine", "workers", "jobs"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("cost")) as server:
        yield server


def engine_with_a_plain_job(url: str, result_ttl: str | int) -> tuple[Engine, Any]:
    """Return an engine and its one handler, which does nothing."""
    engine = Engine(url, result_ttl=result_ttl)

    @engine.job(name="noop")
    async def nothing(number: int, text: str) -> None:
        """Do nothing."""

    return engine, nothing


@pytest.mark.parametrize(("result_ttl", "most"), [(0, COMMANDS_MAX), ("5m", COMMANDS_WITH_RESULTS_MAX)])
async def test_a_plain_job_takes_one_command_to_add_and_one_for_its_result(
    server: Server, result_ttl: str | int, most: float
) -> None:
    """At full load a job costs the server its XADD, its result's SET, and little else: scripts' inner calls count."""
    engine, noop = engine_with_a_plain_job(server.unix_url, result_ttl)
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        client.flushall()
        client.config_resetstat()
        async with engine:
            await noop.submit_many((number, "text") for number in range(JOBS))
            async with engine.running():
                with anyio.fail_after(WAIT_S):
                    while engine.statistics().backpressure.sinks["broker"].written < JOBS:
                        await anyio.sleep(0.01)
                stats: dict[str, Any] = client.info("commandstats")
        ours = {name: figures["calls"] for name, figures in stats.items() if not name.startswith("cmdstat_config")}
        assert 0 == client.xlen("headrace:{default}:jobs")
    assert (sum(ours.values()) / JOBS, ours) < (most, {})
    exchanges = ours["cmdstat_evalsha"] + ours["cmdstat_xreadgroup"]
    assert (exchanges / JOBS, ours) < (ROUND_TRIPS_MAX, {})


class Calls:
    """Counts the calls that our own code receives and makes, in this thread, while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _arg: object) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(OURS):
            self.count += 1


class Settling:
    """A broker that makes the commands of a settled batch and sends them nowhere."""

    waits = False
    url = "nowhere"

    def __init__(self) -> None:
        self.settled = 0
        self._keys = Keys("headrace")

    def settle(self, dispositions: Sequence[Disposition]) -> int:
        """Return that none was refused."""
        self.settled += sum(count for _, count in calls_for(self._keys, dispositions, 1000))
        return 0


async def calls_of(jobs: int) -> int:
    """Return how many calls `jobs` plain jobs take, from a fetch's reply to their settled statistics."""
    source = Source("default", "worker:1")
    replies = [
        [b"1795406593154-%d" % number, [b"m", codec.pack_envelope("noop", msgspec.msgpack.encode((number, "text")))]]
        for number in range(jobs)
    ]
    broker: Any = Settling()
    plan = engine_with_a_plain_job("memory://", "5m")[1].plan
    plan.arguments.compile()

    def on_settled(outcomes: Sequence[Outcome], _dispositions: Sequence[Disposition]) -> None:
        waits_s = [outcome.started_at_s - outcome.work.offered_at_s for outcome in outcomes]
        dispatcher.recorder.record_batch(1.0, outcomes, waits_s)

    sink = BrokerSink(broker, Rules(result_ttl_s=300.0, max_result_bytes=1000), on_settled)
    dispatcher = Dispatcher(100, backlog=2 * jobs, sinks=[sink])
    dispatcher.on_batch = lambda _batch: None
    async with dispatcher:
        terms = Terms(timeout_s=300.0, ttl_ms=300_000, max_deliveries=5)
        bound = BoundHandler(plan, dispatcher.bind(plan), terms=terms)
        assigner = Assigner({"noop": bound}, 3600.0, 1_000_000, dispatcher.outbox.put)
        with Calls() as calls:
            leases: list[Lease] = leases_of(source, replies, max_bytes=1_000_000)
            dispatcher.offer("async", assigner.assign(leases)["async"])
            await dispatcher.drain()
    assert jobs == broker.settled
    return calls.count


async def test_a_plain_job_takes_few_calls_in_the_worker() -> None:
    """The calls that a worker makes for a plain job stay few; what is made once a batch hardly counts."""
    each = (await calls_of(4000) - await calls_of(2000)) / 2000
    assert each < CALLS_MAX
