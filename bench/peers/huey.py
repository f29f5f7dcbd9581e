"""huey: jobs submitted by calling them in a loop (there is no batch call), the thread consumer, no periodic jobs, `-q`.

2 threads for handlers that do nothing, 4 for those that sleep and for lone jobs; 1 to 32 were tried. A job is popped
before it runs: what a dying consumer was at is gone, by design. Counted: handlers' ends, then the list; nothing is
acknowledged. With results: RedisExpireHuey; they are written after the handler's end, so the last few are not waited
for.
"""

import os
import sys
from collections.abc import Sequence

from huey import RedisExpireHuey, RedisHuey

from .blocking import HANDLERS as BODIES
from .plan import OTHER, RESULT_TTL_S, TEXT, About, Row, read_plan

PLAN = read_plan()
UVLOOP = False
ABOUT = About(
    packages=("huey", "redis"),
    rows={"": Row("called in a loop, 2 threads (sleep, lone jobs 4), no periodic jobs, -q, hiredis", 8_000, 6_000)},
    promise="popped before it runs, so lost",
    redelivery="none",
    redelivery_s=10,
    source="huey.readthedocs.io, Consuming Tasks, options: --workers, --worker-type, --no-periodic, --quiet",
    pending=(("LLEN", "huey.redis.bench"),),
)
URL = f"unix://{PLAN.socket}"
huey = (
    RedisExpireHuey("bench", url=URL, expire_time=RESULT_TTL_S)
    if PLAN.results
    else RedisHuey("bench", url=URL, results=False)
)
HANDLERS = {name: huey.task(name=name)(body) for name, body in BODIES.items()}


class Producer:
    """Submits."""

    def many(self, handler: str, numbers: Sequence[int]) -> None:
        call = HANDLERS[handler]
        for number in numbers:
            call(number, OTHER, TEXT)

    def one(self, handler: str, number: int) -> None:
        HANDLERS[handler](number, OTHER, TEXT)


def work() -> None:
    """Become the worker, by the documented command."""
    threads = {"noop": 2, "sleep": 4, "stamp": 4, "slow": ABOUT.loss_slots}[PLAN.handler]
    os.execv(sys.executable, [
        sys.executable, "-m", "huey.bin.huey_consumer", "peers.huey.huey", "--workers", str(threads),
        "--worker-type", "thread", "--no-periodic", "--quiet",
    ])  # fmt: skip
