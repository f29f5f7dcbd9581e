"""What runs in a peer's own environment: its worker, its producer, or what it says of itself.

    python -m peers.role NAME about | work | fill WARM COUNT [FIRST] | ping COUNT

A peer's file has ABOUT, `work()`, which becomes the worker, and Producer, whose `many(handler, numbers)` and
`one(handler, number)` may be coroutine functions, as may `open()` and `close()`.
"""

import asyncio
import dataclasses
import importlib
import importlib.metadata
import inspect
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from .plan import About, read_plan

BATCH = 1000


async def done(outcome: Any) -> Any:
    """Return what a plain or a coroutine function gave."""
    return await outcome if inspect.isawaitable(outcome) else outcome


async def fill(producer: Any, warm: int, count: int, first: int = 0) -> dict[str, float]:
    """Submit the warm-up, then the jobs, numbered from `first`; returns how fast the jobs were taken."""
    handler = read_plan().handler

    async def submit(numbers: Sequence[int]) -> None:
        for at in range(0, len(numbers), BATCH):
            await done(producer.many(handler, numbers[at : at + BATCH]))

    await submit(range(first + count, first + count + warm))
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await submit(range(first, first + count))
    took_s = time.perf_counter() - began_s
    return {"submit_per_s": count / took_s, "submit_cpu_us": (time.process_time() - cpu_s) / count * 1e6}


async def ping(producer: Any, count: int) -> dict[str, float]:
    """Submit lone jobs with pauses, each with the time of its submission."""
    took_s = 0.0
    for number in range(count):
        began_ns = time.monotonic_ns()
        await done(producer.one("stamp", began_ns // 1000))
        took_s += (time.monotonic_ns() - began_ns) / 1e9
        await asyncio.sleep(0.02 + (number % 7) / 500)
    return {"submit_one_ms": took_s / count * 1000}


async def produce(module: Any, role: str, numbers: list[int]) -> dict[str, float]:
    """Run one of the producer's roles."""
    producer = module.Producer()
    await done(getattr(producer, "open", lambda: None)())
    try:
        return await (fill if role == "fill" else ping)(producer, *numbers)
    finally:
        await done(getattr(producer, "close", lambda: None)())


def main() -> None:
    """Run the role that the command line names."""
    name, role, *rest = sys.argv[1:]
    module = importlib.import_module(f"peers.{name}")
    if role == "work":
        module.work()
    elif role == "about":
        about: About = module.ABOUT
        versions = {package: importlib.metadata.version(package) for package in about.packages}
        print(json.dumps(dataclasses.asdict(dataclasses.replace(about, versions=versions))))
    else:
        runner = importlib.import_module("uvloop").run if getattr(module, "UVLOOP", True) else asyncio.run
        print(json.dumps(runner(produce(module, role, [int(word) for word in rest]))))


if __name__ == "__main__":
    main()
