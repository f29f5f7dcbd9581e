"""Stop: how a worker is told to end.

Two bells: quiet (end in order) and now (end at once). Belongs to one event loop.
"""

from collections.abc import Awaitable, Callable

import anyio


class Stop:
    """A request to end, which may become more urgent."""

    __slots__ = ("_now", "_quiet")

    def __init__(self) -> None:
        self._quiet = anyio.Event()
        self._now = anyio.Event()

    @property
    def requested(self) -> bool:
        """Whether anybody asked."""
        return self._quiet.is_set()

    def quiet(self) -> None:
        """Ask for an end in order; asking again, from wherever, changes nothing."""
        self._quiet.set()

    def now(self) -> None:
        """Ask for an end at once."""
        self._quiet.set()
        self._now.set()

    async def wait_quiet(self) -> None:
        """Return once somebody asked."""
        await self._quiet.wait()

    async def unless_now(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Await `wait`, or return early when it is to end at once."""
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await self._now.wait()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await wait()
            group.cancel_scope.cancel()
