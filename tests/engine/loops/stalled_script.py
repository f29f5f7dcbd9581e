"""A worker whose handler holds up its event loop; test_stall.py starts it."""

import sys
import time

import anyio

from headrace import Engine

url, loop, limit_s = sys.argv[1:4]
engine = Engine(url, slots=4, lease="500ms", max_deliveries=2, stall_limit=float(limit_s), drain_timeout=5)


@engine.job(timeout=0)
async def block(seconds: float) -> str:
    """Let nobody else run meanwhile."""
    time.sleep(seconds)  # noqa: ASYNC251 - this is what it is for
    return "blocked"


@engine.job
async def quick() -> str:
    """Do nothing."""
    return "done"


if __name__ == "__main__":
    anyio.run(engine.run, backend=loop)
