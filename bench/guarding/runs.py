"""The fixed runs: plain no-op jobs, from the server's reply to their settled statistics, and their submission.

Everything is the real thing but for the server: what would be sent is packed and sent nowhere, and replies come ready
made, in batches of 500. One thread does it all, by a clock of its own, so that a run takes the same steps each time.
`held` has them wait instead, and tells what memory each takes.
"""

import gc
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace import Engine
from headrace.engine.broker.port import Source
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.broker.redis_standing import Hold, Standing
from headrace.engine.loops.worker import Worker, WorkerPlan
from headrace.engine.redisio.connections import Command, _pack
from headrace.jobs import codec

from .clock import Clock, run

#: Jobs of a fetch and of a submission at full load: the most that one takes.
BATCH = 500
QUEUE = "default"


class Unsent:
    """A connection that packs what it is given and sends it nowhere.

    Attributes:
        replies: What the next exchanges are answered, in this order; 1 for each command when none is left.
    """

    def __init__(self) -> None:
        self.replies: deque[list[Any]] = deque()

    def exchange(self, commands: Sequence[Command], _wait_s: float = 0.0) -> list[Any]:
        """Return the replies that were laid ready."""
        _pack(commands)
        return self.replies.popleft() if self.replies else [1] * len(commands)

    def close(self) -> None:
        """Nothing is open."""


class NowhereBroker(RedisBroker):
    """The Redis broker without a server; its verbs return at once, so nothing goes to a thread."""

    waits = False

    def __init__(self) -> None:
        super().__init__("unix:///nowhere")
        self.reading, self.writing, self.adding = Unsent(), Unsent(), Unsent()
        wires: Any = self
        wires._reader, wires._writer, wires._any = self.reading, self.writing, self.adding  # noqa: SLF001 - its own
        source = Source(QUEUE, "worker:1")
        self._standing = Standing(source.member, 60_000, {QUEUE: Hold(source)})
        self._standing.term.ends_s = self._find_lost_at_s = math.inf

    def lay_jobs(self, jobs: int) -> None:
        """Have the next fetches bring that many jobs, 500 each."""
        stream = self._keys.of(QUEUE).jobs
        for first in range(0, jobs, BATCH):
            entries = [[b"1795406593154-%d" % number, [b"m", packed(number)]] for number in range(first, first + BATCH)]
            self.reading.replies.append([[[stream, entries]]])

    def lay_ids(self, jobs: int) -> None:
        """Have the next calls of `publish` answered with the first id of a batch."""
        for first in range(0, jobs, BATCH):
            self.adding.replies.append([b"1795406593154-%d" % first, 1])


def packed(number: int) -> bytes:
    """Return the envelope of a plain job."""
    return codec.pack_envelope("noop", msgspec.msgpack.encode((number, "text")))


def engine_with_a_plain_job(url: str, result_ttl: str | int) -> tuple[Engine, Any]:
    """Return an engine and its one handler, which does nothing."""
    engine = Engine(url, result_ttl=result_ttl)

    @engine.job(name="noop")
    async def nothing(number: int, text: str) -> None:
        """Do nothing."""

    return engine, nothing


def worker_of(engine: Engine, broker: NowhereBroker) -> Worker:
    """Return a worker as the engine would make it."""
    plan = WorkerPlan(registry=engine.registry, settings=engine.settings, queues={QUEUE: 1}, data_folder=Path.cwd)
    return Worker(broker, broker, plan)


def work(loop: str, jobs: int, counting: AbstractContextManager[object] | None = None) -> None:
    """Work off plain jobs whose results are kept: from the reply to a fetch to the settled statistics.

    Args:
        loop: "asyncio" or "trio".
        jobs: How many; a multiple of 500.
        counting: Entered around the work alone.
    """

    async def steps() -> None:
        broker = NowhereBroker()
        broker.lay_jobs(jobs)
        worker = worker_of(engine_with_a_plain_job("memory://", "5m")[0], broker)
        async with worker.dispatcher as dispatcher:
            with counting or nullcontext():
                while broker.reading.replies:
                    worker._take(broker.fetch({QUEUE: BATCH}, 0))  # noqa: SLF001 - what its fetcher calls
                await dispatcher.drain()
        assert jobs == worker._sink.statistics().written  # noqa: SLF001 - its report rounds nothing, but says less

    run(loop, Clock(), steps)


def submit(loop: str, jobs: int, counting: AbstractContextManager[object] | None = None) -> None:
    """Submit plain jobs by `submit_many`: from the arguments to the handles; otherwise as `work`."""

    async def steps() -> None:
        broker = NowhereBroker()
        broker.lay_ids(jobs)
        engine, noop = engine_with_a_plain_job("memory://", "5m")
        engine.connection._broker = broker  # noqa: SLF001 - what opening it would put there
        async with engine:
            with counting or nullcontext():
                handles = await noop.submit_many((number, "text") for number in range(jobs))
        assert jobs == len({handle.id for handle in handles})

    run(loop, Clock(), steps)


RUNS: Final = {"worker": work, "submission": submit}


def held(look: Callable[[], int], jobs: int) -> dict[str, int]:
    """Return by how much jobs make grow what `look` returns: those that wait for a slot, and handles of submitted ones.

    Args:
        look: Returns a measure of the memory in use.
        jobs: How many; a multiple of 500.
    """
    broker = NowhereBroker()
    engine, noop = engine_with_a_plain_job("memory://", "5m")
    engine.connection._broker = broker  # noqa: SLF001 - as in `submit`
    worker = worker_of(engine, broker)
    grown: dict[str, int] = {}
    gc.collect()
    gc.disable()  # what it does between two looks is no job's
    try:
        before, kept = look(), list[Any]()
        for _ in range(0, jobs, BATCH):
            broker.lay_jobs(BATCH)
            kept.append(worker._assigner.assign(broker.fetch({QUEUE: BATCH}, 0)))  # noqa: SLF001 - as its `_take` does
        grown["waiting for a slot"] = look() - before
        broker.lay_ids(jobs)
        before = look()
        kept.append(noop.sync.submit_many((number, "text") for number in range(jobs)))
        grown["handle of a submitted job"] = look() - before
    finally:
        gc.enable()
    return grown
