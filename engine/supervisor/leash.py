"""The leash: a pipe from a supervisor to its child, held by the child's side here.

The supervisor writes orders into it; its death closes it, however it died. Orders do not count as signals: where a
whole group is signalled, the supervisor's order for the same thing hurries nobody. Until `attach`, an order ends the
process at once, for nothing runs yet. Owns a daemon thread, which needs no event loop to be alive.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from headrace.workers.runners.portal import Portal

from ..loops.stop import Stop

#: End in order; end at once.
QUIET: Final = b"q"
NOW: Final = b"n"
#: How long a process without a drain of its own may take to end when its supervisor is gone.
PATIENCE_S: Final = 10.0


class Leash:
    """The child's end of the pipe, watched from here on.

    Args:
        descriptor: The pipe, inherited.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._obey: Callable[[bytes], object] | None = None
        self._patience_s = PATIENCE_S
        os.set_inheritable(descriptor, False)
        threading.Thread(target=self._watch, name="headrace-leash", daemon=True).start()

    def attach(self, stop: Stop, *, patience_s: float) -> None:
        """Have orders told to a worker; called in its loop.

        Args:
            stop: What to tell.
            patience_s: How long the worker may take to end in order when its supervisor is gone.
        """
        portal = Portal.open()
        self._patience_s = patience_s
        self._set(lambda order: portal.post(stop.now if order == NOW else stop.quiet))

    def end_by_signal(self) -> None:
        """Have every order end this process by SIGTERM."""
        self._set(lambda _: os.kill(os.getpid(), signal.SIGTERM))

    def _set(self, obey: Callable[[bytes], object]) -> None:
        with self._lock:
            self._obey = obey

    def _watch(self) -> None:
        while order := os.read(self._descriptor, 1):
            self._pass_on(order)
        self._pass_on(QUIET)
        time.sleep(self._patience_s)
        os._exit(1)  # nobody is left to end it

    def _pass_on(self, order: bytes) -> None:
        with self._lock:
            if self._obey is None:
                os._exit(0)
            self._obey(order)
