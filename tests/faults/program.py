"""The program of the fault tests: a worker or a producer, as processes of their own that may be killed at any moment.

    program.py work URL JOURNAL LOOP [LEASE] [BREAK]     works until told to stop
    program.py submit URL JOURNAL LOOP [LEASE] [MS]      submits jobs of MS milliseconds until told to stop

BREAK takes a promise away, so that the checker can be shown to notice: "early-ack" acknowledges before running,
"no-fence" lets a worker settle that has lost its registration.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import anyio
import msgspec
from journal import Journal

from headrace import BrokerUnavailable, Context, Engine, Retry
from headrace.config.logs import configure
from headrace.engine.broker.port import Lease
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.redisio import scripts
from headrace.jobs.disposition import Disposition, Kind

SLOTS = 10
#: The handler `work` of each engine.
WORK: dict[Engine, Any] = {}


def make_engine(url: str, journal: Journal, lease_s: float) -> Engine:
    """Return an engine whose handlers write down what they do."""
    engine = Engine(url, slots=SLOTS, lease=lease_s, max_deliveries=1000, drain_timeout=5, result_ttl=3600)

    @engine.job
    async def work(ctx: Context, number: int, milliseconds: float) -> int:
        journal.note("start", ctx.id, number)
        await anyio.sleep(milliseconds / 1000)
        journal.note("end", ctx.id)
        return os.getpid()

    @engine.job
    async def hold(ctx: Context, number: int, seconds: float) -> int:
        """Take `seconds` the first time, and no time when started again."""
        journal.note("start", ctx.id, number)
        try:
            await anyio.sleep(seconds if ctx.deliveries == 1 else 0)
        except anyio.get_cancelled_exc_class():
            journal.note("cut", ctx.id)
            raise
        journal.note("end", ctx.id)
        return os.getpid()

    @engine.job
    async def block(ctx: Context, number: int, seconds: float) -> int:
        """Hold up the whole event loop."""
        journal.note("start", ctx.id, number)
        time.sleep(seconds)  # noqa: ASYNC251 - this is what it is for
        journal.note("end", ctx.id)
        return os.getpid()

    @engine.job(retry=Retry(attempts=3, delay=0, jitter=0))
    async def stumble(ctx: Context, number: int, seconds: float) -> int:
        """Fail the first time, and take `seconds` when started again by somebody else meanwhile."""
        journal.note("start", ctx.id, number)
        await anyio.sleep(0.5 if ctx.deliveries == 1 else seconds)
        if ctx.deliveries == 1 and ctx.attempt == 1:
            raise RuntimeError("stumbled")
        journal.note("end", ctx.id)
        return os.getpid()

    WORK[engine] = work
    return engine


async def produce(engine: Engine, journal: Journal, milliseconds: float) -> None:
    """Submit, one at a time and in batches, through whatever happens; note what was acknowledged."""
    number = os.getpid() * 1_000_000
    work = WORK[engine]
    async with engine:
        while True:
            batch = [number + 1 + i for i in range(1 + 9 * (number % 2))]
            number = batch[-1]
            for each in batch:
                journal.note("try", each)
            try:
                if len(batch) == 1:
                    ids = [(await work.submit(number, milliseconds)).id]
                else:
                    ids = [handle.id for handle in await work.submit_many((each, milliseconds) for each in batch)]
            except BrokerUnavailable:
                await anyio.sleep(0.05)
                continue
            for each, job_id in zip(batch, ids, strict=True):
                journal.note("ok", job_id, each)
            await anyio.sleep(0.01)


def acknowledge_early() -> None:
    """Have every job acknowledged when it is fetched, as brokers without acknowledgements do."""
    fetch = RedisBroker.fetch

    def and_settle(self: RedisBroker, rooms: Mapping[str, int], wait_s: float) -> list[Lease]:
        leases = fetch(self, rooms, wait_s)
        self.settle([Disposition(lease, Kind.DONE) for lease in leases])
        return leases

    RedisBroker.fetch = and_settle  # type: ignore[method-assign]


def remove_fence() -> None:
    """Have the server's scripts act for whoever asks, registered or not."""
    for name in ("settle", "settle_special", "give_back", "renew"):
        script = scripts.script(name)
        text = script.text.replace(b"if not redis.call('ZSCORE'", b"if false and not redis.call('ZSCORE'")
        assert text != script.text
        sha1 = scripts.hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        broken = msgspec.structs.replace(script, text=text, sha1=sha1)
        scripts._BY_SHA1[sha1] = broken
        _BROKEN[name] = broken
    find = scripts.script
    from headrace.engine.broker import redis, redis_settling

    for module in (redis, redis_settling):
        module.script = lambda name: _BROKEN.get(name) or find(name)  # type: ignore[assignment]


_BROKEN: dict[str, scripts.Script] = {}
BREAKS = {"early-ack": acknowledge_early, "no-fence": remove_fence}


def main() -> None:
    """Run until told to stop."""
    began_s = time.monotonic()
    role, url, path, loop, lease_s, *more = sys.argv[1:]
    configure("info", "json")
    journal = Journal(path)
    engine = make_engine(url, journal, float(lease_s))
    if role == "submit":
        # At once, wherever it is: each line of the journal is on the disk when it is written.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        anyio.run(produce, engine, journal, float(more[0]), backend=loop)
        return
    for each in more:
        BREAKS[each]()
    anyio.run(engine.run, backend=loop)
    journal.note("used", "cpu", time.process_time(), time.monotonic() - began_s)


if __name__ == "__main__":
    main()
