"""Portal: hands callables from any thread to the loop that opened it, on asyncio and on trio.

Calls that arrive close together cost one wake-up of the loop. A portal is opened in the loop's own thread; what it
calls must be short and must not raise. Its deque is the only state that threads share.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Self

import anyio

#: Runs a callable on the loop soon; raises RuntimeError once the loop has ended (trio's RunFinishedError is one).
Wake = Callable[[Callable[[], None]], object]


def _wake_of_this_loop() -> Wake:
    # Asked this way because a trio that is asyncio's guest has a running asyncio loop too.
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.get_running_loop().call_soon_threadsafe
    import trio

    return trio.lowlevel.current_trio_token().run_sync_soon


class Portal:
    """A way into one loop from any thread."""

    __slots__ = ("_armed", "_calls", "_wake")

    def __init__(self, wake: Wake) -> None:
        self._wake: Final = wake
        self._calls: Final[deque[Callable[[], None]]] = deque()
        self._armed = False

    @classmethod
    def open(cls) -> Self:
        """Return a portal into the running loop."""
        return cls(_wake_of_this_loop())

    def post(self, call: Callable[[], None]) -> bool:
        """Have `call` run on the loop soon; from any thread.

        Returns:
            False when the loop has ended: nobody is left to care, and the call is dropped.
        """
        self._calls.append(call)
        # A thread that finds the flag up has appended before the loop took it down, and the loop takes all there are
        # after that; so no call is left lying. Two threads that both find it down wake the loop twice: harmless.
        if self._armed:
            return True
        self._armed = True
        try:
            self._wake(self._run)
        except RuntimeError:
            return False
        return True

    def send(self, call: Callable[[], None]) -> None:
        """Do what `post` does, for whoever is not to know whether the loop has ended."""
        self.post(call)

    def _run(self) -> None:
        self._armed = False
        calls = self._calls
        while calls:
            calls.popleft()()
