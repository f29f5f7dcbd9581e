"""The heartbeat: keeps a worker's registration, from a thread that a blocked event loop cannot delay.

It promises to renew at a third of the lease, jittered, until stopped, and at once when told that there is a doubt; to
say when the registration was lost; and to go on whatever renewing raises. It has a connection of its own and shares no
state with the loop but two callables.
"""

import random
import threading
import time
from collections.abc import Callable

from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable

from ..observe.seldom import Seldom

log = logger("headrace.heartbeat")
seldom = Seldom(log)

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
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="headrace-heartbeat", daemon=True)
        self.renewed_at_s = time.monotonic()

    def start(self) -> None:
        """Begin; the registration was just made."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns at once, the thread ends with its present call."""
        self._stopped = True
        self._wake.set()

    def hurry(self) -> None:
        """Renew at once: the server refused something as no longer ours. For any thread."""
        self._wake.set()

    def _run(self) -> None:
        pause_s = self._lease_s / 3
        while True:
            self._wake.wait(pause_s * random.uniform(0.8, 1.0))
            self._wake.clear()
            if self._stopped:
                return
            pause_s = self._beat()

    def _beat(self) -> float:
        """Renew once; return how long to wait before the next time."""
        away_s = min(AWAY_PAUSE_S, self._lease_s / 6)
        try:
            kept = self._renew()
        except BrokerUnavailable as error:
            seldom.warning("registration not renewed", retry_in_s=away_s, error=str(error))
            return away_s
        except Exception:
            # A defect; but a worker without a heartbeat would go on and have each of its jobs run elsewhere, too.
            log.exception("registration not renewed", retry_in_s=away_s)
            return away_s
        self.renewed_at_s = time.monotonic()
        if not kept and not self._stopped:
            seldom.warning("registration lost", why="it expired, another worker revoked it, or the server was emptied")
            self._on_lost()
        return self._lease_s / 3
