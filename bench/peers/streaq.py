"""streaq: `enqueue_many` of 1000 in one pipeline, 100 at once, as many prefetched, uvloop.

`ttl=0` where no results are kept. Counted: handlers' ends, then the length of the stream, from which a finished job is
deleted. Concurrency from 16 to 100 and prefetch from 100 to 500 are within a tenth of each other. A worker's unfinished
jobs are claimed by others once `idle_timeout` has passed (60 s by default, renewed while they run).
"""

import os
import sys
from collections.abc import Sequence
from datetime import timedelta

from streaq import Worker

from .coroutines import HANDLERS as BODIES
from .plan import OTHER, RESULT_TTL_S, TEXT, About, Row, read_plan

PLAN = read_plan()
ABOUT = About(
    packages=("streaq", "coredis"),
    rows={"": Row("enqueue_many of 1000, concurrency 100, prefetch 100, silent, uvloop", 5_000, 5_000)},
    promise="kept until it is done; runs again",
    redelivery="idle_timeout: 60 s by default; the probe sets 2 s",
    redelivery_s=30,
    source="streaq.readthedocs.io, and the docstring of Worker: concurrency, prefetch; of task: silent, ttl",
    pending=(("XLEN", "streaq:default:queues:normal"),),
)
SLOTS = ABOUT.loss_slots if PLAN.handler == "slow" else 100
worker = Worker(
    f"unix://{PLAN.socket}", concurrency=SLOTS, prefetch=SLOTS, anyio_kwargs={"use_uvloop": True},
    idle_timeout=2 if PLAN.redeliver_fast else 60,
)  # fmt: skip
options = {"silent": True, "ttl": timedelta(seconds=RESULT_TTL_S) if PLAN.results else 0}
HANDLERS = {name: worker.task(**options)(body) for name, body in BODIES.items()}


class Producer:
    """Submits."""

    async def open(self) -> None:
        await worker.__aenter__()

    async def close(self) -> None:
        await worker.__aexit__(None, None, None)

    async def many(self, handler: str, numbers: Sequence[int]) -> None:
        await worker.enqueue_many([HANDLERS[handler].enqueue(number, OTHER, TEXT) for number in numbers])

    async def one(self, handler: str, number: int) -> None:
        await HANDLERS[handler].enqueue(number, OTHER, TEXT)


def work() -> None:
    """Become the worker, by the documented command."""
    os.execv(sys.executable, [sys.executable, "-m", "streaq", "run", "peers.streaq:worker"])
