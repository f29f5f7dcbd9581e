"""taskiq: RedisStreamBroker, which acknowledges; no batch call, so `kiq` gathered 1000 at a time; uvloop, hiredis.

100 jobs at once, 100 prefetched, `--no-parse`. ListQueueBroker pops a job before it runs and was no faster. Counted:
handlers' ends, then the stream's pending entries. Acknowledged entries stay in the stream, which grows without end
unless `maxlen` is set. Entries of a dead worker are claimed after `idle_timeout` (10 minutes by default), and only by a
worker that has just read something new.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from .coroutines import HANDLERS as BODIES
from .plan import OTHER, RESULT_TTL_S, TEXT, About, Row, read_plan

PLAN = read_plan()
ABOUT = About(
    packages=("taskiq", "taskiq-redis", "redis"),
    rows={"": Row("RedisStreamBroker, gathered kiq, 100 jobs, prefetch 100, uvloop, hiredis", 12_000, 12_000)},
    promise="kept until it is acknowledged; runs again, once new jobs come",
    redelivery="idle_timeout: 600 s by default; the probe sets 1 s, and a lock timeout of 1 s (none by default)",
    redelivery_s=30,
    source="taskiq worker --help: --max-async-tasks, --max-prefetch, --no-parse; README of taskiq-redis: brokers",
    pending=(("XPENDING", "taskiq", "taskiq"),),
)
URL = f"unix://{PLAN.socket}"
broker = RedisStreamBroker(
    URL, idle_timeout=1_000 if PLAN.redeliver_fast else 600_000,
    unacknowledged_lock_timeout=1.0 if PLAN.redeliver_fast else None,
)  # fmt: skip
if PLAN.results:
    broker = broker.with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=RESULT_TTL_S))
HANDLERS = {name: broker.task(task_name=name)(body) for name, body in BODIES.items()}


class Producer:
    """Submits."""

    async def open(self) -> None:
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    async def many(self, handler: str, numbers: Sequence[int]) -> None:
        await asyncio.gather(*[self.one(handler, number) for number in numbers])

    async def one(self, handler: str, number: int) -> None:
        await HANDLERS[handler].kiq(number, OTHER, TEXT)


def work() -> None:
    """Become the worker, by the documented command."""
    slots = str(ABOUT.loss_slots if PLAN.handler == "slow" else 100)
    os.execv(sys.executable, [
        sys.executable, "-m", "taskiq", "worker", "peers.taskiq:broker", "--workers", "1", "--no-parse",
        "--max-async-tasks", slots, "--max-prefetch", slots, "--log-level", "WARNING",
    ])  # fmt: skip
