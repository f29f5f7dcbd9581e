"""A ferry: a thread that takes the batches of one long submission across, so that the next is packed while one is away.

It lives as long as that submission. It promises that each crossing ends once, with what the broker answered or its
error, whatever becomes of the coroutine that waits for it. A waiting coroutine holds nothing but its own crossing.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

import anyio

from headrace.workers.runners.portal import Portal

R = TypeVar("R")


class Crossing(Generic[R]):
    """A call that is under way; made in an event loop, ended by the ferry's thread."""

    __slots__ = ("_answer", "_arrived", "_error")

    def __init__(self) -> None:
        self._arrived = anyio.Event()
        self._answer: R
        self._error: Exception | None = None

    async def wait(self) -> R:
        """Return what was answered, or raise it; cancelled, the call goes on all the same."""
        await self._arrived.wait()
        if self._error is not None:
            raise self._error
        return self._answer

    def make(self, call: Callable[[], R], portal: Portal) -> None:
        """Make the call and tell the loop; in the ferry's thread."""
        try:
            self._answer = call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for whoever waits, and this thread goes on
            self._error = error
        portal.post(self._arrived.set)


class Ferry:
    """Makes calls one after the other in a thread of its own; for one event loop.

    Args:
        portal: The way back into that loop.
    """

    __slots__ = ("_calls", "_portal", "_thread")

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="headrace-ferry", daemon=True)
        self._thread.start()

    def send(self, call: Callable[..., R], *args: object) -> Crossing[R]:
        """Have a call made; it begins at once unless another is under way."""
        crossing: Crossing[R] = Crossing()
        self._calls.put(lambda: crossing.make(lambda: call(*args), self._portal))
        return crossing

    def close(self) -> None:
        """End the thread once it has made what it was given; returns at once."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
