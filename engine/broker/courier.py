"""The courier: carries a broker's synchronous verbs from an event loop to a thread of their own, and back.

A hop costs the same whatever it carries, so verbs travel in batches. Each role (reading, writing, upkeep, submitting)
has a courier, so that a waiting read never holds up a write. Brokers that never wait are called in place.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

R = TypeVar("R")


class Courier:
    """One role's way to a broker.

    Args:
        waits: Whether the broker's verbs may wait for a server.
        threads: How many verbs may be under way at the same time.
    """

    __slots__ = ("_limiter", "_threads", "_waits")

    def __init__(self, waits: bool, threads: int = 1) -> None:
        self._waits = waits
        self._threads = threads
        self._limiter: anyio.CapacityLimiter | None = None

    async def call(self, verb: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Run a verb and return what it returns; once begun, it is not cut short by cancellation."""
        if not self._waits:
            return verb(*args, **kwargs)
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads)
        call = partial(verb, *args, **kwargs) if kwargs else verb
        return await anyio.to_thread.run_sync(call, *(() if kwargs else args), limiter=self._limiter)
