"""A worker program for the tests of jobs that kill their worker: most do no harm, some end the whole process."""

import os
import sys

import anyio

from headrace import Engine

url, loop = sys.argv[1:3]
engine = Engine(url, slots=10, lease="500ms", max_deliveries=3, drain_timeout=5)


@engine.job
async def harmless(number: int) -> int:
    """Take a moment, so that some of these always run beside the poison."""
    await anyio.sleep(0.005)
    return number


@engine.job
async def poison() -> None:
    """Take the worker down."""
    await anyio.sleep(0.01)
    os._exit(11)


@engine.job(on_crash="dead")
async def payment() -> None:
    """Take the worker down in the middle of something that must not be done twice."""
    os._exit(12)


if __name__ == "__main__":
    anyio.run(engine.run, backend=loop)
