"""The heartbeat: keeps a worker's registration, from a thread that a blocked event loop cannot delay.

It promises to renew at a third of the lease, jittered, until stopped, and to say when the registration was lost. It has
a connection of its own and shares no state with the loop but two callables.
"""

import random
import threading
import time
from collections.abc import Callable

from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable

log = logger("headrace.heartbeat")

#: How soon to try again while the server is away.
AWAY_PAUSE_S = 0.5


class Heartbeat:
    """Renews a registration.

    Args:
        renew: Renews; returns False when the registration was revoked.
        lease_s: Seconds for which it stands without renewal.
        on_lost: Called from the heartbeat's thread when it was revoked.
    """

    def __init__(self, renew: Callable[[], bool], lease_s: float, on_lost: Callable[[], None]) -> None:
        self._renew = renew
        self._lease_s = lease_s
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-heartbeat", daemon=True)
        self.renewed_at_s = time.monotonic()

    def start(self) -> None:
        """Begin; the registration was just made."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns at once, the thread ends with its present call."""
        self._stop.set()

    def _run(self) -> None:
        pause_s = self._lease_s / 3
        while not self._stop.wait(pause_s * random.uniform(0.8, 1.0)):
            try:
                kept = self._renew()
            except BrokerUnavailable as error:
                log.warning("registration not renewed", retry_in_s=AWAY_PAUSE_S, error=str(error))
                pause_s = min(AWAY_PAUSE_S, self._lease_s / 6)
                continue
            pause_s = self._lease_s / 3
            self.renewed_at_s = time.monotonic()
            if not kept and not self._stop.is_set():
                log.error("registration lost", why="it expired, or another worker revoked it")
                self._on_lost()
