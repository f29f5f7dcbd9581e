"""Whether this process serves, and whether anybody works: what /healthz and /readyz answer.

Health is about consumption: it fails when the workers of a queue have all stopped to ask for jobs, were frozen, killed
or blocked, or when this process's own loop stands still. Readiness is about the next request: the threads that carry
it, the server, its scripts. Each question is asked anew. It owns the watch on this process.
"""

import time
from collections.abc import Callable
from typing import Final

import anyio

from headrace.jobs.errors import BrokerUnavailable

from .. import inspect
from ..broker.control import OpenBroker
from ..broker.courier import Courier
from ..observe.fleet import FleetRecord
from ..observe.process import ProcessWatch
from .records import Health, Readiness

#: A loop that was held up for so long has let every request wait that long: probes give up after a second or a few.
LAG_MAX_S: Final = 5.0
#: For how long a block is told after it: it cannot be told during it.
LAG_TOLD_S: Final = 10.0
#: How long a part may take to say that it is ready; a probe waits little longer.
READY_WITHIN_S: Final = 2.0
READY: Final = "ready"


class Vitals:
    """Answers for one serving process.

    Args:
        broker: Whose workers are looked at.
        courier: The way that requests take to it.

    Attributes:
        watch: Figures of this process; whoever serves runs its `lag`, and enters its `pauses`.
    """

    def __init__(self, broker: OpenBroker, courier: Courier) -> None:
        self._broker = broker
        self._courier = courier
        self.watch = ProcessWatch(time.monotonic())

    async def health(self) -> Health:
        """Return whether the broker answers, workers ask for jobs and the loop turns; raises BrokerUnavailable."""
        workers, silent = await self._courier.call(self._look)
        stalled = inspect.stalled_queues(workers, silent)
        lag_s = self.watch.lag.recent_s(time.monotonic(), LAG_TOLD_S)
        blocked = lag_s is not None and lag_s >= LAG_MAX_S
        status = "blocked" if blocked else "stalled" if stalled else "ok"
        lag_ms = None if lag_s is None else round(lag_s * 1000, 3)
        return Health(status, len(workers), stalled, [record.worker for record in silent], lag_ms)

    async def readiness(self) -> Readiness:
        """Return which parts are ready; never raises, and takes READY_WITHIN_S at most for each."""
        pool = await self._try(lambda: None, "no thread was free in time: the server hangs, or is overloaded")
        if pool != READY:
            unknown = "not known: no thread was free to ask"
            return Readiness("unready", pool, unknown, unknown)
        broker = await self._try(self._broker.queue_names, "no answer in time")
        scripts = "not known: the server is away"
        if broker == READY:
            scripts = await self._try(self._broker.prepare, "not loaded in time")
        ready = broker == scripts == READY
        return Readiness(READY if ready else "unready", pool, broker, scripts)

    async def _try(self, verb: Callable[[], object], late: str) -> str:
        try:
            with anyio.move_on_after(READY_WITHIN_S) as scope:
                await self._courier.call(verb)
        except BrokerUnavailable as error:
            return str(error)
        return late if scope.cancelled_caught else READY

    def _look(self) -> tuple[list[FleetRecord], list[FleetRecord]]:
        return inspect.workers(self._broker), inspect.silent_workers(self._broker)
