"""Counts what jobs cost a real server: commands, those of scripts among them, round trips, and bytes of its AOF.

`fixed` submits, fetches and settles batches of 500 itself, so that its counts are the same each time. `live` has an
engine do it: batches are then as large as the machine lets them be, so that its counts are for a bound.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import anyio
import redis

from headrace.engine.broker.port import Bound, Registration, Submission
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.redisio.connections import Command, Wire
from headrace.jobs import codec
from headrace.jobs.disposition import Disposition, Kind

from .baseline import Row
from .runs import BATCH, QUEUE, engine_with_a_plain_job, packed

#: Batches of the fixed run.
BATCHES = 20
#: Jobs of the live run, and how long it may take on a machine with far more to do than it can.
LIVE_JOBS, LIVE_WAIT_S = 20_000, 120.0
RESULT_TTL_MS = 300_000


def fixed(socket: str, *, keeps_results: bool) -> Row:
    """Return what one job costs where each batch has 500 of them."""
    broker = RedisBroker(f"unix://{socket}")
    broker.register(Registration("guard", (QUEUE,), 600.0))
    record = codec.pack_record(codec.ResultRecord(codec.VERSION, "succeeded", codec.NIL, None, "noop", 1, 1, 0, 0))
    ttl_ms = RESULT_TTL_MS if keeps_results else 0
    _carry(broker, range(1), record, ttl_ms)  # the server learns the scripts
    with redis.Redis(unix_socket_path=socket) as client, _exchanges() as exchanges:
        client.config_resetstat()
        aof_bytes = _aof_bytes(client)
        _carry(broker, range(1, BATCHES + 1), record, ttl_ms)
        aof_bytes, calls = _aof_bytes(client) - aof_bytes, _calls(client)
    broker.unregister()
    broker.close()
    row = _row(calls, exchanges[0], BATCHES * BATCH)
    return Row(row.figures | {"aof_bytes": round(aof_bytes / (BATCHES * BATCH), 2)}, row.by)


def live(loop: str, socket: str, *, keeps_results: bool) -> Row:
    """Return what one job costs from submission to settle in an engine at full load, its upkeep included."""

    async def steps() -> Row:
        engine, noop = engine_with_a_plain_job(f"unix://{socket}", "5m" if keeps_results else 0)
        with redis.Redis(unix_socket_path=socket) as client, _exchanges() as exchanges:
            client.config_resetstat()
            async with engine:
                await noop.submit_many((number, "text") for number in range(LIVE_JOBS))
                async with engine.running():
                    with anyio.fail_after(LIVE_WAIT_S):
                        while engine.statistics().backpressure.sinks["broker"].written < LIVE_JOBS:
                            await anyio.sleep(0.01)
                    calls = _calls(client)
            return _row(calls, exchanges[0], LIVE_JOBS)

    return anyio.run(steps, backend=loop)


def _carry(broker: RedisBroker, batches: range, record: bytes, ttl_ms: int) -> None:
    """Submit batches of these numbers, then fetch and settle one after the other."""
    for batch in batches:
        jobs = [Submission(packed(number)) for number in range(BATCH)]
        broker.publish(QUEUE, jobs, f"batch-{batch:02}", Bound(100_000))
    for _ in batches:
        leases = broker.fetch({QUEUE: BATCH}, 1.0)
        assert len(leases) == BATCH
        assert broker.settle([Disposition(lease, Kind.DONE, record, ttl_ms, name="noop") for lease in leases]) == 0


@contextmanager
def _exchanges() -> Iterator[list[int]]:
    """Count the round trips of all connections that carry jobs, in a list of one."""
    count, lock, wires = [0], threading.Lock(), cast(Any, Wire)
    exchange = wires.exchange

    def counted(wire: Wire, commands: Sequence[Command], wait_s: float = 0.0) -> Any:
        with lock:
            count[0] += 1
        return exchange(wire, commands, wait_s)

    wires.exchange = counted
    try:
        yield count
    finally:
        wires.exchange = exchange


def _calls(client: "redis.Redis") -> Counter[str]:
    """Return how often each command was called since the counts began; not those that the guard itself sends."""
    stats: dict[str, Any] = client.info("commandstats")
    own = ("config", "info", "client", "hello")
    calls = {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}
    return Counter({name: count for name, count in calls.items() if name.partition("|")[0] not in own})


def _aof_bytes(client: "redis.Redis") -> int:
    figures: dict[str, Any] = client.info("persistence")
    return int(figures["aof_current_size"] + figures["aof_buffer_length"])


def _row(calls: Counter[str], exchanges: int, jobs: int) -> Row:
    figures = {"commands": calls.total() / jobs, "exchanges": exchanges / jobs}
    by = {name: count / jobs for name, count in sorted(calls.items(), key=lambda item: (-item[1], item[0]))}
    return Row(figures, {"commands": by})
