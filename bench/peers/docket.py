"""docket (pydocket): `add_many` of 1000, concurrency 100, uvloop, hiredis.

`execution_ttl=0` keeps neither results nor state. `minimum_check_interval`, 250 ms by default, is how often the worker
looks for more: a filled queue moves at four times the concurrency a second, at most. Here 5 ms; the variant "default"
leaves it alone. The pool may hold 1000 connections: with redis-py's bound of 100 some jobs fail on "Too many
connections". Counted: handlers' ends, then the stream, from which a finished job is deleted. Jobs of a dead worker are
claimed after `redelivery_timeout` (5 minutes by default).
"""

import logging
from collections.abc import Sequence
from datetime import timedelta

import uvloop
from docket import Docket, Worker

from .coroutines import HANDLERS
from .plan import OTHER, RESULT_TTL_S, TEXT, About, Row, read_plan

PLAN = read_plan()
COMMON = "add_many of 1000, concurrency 100, 1000 connections, uvloop, hiredis"
ABOUT = About(
    packages=("pydocket", "redis"),
    rows={
        "": Row(f"{COMMON}, minimum_check_interval 5 ms", 8_000, 8_000),
        "default": Row(f"{COMMON}, minimum_check_interval 250 ms, its default", 2_000, 2_000),
    },
    promise="kept until it is acknowledged; runs again",
    redelivery="redelivery_timeout: 300 s by default; the probe sets 2 s",
    redelivery_s=30,
    source="docket.lol, API Reference, Worker: concurrency, minimum_check_interval; Docket: add_many, execution_ttl",
    pending=(("XLEN", "docket:stream"),),
)  # fmt: skip


def make_docket() -> Docket:
    docket = Docket(
        name="docket", url=f"unix://{PLAN.socket}?max_connections=1000",
        execution_ttl=timedelta(seconds=RESULT_TTL_S if PLAN.results else 0),
    )  # fmt: skip
    for handler in HANDLERS.values():
        docket.register(handler)
    return docket


class Producer:
    """Submits."""

    async def open(self) -> None:
        self.docket = await make_docket().__aenter__()

    async def close(self) -> None:
        await self.docket.__aexit__(None, None, None)

    async def many(self, handler: str, numbers: Sequence[int]) -> None:
        function, call = HANDLERS[handler], self.docket.call
        await self.docket.add_many([call(function)(number, OTHER, TEXT) for number in numbers])

    async def one(self, handler: str, number: int) -> None:
        await self.docket.add(HANDLERS[handler])(number, OTHER, TEXT)


async def serve() -> None:
    options: dict[str, timedelta] = {}
    if PLAN.variant != "default":
        options["minimum_check_interval"] = timedelta(milliseconds=5)
    if PLAN.redeliver_fast:
        options["redelivery_timeout"] = timedelta(seconds=2)
    slots = ABOUT.loss_slots if PLAN.handler == "slow" else 100
    async with make_docket() as docket, Worker(docket, concurrency=slots, **options) as worker:
        await worker.run_forever()


def work() -> None:
    """Run the worker, as documented for programs."""
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(serve())
