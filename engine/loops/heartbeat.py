"""The heartbeat: keeps a worker's registration, from a thread that a blocked event loop cannot delay.

It promises to renew at a third of the lease, jittered, until stopped, and at once when told that there is a doubt; to
say when the registration was lost; to go on whatever renewing raises; and to look in between whether the loop still
turns. It has a connection of its own and shares no state with the loop but three callables.
"""

import math
import random
import threading
import time
from collections.abc import Callable

from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable

from ..observe.seldom import Seldom
from .stall import Stall

log = logger("headrace.heartbeat")
seldom = Seldom(log)

#: How soon to try again while the server is away: a tenth of what is left of the lease, within these bounds, so that a
#: server which comes and goes is met while it is there. What is over is not urgent any more.
AWAY_SHORTEST_S, AWAY_LONGEST_S = 0.05, 0.5


def away_pause_s(left_s: float) -> float:
    """Return how long to wait before the next try, when so many seconds of the lease are left."""
    return AWAY_LONGEST_S if left_s <= 0 else min(AWAY_LONGEST_S, max(AWAY_SHORTEST_S, left_s / 10))


class Heartbeat:
    """Renews a registration.

    Args:
        renew: Renews; returns False when the registration was revoked.
        lease_s: Seconds for which it stands without renewal.
        on_lost: Called from the heartbeat's thread when it was revoked.
        stall: Watches the loop, and ends the process and so this thread when it stands still for too long.
    """

    def __init__(self, renew: Callable[[], bool], lease_s: float, on_lost: Callable[[], None], stall: Stall) -> None:
        self._renew = renew
        self._stall = stall
        self._lease_s = lease_s
        self._on_lost = on_lost
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="headrace-heartbeat", daemon=True)
        self._look_at_s = 0.0
        self._ends_at_s = math.inf

    def start(self) -> None:
        """Begin; the registration was just made."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns at once, the thread ends with its present call."""
        self._stopped = True
        self._wake.set()

    def look_no_more(self) -> None:
        """Renew on, but leave the loop alone: it counts its turns no more."""
        self._look_at_s = math.inf

    def hurry(self) -> None:
        """Renew at once: the server refused something as no longer ours. For any thread."""
        self._wake.set()

    def _run(self) -> None:
        self._ends_at_s = time.monotonic() + self._lease_s
        due_s = time.monotonic() + self._lease_s / 3 * random.uniform(0.8, 1.0)
        while True:
            hurried = self._wake.wait(max(0.0, min(self._stall.look_every_s, due_s - time.monotonic())))
            self._wake.clear()
            if self._stopped:
                return
            if hurried or time.monotonic() >= due_s:
                due_s = time.monotonic() + self._beat() * random.uniform(0.8, 1.0)
            self._look()

    def _look(self) -> None:
        """Look whether the loop turns, as often as the stall wants."""
        if time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + self._stall.look_every_s
            self._stall.look()

    def _beat(self) -> float:
        """Renew once; return how long to wait before the next time."""
        began_s = time.monotonic()
        try:
            kept = self._renew()
        except BrokerUnavailable as error:
            away_s = away_pause_s(self._ends_at_s - time.monotonic())
            seldom.warning("registration not renewed", retry_in_s=round(away_s, 2), error=str(error))
            return away_s
        except Exception:
            # A defect; but a worker without a heartbeat would go on and have each of its jobs run elsewhere, too.
            away_s = away_pause_s(self._ends_at_s - time.monotonic())
            log.exception("registration not renewed", retry_in_s=round(away_s, 2))
            return away_s
        if not kept and not self._stopped:
            seldom.warning("registration lost", why="it expired, another worker revoked it, or the server was emptied")
            self._on_lost()
        self._ends_at_s = began_s + self._lease_s
        return self._lease_s / 3
