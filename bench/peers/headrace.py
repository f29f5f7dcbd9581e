"""headrace, measured as its peers are.

100 slots on asyncio, its default loop; submission by `submit_many`, lone jobs by `submit`; everything else as it comes.
Counted: handlers' ends, then the stream's length: a settled job is deleted from it, its result is written before that
by the same script. With results: `result_ttl` of 5 minutes, the default; without: 0.
"""

import os
import sys
from collections.abc import Sequence

from headrace import Engine

from .coroutines import HANDLERS as BODIES
from .plan import OTHER, RESULT_TTL_S, TEXT, About, Row, read_plan

PLAN = read_plan()
UVLOOP = False
ABOUT = About(
    packages=("headrace", "redis"),
    rows={
        "": Row("100 slots, asyncio, submit_many", 300_000, 120_000),
        "trio": Row("100 slots, trio, submit_many", 300_000, 80_000),
    },
    promise="kept until it is settled; runs again",
    redelivery="lease: 30 s by default; the probe sets 1 s",
    redelivery_s=30,
    source="docs/performance.md; nothing is tuned",
    pending=(("XLEN", "headrace:{default}:jobs"),),
)
engine = Engine(
    f"unix://{PLAN.socket}", slots=ABOUT.loss_slots if PLAN.handler == "slow" else 100,
    result_ttl=RESULT_TTL_S if PLAN.results else 0, **({"lease": "1s"} if PLAN.redeliver_fast else {}),
)  # fmt: skip
HANDLERS = {name: engine.job(body) for name, body in BODIES.items()}


class Producer:
    """Submits."""

    async def open(self) -> None:
        await engine.__aenter__()

    async def close(self) -> None:
        await engine.__aexit__(None, None, None)

    async def many(self, handler: str, numbers: Sequence[int]) -> None:
        await HANDLERS[handler].submit_many((number, OTHER, TEXT) for number in numbers)

    async def one(self, handler: str, number: int) -> None:
        await HANDLERS[handler].submit(number, OTHER, TEXT)


def work() -> None:
    """Become the worker, by the documented command."""
    loop = PLAN.variant or "asyncio"
    os.execv(sys.executable, [sys.executable, "-m", "headrace", "run", "peers.headrace:engine", "--loop", loop])
