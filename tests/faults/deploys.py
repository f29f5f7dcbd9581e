"""A worker program for the tests of stopping: each job writes its number to a journal outside the server, durably."""

import os
import sys

import anyio

from headrace import Engine

url, journal, loop = sys.argv[1:4]
engine = Engine(url, slots=20, drain_timeout=5)
file = os.open(journal, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)


@engine.job
async def work(number: int) -> int:
    """Take a moment; note the start and the end."""
    os.write(file, f"start {number}\n".encode())
    await anyio.sleep(0.01)
    os.write(file, f"end {number}\n".encode())
    return number


@engine.job
async def stubborn(seconds: float) -> None:
    """Take longer than any drain."""
    os.write(file, b"start stubborn\n")
    await anyio.sleep(seconds)


if __name__ == "__main__":
    backend = "trio" if loop == "trio" else "asyncio"
    anyio.run(lambda: engine.run(burst="--burst" in sys.argv), backend=backend)
