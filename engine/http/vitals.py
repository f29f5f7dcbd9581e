"""Whether this process serves, and whether anybody works: what /healthz and /readyz answer.

Health is about consumption: it fails when the workers of a queue have all stopped to ask for jobs, were frozen, killed
or blocked, or when this process's own loop stands still. Readiness is about the next request: the threads that carry
it, the server, its scripts. Anybody may ask, so one look is under way at a time, in a thread of its own that nobody
waits for longer than a probe does; those who ask meanwhile share it. It owns the watch on this process.
"""

import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from headrace.jobs.errors import BrokerUnavailable

from .. import inspect
from ..broker.control import OpenBroker
from ..broker.courier import Courier
from ..observe.fleet import FleetRecord
from ..observe.process import ProcessWatch
from .records import Health, Readiness

T = TypeVar("T")
#: A loop that was held up for so long has let every request wait that long: probes give up after a second or a few.
LAG_MAX_S: Final = 5.0
#: For how long a block is told after it: it cannot be told during it.
LAG_TOLD_S: Final = 10.0
#: How long a part may take to say that it is ready; a probe waits little longer.
READY_WITHIN_S: Final = 2.0
READY: Final = "ready"
#: For how long a look at the fleet is used again.
LOOK_TTL_S: Final = 1.0
#: More than look at the same time: one in two seconds is given up on, and ends when the connection does.
_THREADS_COUNT: Final = 100


class Vitals:
    """Answers for one serving process.

    Args:
        broker: Whose workers are looked at.
        courier: The way that requests take to it, which is looked at and not used.

    Attributes:
        watch: Figures of this process; whoever serves runs its `lag`, and enters its `pauses`.
    """

    def __init__(self, broker: OpenBroker, courier: Courier) -> None:
        self._broker = broker
        self._courier = courier
        self._limiter: anyio.CapacityLimiter | None = None
        self._asking = (anyio.Lock(), anyio.Lock())
        self._fleet: tuple[list[FleetRecord], list[FleetRecord]] = ([], [])
        self._looked_at_s = self._readied_at_s = -math.inf
        self._readiness = Readiness("unready", "", "", "")
        self.watch = ProcessWatch(time.monotonic())

    async def health(self) -> Health:
        """Return whether the broker answers, workers ask for jobs and the loop turns; raises BrokerUnavailable."""
        workers, silent = await self._known_fleet()
        stalled = inspect.stalled_queues(workers, silent)
        lag_s = self.watch.lag.recent_s(time.monotonic(), LAG_TOLD_S)
        blocked = lag_s is not None and lag_s >= LAG_MAX_S
        status = "blocked" if blocked else "stalled" if stalled else "ok"
        lag_ms = None if lag_s is None else round(lag_s * 1000, 3)
        return Health(status, len(workers), stalled, [record.worker for record in silent], lag_ms)

    async def _known_fleet(self) -> tuple[list[FleetRecord], list[FleetRecord]]:
        """Return the workers that are there and those that fell silent, as of at most LOOK_TTL_S ago."""
        with anyio.move_on_after(READY_WITHIN_S):
            async with self._asking[0]:
                if time.monotonic() - self._looked_at_s >= LOOK_TTL_S:
                    began_at_s = time.monotonic()
                    self._fleet = await self._aside(self._look)
                    self._looked_at_s = began_at_s
                return self._fleet
        raise BrokerUnavailable(f"the server gave no answer within {READY_WITHIN_S:g} s; see that it is up, and retry")

    async def readiness(self) -> Readiness:
        """Return which parts are ready; never raises, and takes READY_WITHIN_S at most for each."""
        asked_at_s = time.monotonic()
        async with self._asking[1]:
            if self._readied_at_s < asked_at_s:
                self._readiness = await self._ready_parts()
                self._readied_at_s = time.monotonic()
            return self._readiness

    async def _ready_parts(self) -> Readiness:
        late = "no thread was free in time: the server hangs, or is overloaded"
        pool = await _try(lambda: self._courier.call(lambda: None), late)
        if pool != READY:
            unknown = "not known: no thread was free to ask"
            return Readiness("unready", pool, unknown, unknown)
        broker = await _try(lambda: self._aside(self._broker.queue_names), "no answer in time")
        scripts = "not known: the server is away"
        if broker == READY:
            scripts = await _try(lambda: self._aside(self._broker.prepare), "not loaded in time")
        ready = broker == scripts == READY
        return Readiness(READY if ready else "unready", pool, broker, scripts)

    async def _aside(self, verb: Callable[[], T]) -> T:
        """Run a verb in a thread that is given up on when whoever asks is cancelled: it goes on, and tells nobody."""
        if not self._broker.waits:
            return verb()
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_THREADS_COUNT)
        return await anyio.to_thread.run_sync(verb, abandon_on_cancel=True, limiter=self._limiter)

    def _look(self) -> tuple[list[FleetRecord], list[FleetRecord]]:
        return inspect.workers(self._broker), inspect.silent_workers(self._broker)


async def _try(ask: Callable[[], Awaitable[object]], late: str) -> str:
    """Return READY, what the broker says is wrong, or `late` at the deadline, whatever comes of it after."""
    try:
        with anyio.move_on_after(READY_WITHIN_S) as scope:
            await ask()
    except BrokerUnavailable as error:
        return str(error)
    return late if scope.cancelled_caught else READY
