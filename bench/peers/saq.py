"""saq: no batch call, so `enqueue` gathered 1000 at a time; uvloop, hiredis; `timeout=0`, and `ttl=-1` for no results.

Counted: handlers' ends, then the sorted set of incomplete jobs. Concurrency 50 for handlers that do nothing, 100 for
those that sleep. A job whose worker died comes back when a sweep finds its timeout or heartbeat passed (each 60 s by
default; a lock of 60 s keeps it at that), and only if it has `retries` above the default of 1; otherwise the sweep
aborts it.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from redis import asyncio as redis
from saq.queue.redis import RedisQueue

from .marks import marks
from .plan import OTHER, RESULT_TTL_S, SLEEP_S, SLOW_S, TEXT, About, Row, read_plan

PLAN = read_plan()
ABOUT = About(
    packages=("saq", "redis"),
    rows={"": Row("gathered enqueue, concurrency 50 (sleep 100), timeout 0, uvloop, hiredis", 6_000, 6_000)},
    promise="kept until it is done; by default (retries=1) a sweep aborts it",
    redelivery="sweep each 60 s, heartbeat off, retries 1 by default; the probe: 60 s (a lock), 1 s, retries 5",
    redelivery_s=90,
    source="README: concurrency, the hiredis extra; docstrings of Queue and Job: max_concurrent_ops, timeout, ttl",
    pending=(("ZCARD", "saq:default:incomplete"),),
)
uvloop.install()
SLOTS = {"slow": ABOUT.loss_slots, "sleep": 100}.get(PLAN.handler, 50)
queue = RedisQueue(redis.from_url(f"unix://{PLAN.socket}"), max_concurrent_ops=SLOTS)
OPTIONS: dict[str, Any] = {"timeout": 0, "ttl": RESULT_TTL_S if PLAN.results else -1}
if PLAN.redeliver_fast:
    OPTIONS |= {"heartbeat": 1, "retries": 5}


async def noop(ctx: Any, *, number: int, other: int, text: str) -> int:
    marks.done()
    return number


async def sleep(ctx: Any, *, number: int, other: int, text: str) -> int:
    await asyncio.sleep(SLEEP_S)
    marks.done()
    return number


async def stamp(ctx: Any, *, number: int, other: int, text: str) -> int:
    marks.stamp(number)
    return number


async def slow(ctx: Any, *, number: int, other: int, text: str) -> int:
    marks.begin(number)
    await asyncio.sleep(SLOW_S)
    marks.end(number)
    return number


settings = {
    "queue": queue,
    "functions": [noop, sleep, stamp, slow],
    "concurrency": SLOTS,
    **({"timers": {"sweep": 1}} if PLAN.redeliver_fast else {}),
}


class Producer:
    """Submits."""

    async def open(self) -> None:
        await queue.connect()

    async def close(self) -> None:
        await queue.disconnect()

    async def many(self, handler: str, numbers: Sequence[int]) -> None:
        await asyncio.gather(*[self.one(handler, number) for number in numbers])

    async def one(self, handler: str, number: int) -> None:
        await queue.enqueue(handler, number=number, other=OTHER, text=TEXT, **OPTIONS)


def work() -> None:
    """Become the worker, by the documented command."""
    os.execv(sys.executable, [sys.executable, "-m", "saq", "peers.saq.settings", "--quiet"])
