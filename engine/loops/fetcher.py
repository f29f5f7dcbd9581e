"""The fetcher: asks the broker for as many jobs as there is room for, never more, and hands them to the pools.

It promises that a queue whose handlers' pool is full is left alone while the others go on, and that a full outbox,
through full pools, ends the fetching. It owns nothing but its own counters.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import anyio
import anyio.to_thread

from headrace.config import limits
from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable, Outlook
from headrace.workers.groups import plain_group
from headrace.workers.pool import Pool
from headrace.workers.prefetch import Prefetch

from ..broker.courier import Courier
from ..broker.port import Broker, Lease
from ..observe.seldom import Seldom

seldom = Seldom(logger("headrace.fetch"))

#: How long a fetch waits at the server while there is nothing to do.
WAIT_S = 1.0
#: The same while a queue is left out because its pool is full: it must not wait for another queue's job.
WAIT_PAUSED_S = 0.02
#: Pauses while the server is away.
AWAY_FIRST_S, AWAY_LONGEST_S = 0.05, 2.0
#: Jobs that a queue may be behind or ahead of its share.
_CREDIT_MAX = float(limits.FETCH_BATCH_MAX_COUNT)


class Fetcher:
    """Feeds pools from queues.

    Args:
        broker: Where jobs wait.
        feeds: For each queue, the pools that its jobs run in; `learn` adds to it.
        weights: For each queue, its share when all have jobs.
        take: Called with each batch of leases; hands them to the pools.
    """

    def __init__(
        self,
        broker: Broker,
        feeds: Mapping[str, set[Pool]],
        weights: Mapping[str, int],
        take: Callable[[Sequence[Lease]], None],
    ) -> None:
        self._broker = broker
        self._feeds = feeds
        self._weights = weights
        self._take = take
        self._courier = Courier(broker.waits)
        self._prefetch = {pool: Prefetch() for pools in feeds.values() for pool in pools}
        self._credit = dict.fromkeys(feeds, 0.0)
        #: Jobs that were fetched, by queue.
        self.fetched = dict.fromkeys(feeds, 0)
        self._room = anyio.Event()
        self._jobs = anyio.Event()
        self._kept: set[Pool] = set()
        self._place = anyio.Event()
        self.last_fetch_s = time.monotonic()
        self.paused_s = 0.0
        self._paused: frozenset[str] = frozenset()
        self._changed = anyio.Event()
        self._hurried = False
        self._away_s = AWAY_FIRST_S
        #: Queues with jobs that must never start twice: a worker that dies with one in hand has it given up, so none
        #: is in hand that does not run.
        self.careful: set[str] = set()
        self._calling = False
        #: Turns room for calls into room for jobs; set where calls take several.
        self.widen: Callable[[str, int], int] | None = None

    def on_room(self) -> None:
        """Say that a pool may have room; called by the pools, in the loop."""
        self._room.set()
        if self._kept and any(pool.room(0) > 0 for pool in self._kept):
            self._place.set()

    def learn(self, queue: str, pool: Pool) -> None:
        """Note that a queue has jobs for a pool, so that it is left alone when that pool is full."""
        self._feeds[queue].add(pool)
        self._prefetch.setdefault(pool, Prefetch())

    def pause(self, queues: frozenset[str]) -> None:
        """Leave these queues alone from now on, and no others."""
        self._paused = queues
        self._room.set()
        self._jobs.set()
        self._changed.set()

    async def wait_changed(self) -> None:
        """Return once other queues are paused than before."""
        await self._changed.wait()
        self._changed = anyio.Event()

    def interrupt(self) -> None:
        """End a waiting fetch, since what it waits for may have changed; blocks for a round trip."""
        self._broker.interrupt()

    def on_returned(self) -> None:
        """Say that jobs were given back: the next sweep need not wait."""
        self._hurried = True
        self._place.set()

    def on_jobs(self) -> None:
        """Say that there may be jobs; for brokers that do not wait in `fetch`. Called in the loop."""
        self._jobs.set()

    def slots(self) -> dict[str, int]:
        """Return for each queue in how many slots its jobs may run, whatever they do now."""
        return {queue: sum(pool.slots for pool in pools) for queue, pools in self._feeds.items()}

    @property
    def depth(self) -> int:
        """Jobs that may wait here for a slot, at the present speed."""
        return sum(prefetch.depth for prefetch in self._prefetch.values())

    async def run(self) -> None:
        """Fetch until cancelled. A fetch under way is ended early and what it brought is still taken."""
        async with plain_group() as group:
            # One for all fetches: to start and cancel one for each costs a twelfth of a busy worker's time.
            group.start_soon(self._interrupt_when_cancelled)
            while True:
                rooms = self._rooms()
                if rooms:
                    await self._fetch(rooms)
                else:
                    await self._wait_room()

    async def _fetch(self, rooms: dict[str, int]) -> None:
        wait_s = WAIT_S if len(rooms) == len(self._feeds.keys() - self._paused) else WAIT_PAUSED_S
        self._jobs = anyio.Event()
        try:
            leases = await self._call(rooms, wait_s)
        except BrokerUnavailable as error:
            pause_s, self._away_s = self._away_s, min(AWAY_LONGEST_S, self._away_s * 2)
            if error.outlook is Outlook.LASTS:
                seldom.error("server refuses", retry_in_s=round(pause_s, 2), error=str(error))
            else:
                seldom.warning("server away", retry_in_s=round(pause_s, 2), error=str(error))
            await anyio.sleep(pause_s * random.uniform(0.5, 1.0))
            return  # there may be other room by now, and other queues may be paused
        self._away_s = AWAY_FIRST_S
        self.last_fetch_s = time.monotonic()
        if leases:
            self._weigh(leases)
            self._take(leases)
            self._charge(leases)
        elif not self._broker.waits:
            with anyio.move_on_after(wait_s):
                await self._jobs.wait()

    async def _call(self, rooms: dict[str, int], wait_s: float) -> list[Lease]:
        """Fetch; a call that has begun goes on when it is cancelled, and what it brings is taken."""
        if not self._broker.waits:
            return self._broker.fetch(rooms, 0)
        self._calling = True
        try:
            return await self._courier.call(self._broker.fetch, rooms, wait_s)
        finally:
            self._calling = False  # also when it was cancelled before it began

    async def _interrupt_when_cancelled(self) -> None:
        """Once cancelled, end the wait at the server of a fetch under way."""
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                while self._calling:  # in a thread: a server that does not answer must not hold up what still runs
                    await anyio.to_thread.run_sync(self._broker.interrupt)
                    await anyio.sleep(0.01 if self._calling else 0)

    def rooms(self) -> dict[str, int]:
        """Return how many jobs of each queue may be taken over from others; queues without a place are left out.

        That is as many as could start at once. A busy pool always has newer jobs for its next free slot, so orphans
        would never get one: where jobs are done fast, some more may wait with those that were prefetched; where they
        are slow, the next slot that gets free is kept until `release`, and `wait` tells of it.
        """
        room_of: dict[Pool, int] = {}
        queues = sorted(self._feeds.keys() - self._paused)
        asked = {pool for queue in queues for pool in self._feeds[queue]}
        self._kept &= asked  # a pool whose queues are paused has no place to keep
        for pool in asked:
            room_of[pool] = pool.room(0)
            if room_of[pool] <= 0:
                if depth := self._prefetch[pool].depth:
                    room_of[pool] = pool.room(depth + 1 + depth // 2)
                else:
                    self._kept.add(pool)
        rooms: dict[str, int] = {}
        random.shuffle(queues)
        for i, queue in enumerate(queues):
            # Queues share their pools' room; by chance, so that each has its turn where there are few places.
            share = math.ceil(min(room_of[pool] for pool in self._feeds[queue]) / (len(queues) - i))
            if share > 0:
                rooms[queue] = min(share, limits.FETCH_BATCH_MAX_COUNT)
                for pool in self._feeds[queue]:
                    room_of[pool] -= share
        return rooms

    def release(self, rooms: Mapping[str, int]) -> None:
        """Say that a sweep of these queues is over: what was kept of their pools is for new jobs again."""
        for queue in rooms:
            self._kept -= self._feeds[queue]
        self._room.set()

    async def wait(self) -> None:
        """Return once a slot is free that was kept, or jobs were given back since the last time."""
        self._place = anyio.Event()
        if not self._hurried:
            await self._place.wait()
        self._hurried = False

    def _rooms(self) -> dict[str, int]:
        """Return the queues to read, the most deserving first, and how many jobs of each there is room for."""
        now_s = time.monotonic()
        room_of: dict[Pool, int] = {}
        for pool, prefetch in self._prefetch.items():
            depth = prefetch.observe(now_s, pool.done_count)
            pool.low_water = depth // 2
            # Not for every free place: half of the depth at a time, or a free slot.
            hungry = len(pool.ready) <= pool.low_water
            room_of[pool] = pool.room(depth) - (pool in self._kept) if hungry else 0
        rooms: dict[str, int] = {}
        for queue in sorted(self._feeds.keys() - self._paused, key=lambda queue: -self._credit[queue]):
            pools = self._feeds[queue]
            room = min((room_of[pool] for pool in pools), default=0)
            if queue in self.careful:
                room = min(room, *(pool.room(0) - (pool in self._kept) for pool in pools))
            if self.widen is not None:
                room = self.widen(queue, room)
            if room > 0:
                rooms[queue] = min(room, limits.FETCH_BATCH_MAX_COUNT)
        return rooms

    def _weigh(self, leases: Sequence[Lease]) -> None:
        """Tell the pools that these may be for how large they are on average."""
        size_bytes = sum([len(lease.body) for lease in leases])
        queues = self._feeds if len(self._feeds) == 1 else {lease.source.queue for lease in leases}
        for pool in {pool for queue in queues for pool in self._feeds[queue]}:
            self._prefetch[pool].weigh(len(leases), size_bytes)

    def _charge(self, leases: Sequence[Lease]) -> None:
        """Share jobs by weight: each queue earns its share of what came, and those that were read pay what they gave.

        Bounded, so that a queue which was empty for long is not paid for it with more than a batch.
        """
        if len(self._feeds) == 1:
            self.fetched[leases[0].source.queue] += len(leases)
            return
        read = Counter([lease.source.queue for lease in leases])
        each = len(leases) / sum(self._weights.values())
        for queue, weight in self._weights.items():
            self.fetched[queue] += read[queue]
            credit = self._credit[queue] + weight * each - read[queue]
            self._credit[queue] = max(-_CREDIT_MAX, min(_CREDIT_MAX, credit))

    async def _wait_room(self) -> None:
        self._room = anyio.Event()
        began_s = time.monotonic()
        if not self._rooms():
            # The measured speed may have fallen or risen meanwhile, so look again now and then.
            with anyio.move_on_after(0.25):
                await self._room.wait()
        if self._paused >= self._feeds.keys():
            self.last_fetch_s = time.monotonic()  # it has nothing to ask for, and is not stalled
        self.paused_s += time.monotonic() - began_s
