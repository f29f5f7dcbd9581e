"""A worker program that adds: small enough to see at once what else takes memory or time.

adding.py URL LOOP
"""

import sys

import anyio

from headrace import Engine
from headrace.config.logs import configure


def make_engine(url: str) -> Engine:
    """Return an engine with one handler, which takes two numbers."""
    engine = Engine(url, slots=50, lease="5s", drain_timeout=5, unknown_handler_grace="0s")

    @engine.job
    async def add(a: int, b: int = 0) -> int:
        return a + b

    @engine.job
    async def measure(data: bytes) -> int:
        return len(data)

    return engine


if __name__ == "__main__":
    configure("info", "json")
    anyio.run(make_engine(sys.argv[1]).run, backend=sys.argv[2])
