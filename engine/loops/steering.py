"""Steering: what operators and producers ask of a worker while it works: pause, cancel, sweep, be quiet, stop.

Words come from the control channel, in another thread; a look at the marks every second, after each reconnecting and
after each sweep finds what was said while nobody listened. What waited too long for a slot goes back. Slots and what
waits are scanned only when there is something to do, so it costs a job nothing. Owned by the worker's loop.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import anyio
import anyio.abc
import anyio.to_thread

from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.outcome import Failure, Outcome, Status
from headrace.workers.groups import plain_group
from headrace.workers.pool import Pool
from headrace.workers.runners.portal import Portal
from headrace.workers.work import Work

from ..broker.control import CANCEL, LOOK, PAUSE, QUIET, RESUME, RETURNED, STOP, BrokerControl
from ..broker.courier import Courier
from ..observe.seldom import Seldom
from .assignment import Assignment
from .fetcher import Fetcher
from .gatherer import BatchWork
from .stop import Stop

log = logger("headrace.steering")
seldom = Seldom(log)

#: How late a word that was lost may be obeyed.
LOOK_EVERY_S: Final = 1.0
#: How long after the last look the next may come, when sweeps ask for it.
LOOK_PAUSE_S: Final = 0.05
#: For how long a word stands against looks, which began before it perhaps; the next one is a second later.
HEARD_STANDS_S: Final = 0.5


class Holding(Protocol):
    """A place beside the pools where leased jobs wait: for company, or for their turn."""

    def withdraw(self, chosen: Callable[[Assignment], bool]) -> list[Assignment]:
        """Take jobs out, and return them."""

    def take_old(self, before_s: float) -> list[Assignment]:
        """Take jobs out that came before a monotonic time and that nothing here will start now; return them."""


class Steering:
    """Obeys what is asked of one worker.

    Args:
        control: The broker's third port.
        queues: The queues that the worker reads.
        fetcher: Leaves paused queues alone.
        pools: Where jobs wait and run.
        put: Takes the outcomes of jobs that are never started.
        prefetch_ttl_s: Seconds after which a job that waits for a slot goes back.

    Attributes:
        holdings: Where jobs wait beside the pools.
        is_quiet: Whether nothing is fetched any more.
    """

    def __init__(
        self,
        control: BrokerControl,
        queues: Sequence[str],
        fetcher: Fetcher,
        pools: Mapping[str, Pool],
        put: Callable[[Outcome], None],
        prefetch_ttl_s: float,
    ) -> None:
        self._control = control
        self._queues = queues
        self._fetcher = fetcher
        self._pools = pools
        self._put = put
        self._ttl_s = prefetch_ttl_s
        self._courier = Courier(control.waits)
        self._look = anyio.Event()
        self._worker = ""
        self._stop: Stop | None = None
        self._paused: frozenset[str] = frozenset()
        self._told: frozenset[str] = frozenset()
        self.is_quiet = False
        self._heard_s = -math.inf
        self.holdings: tuple[Holding, ...] = ()
        self._seen: dict[str, deque[tuple[float, Work]]] = {name: deque() for name in pools}

    async def begin(self, worker: str, stop: Stop) -> None:
        """Look which queues are paused; before anything is fetched.

        Args:
            worker: Whom words for one worker have to name.
            stop: Rung when it is to stop.
        """
        self._worker, self._stop = worker, stop
        try:
            views = await self._courier.call(self._control.queues, self._queues)
        except BrokerUnavailable as error:
            seldom.warning("pauses not read", error=str(error))
        else:
            self.note_paused(view.name for view in views if view.paused)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Obey until cancelled."""
        portal = Portal.open()
        stop = await self._courier.call(
            self._control.hear,
            self._queues,
            lambda queue, word: portal.send(partial(self._on_word, queue, word)),
        )
        task_status.started()
        try:
            async with plain_group() as group:
                group.start_soon(self._look_often)
                group.start_soon(self._interrupt_fetches)
                group.start_soon(self._return_old)
        finally:
            stop()

    def note_paused(self, queues: Iterable[str]) -> None:
        """Say which of the queues are paused: prefetched jobs of theirs go back, and no more are fetched."""
        told = frozenset(queues)
        if told != self._told:
            log.info("paused", queues=sorted(told)) if told else log.info("resumed", queues=sorted(self._told))
        self._told = told
        self._leave_alone(frozenset(self._queues) if self.is_quiet else told)

    def looked(self, paused: Iterable[str]) -> None:
        """Say which queues a look at the server found paused; a look that may be older than a word does not count."""
        if time.monotonic() - self._heard_s >= HEARD_STANDS_S:
            self.note_paused(paused)

    def be_quiet(self) -> None:
        """Fetch nothing more, of no queue, for good; what runs goes on."""
        if not self.is_quiet:
            log.info("quiet", then="what runs goes on, nothing is fetched any more until this worker is started anew")
        self.is_quiet = True
        self._leave_alone(frozenset(self._queues))

    def _leave_alone(self, paused: frozenset[str]) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        self._fetcher.pause(paused)
        self._give_back(lambda job: job.queue in paused)

    def look_soon(self) -> None:
        """Have the marks looked at: jobs came that were started before, and may have been cancelled since."""
        self._look.set()

    def cancel(self, job_ids: Iterable[str]) -> set[str]:
        """Cancel jobs that this worker has; return which it has.

        One that was not started ends here, wherever it waits: for a slot, for its batch, or for its turn. A running
        coroutine is cancelled, a process killed, a thread told. The jobs of a batch run together: one of them cannot
        be stopped without its neighbours, and ends as they do.
        """
        wanted, mine = set(job_ids), set[str]()
        for job in self._withdraw(lambda job: job.job_id in wanted):
            mine.add(job.job_id)
            self._put(Outcome(job, Status.CANCELLED, None, Failure("JobCancelled", "cancelled before it started")))
        for pool in self._pools.values():
            for slot in pool.running():
                if isinstance(slot.work, Assignment) and slot.work.job_id in wanted:
                    mine.add(slot.work.job_id)
                    slot.cancel("cancel", stop=pool.stops_on_cancel)
        return mine

    def _on_word(self, queue: str, word: str) -> None:
        verb, _, whom = word.partition(" ")
        if verb in (PAUSE, RESUME):
            self._heard_s = time.monotonic()
        if verb == CANCEL:
            self.cancel((whom,))
        elif verb == PAUSE:
            self.note_paused(self._told | {queue})
        elif verb == RESUME:
            self.note_paused(self._told - {queue})
        elif verb in (QUIET, STOP):
            self._obey(verb, whom)
        elif verb == RETURNED:
            self._fetcher.on_returned()
        elif verb == LOOK:
            self._look.set()

    def _obey(self, verb: str, worker: str) -> None:
        """Do what was said to one worker, when it is this one; said again, it changes nothing."""
        if worker != self._worker:
            return
        if verb == QUIET:
            self.be_quiet()
        elif self._stop is not None and not self._stop.requested:
            log.info("told to stop", then="drain")
            self._stop.quiet()

    async def _look_often(self) -> None:
        while True:
            try:
                if marks := await self._courier.call(self._control.marks, self._queues):
                    mine = self.cancel(marks)
                    await self._clear([job_id for job_id in marks if job_id not in mine])
            except BrokerUnavailable as error:
                seldom.warning("marks not read", error=str(error))
            await anyio.sleep(LOOK_PAUSE_S)
            with anyio.move_on_after(LOOK_EVERY_S):
                await self._look.wait()
            self._look = anyio.Event()

    async def _clear(self, job_ids: Sequence[str]) -> None:
        """Cancel marked jobs that run nowhere, such as those that wait for another try; forget marks of ended ones."""
        if not job_ids:
            return
        views = [view for view in await self._courier.call(self._control.lookup, job_ids) if view is not None]
        await self._courier.call(partial(self._control.cancel, views, only_waiting=True))

    async def _interrupt_fetches(self) -> None:
        """End fetches that began before a pause or a resume."""
        while True:
            await self._fetcher.wait_changed()
            await anyio.to_thread.run_sync(self._fetcher.interrupt)

    async def _return_old(self) -> None:
        """Give back what has waited for a slot for too long."""
        while True:
            await anyio.sleep(min(1.0, self._ttl_s / 4))
            now_s = time.monotonic()
            if self._paused:  # what came by a fetch that the pause did not reach
                self._give_back(lambda job: job.queue in self._paused)
            for name, pool in self._pools.items():
                # Work waits in order: whoever is there no more takes those before it along.
                seen, old = self._seen[name], None
                if pool.ready:
                    seen.append((now_s, pool.ready[-1]))
                while seen and seen[0][0] <= now_s - self._ttl_s:
                    old = seen.popleft()[1]
                if old is not None and any(work is old for work in pool.ready):
                    self._put_back(withdraw(pool, _until(old)))
            if self.holdings:
                self._return_held(now_s - self._ttl_s)

    def _return_held(self, before_s: float) -> None:
        """Give back what came before a monotonic time."""
        for holding in self.holdings:
            self._put_back(holding.take_old(before_s))
        for pool in self._pools.values():
            # A batch may have waited for company before it came to wait for a slot.
            self._put_back(withdraw(pool, lambda work: isinstance(work, BatchWork) and work.came_s < before_s))

    def _give_back(self, chosen: Callable[[Assignment], bool]) -> None:
        self._put_back(self._withdraw(chosen))

    def _put_back(self, unstarted: Iterable[Work]) -> None:
        for work in unstarted:
            self._put(Outcome(work, Status.INTERRUPTED))

    def _withdraw(self, chosen: Callable[[Assignment], bool]) -> list[Assignment]:
        """Take jobs that were not started out of wherever they wait; return them."""
        taken = [job for holding in self.holdings for job in holding.withdraw(chosen)]
        for pool in self._pools.values():
            parted: list[Assignment] = []

            def is_taken(work: Work, parted: list[Assignment] = parted) -> bool:
                if isinstance(work, BatchWork):
                    parted += work.withdraw(chosen)
                    return not work.items
                if isinstance(work, Assignment) and chosen(work):
                    parted.append(work)
                    return True
                return False

            withdraw(pool, is_taken)
            taken += parted
        return taken


def withdraw(pool: Pool, chosen: Callable[[Work], bool]) -> list[Work]:
    """Take work out of a pool that has not started; return it, in order."""
    taken: list[Work] = []
    kept: list[Work] = []
    for work in pool.ready:
        (taken if chosen(work) else kept).append(work)
    if taken:
        pool.ready.clear()
        pool.ready.extend(kept)
    return taken


def _until(last: Work) -> Callable[[Work], bool]:
    """Return what is true of work up to and with `last`, asked in order."""
    passed = False

    def is_before(work: Work) -> bool:
        nonlocal passed
        was, passed = passed, passed or work is last
        return not was

    return is_before
