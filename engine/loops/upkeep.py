"""The upkeep loops of a worker: the mover, the reaper and the reporter.

The mover brings due jobs to their queues, the reaper takes over what dead workers left, the reporter publishes what
this worker says of itself. Each asks, pauses, and asks again; each survives a server that is away.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import anyio

from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable

from ..broker.courier import Courier
from ..broker.port import Broker, Caution, Lease
from ..broker.views import BrokerViews, QueueView
from ..observe.seldom import Seldom
from .pacing import Pacing

log = logger("headrace.upkeep")
seldom = Seldom(log)

#: The longest pause of the reaper: how soon jobs that were given back run elsewhere.
REAP_EVERY_S = 1.0
REPORT_EVERY_S = 1.0
#: A report outlives this many missed ones, so that a blocked loop does not take its worker off the list at once.
REPORT_TTL_S = 15.0
AWAY_PAUSE_S = 1.0


class Places(Protocol):
    """Places for jobs that others left, which new jobs would take otherwise; see Fetcher."""

    def rooms(self) -> Mapping[str, int]:
        """Return how many jobs of each queue may be taken over now; what is full has its next place kept."""

    def release(self, rooms: Mapping[str, int]) -> None:
        """Say that a sweep of these queues is over; the places that were kept for it are free again."""

    async def wait(self) -> None:
        """Return once a place that was kept is there."""


class Supply(Protocol):
    """How fast jobs are taken from each queue; see Fetcher."""

    fetched: dict[str, int]

    def slots(self) -> Mapping[str, int]:
        """Return for each queue in how many slots its jobs may run."""


async def move(broker: Broker, courier: Courier, supply: Supply) -> None:
    """Move due jobs to their queues, as far as those need them, until cancelled."""
    pacing = Pacing()
    while True:
        paces = pacing.paces(time.monotonic(), supply.fetched, supply.slots())
        next_s = None
        try:
            next_s = await courier.call(broker.promote, paces, paces)
        except BrokerUnavailable as error:
            seldom.warning("mover waits for the server", error=str(error))
        await anyio.sleep(pacing.pause_s(next_s))


async def are_empty(broker: Broker, views: BrokerViews, courier: Courier, queues: Sequence[str]) -> bool:
    """Return whether nothing is due or running; neither jobs that are due later nor those of paused queues count."""
    try:
        looked = await courier.call(views.queues, queues)
        if not any(_is_busy(view) for view in looked):
            # The mover may hold back jobs that are due; it has not looked yet at those that are since a moment.
            await courier.call(broker.promote, [view.name for view in looked if not view.paused])
            looked = await courier.call(views.queues, queues)
    except BrokerUnavailable:
        return False  # nobody knows: look again
    return not any(_is_busy(view) for view in looked)


def _is_busy(view: QueueView) -> bool:
    return bool(view.running or (view.queued and not view.paused))


async def reap(
    broker: Broker,
    courier: Courier,
    places: Places,
    take: Callable[[Sequence[Lease]], None],
    lease_s: float,
    caution: Callable[[], Caution],
) -> None:
    """Take over what was left behind, as much as there are places for, until cancelled."""
    while True:
        found: Sequence[Lease] = ()
        rooms = places.rooms()
        if rooms:
            try:
                found = await courier.call(broker.recover, rooms, caution())
            except BrokerUnavailable as error:
                seldom.warning("reaper waits for the server", error=str(error))
        if found:
            log.info("recovered", jobs=len(found))
            take(found)
        places.release(rooms)
        pause_s = 0.01 if found else min(REAP_EVERY_S, lease_s / 3) * random.uniform(0.7, 1.0)
        with anyio.move_on_after(pause_s):
            await places.wait()


async def introduce(views: BrokerViews, courier: Courier, worker: str, first: bytes) -> None:
    """Publish a worker's first report, so that whoever sees it working also finds its handlers."""
    with suppress(BrokerUnavailable):  # then `report` does it, as soon as the server is back
        await courier.call(views.fleet_put, worker, first, REPORT_TTL_S)


async def report(
    views: BrokerViews,
    courier: Courier,
    worker: str,
    make: Callable[[], bytes],
    queues: Sequence[str],
    look: Callable[[list[QueueView]], None],
) -> None:
    """Publish what `make` returns, and show `look` the depths of `queues`, until cancelled."""
    while True:
        try:
            look(await courier.call(views.queues, queues))
            await courier.call(views.fleet_put, worker, make(), REPORT_TTL_S)
        except BrokerUnavailable as error:
            seldom.warning("reporter waits for the server", error=str(error))
        await anyio.sleep(REPORT_EVERY_S)
