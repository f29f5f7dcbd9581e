"""arq: no batch call, so `enqueue_job` gathered 1000 at a time; 100 jobs at once, uvloop, hiredis.

`keep_result=0` where none are kept. `poll_delay`, 0.5 s by default, is how often the worker looks for jobs: it bounds
throughput and makes a lone job wait. Here 0.01 s; the variant "default" leaves it alone. Counted: handlers' ends, then
the sorted set, from which a job is removed when it is done. A job whose worker died runs again when its in-progress key
lapses: `job_timeout` (300 s by default) plus 10 s.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from arq import create_pool
from arq.connections import RedisSettings

from .marks import marks
from .plan import OTHER, RESULT_TTL_S, SLEEP_S, SLOW_S, TEXT, About, Row, read_plan

PLAN = read_plan()
ABOUT = About(
    packages=("arq", "redis"),
    rows={
        "": Row("gathered enqueue_job, max_jobs 100, poll_delay 0.01 s, uvloop, hiredis", 5_000, 5_000),
        "default": Row("the same with the default poll_delay of 0.5 s", 3_000, 3_000),
    },
    promise="kept until it is done; runs again",
    redelivery="job_timeout + 10 s: 310 s by default; the probe sets job_timeout 1 s",
    redelivery_s=30,
    source="arq-docs.helpmanual.io, API reference, Worker: max_jobs, poll_delay, keep_result",
    pending=(("ZCARD", "arq:queue"),),
)
uvloop.install()
SETTINGS = RedisSettings(unix_socket_path=PLAN.socket)


async def noop(ctx: Any, number: int, other: int, text: str) -> int:
    marks.done()
    return number


async def sleep(ctx: Any, number: int, other: int, text: str) -> int:
    await asyncio.sleep(SLEEP_S)
    marks.done()
    return number


async def stamp(ctx: Any, number: int, other: int, text: str) -> int:
    marks.stamp(number)
    return number


async def slow(ctx: Any, number: int, other: int, text: str) -> int:
    marks.begin(number)
    await asyncio.sleep(SLOW_S)
    marks.end(number)
    return number


class WorkerSettings:
    """What the command line reads."""

    functions = (noop, sleep, stamp, slow)
    redis_settings = SETTINGS
    max_jobs = ABOUT.loss_slots if PLAN.handler == "slow" else 100
    keep_result = RESULT_TTL_S if PLAN.results else 0
    poll_delay = 0.5 if PLAN.variant == "default" else 0.01
    job_timeout = 1 if PLAN.redeliver_fast else 300
    log_results = False


class Producer:
    """Submits."""

    async def open(self) -> None:
        self.pool = await create_pool(SETTINGS)

    async def close(self) -> None:
        await self.pool.aclose()

    async def many(self, handler: str, numbers: Sequence[int]) -> None:
        await asyncio.gather(*[self.one(handler, number) for number in numbers])

    async def one(self, handler: str, number: int) -> None:
        await self.pool.enqueue_job(handler, number, OTHER, TEXT)


def work() -> None:
    """Become the worker, by the documented command."""
    os.execv(sys.executable, [sys.executable, "-m", "arq", "peers.arq.WorkerSettings"])
