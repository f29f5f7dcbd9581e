"""What probes share: their arguments, the loop they run on, and the one line that they print.

A probe is a module in bench/probes that measures one figure once. It ends its server also when it is told to end.
"""

import argparse
import json
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

from .profiling import profiled
from .servers import FSYNC

LOOPS = ("asyncio", "uvloop", "trio")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what nearly every probe takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--jobs", type=int, default=100_000)
    made.add_argument("--slots", type=int, default=100)
    made.add_argument("--loop", choices=LOOPS, default="asyncio")
    made.add_argument("--fsync", choices=FSYNC, default="everysec")
    return made


def run_on(loop: str, function: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
    """Run a coroutine function on an event loop, profiled if the environment says so."""
    options = {"use_uvloop": True} if loop == "uvloop" else {}
    with profiled():
        return anyio.run(function, *arguments, backend="trio" if loop == "trio" else "asyncio", backend_options=options)


def end_by_signal() -> None:
    """Have SIGTERM end this process as an exception does, so that what it started is ended."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def report(figures: Mapping[str, float]) -> None:
    """Print the one line of a probe, with the most memory that this process has had."""
    print(json.dumps({"rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, **figures}))
