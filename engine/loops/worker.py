"""A worker: one registration at a broker, a Dispatcher, and the loops that feed and keep both.

It promises an orderly end: quiet (no more fetching, unstarted jobs go back at once), drain (running jobs go on for
`drain_timeout`), stop (what still runs is interrupted and goes back), and only then does it give up its registration.
All of its state belongs to one event loop; the heartbeat's thread only posts into it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec

from headrace.config.logs import logger
from headrace.config.settings import Settings
from headrace.jobs.disposition import Disposition, Rules
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.outcome import Outcome, Status
from headrace.jobs.registry import Registry
from headrace.workers.groups import plain_group
from headrace.workers.runners.portal import Portal
from headrace.workers.work import Work

from ..broker.control import OpenBroker
from ..broker.courier import Courier
from ..broker.port import Broker, Lease, Registration
from ..broker.views import QueueView
from ..observe.fleet import WorkerState
from ..observe.process import ProcessWatch
from ..observe.report import WorkerReport
from ..observe.seldom import Seldom
from ..sinks.broker import BrokerSink
from ..sinks.port import Sink
from .assigner import Assigner
from .assignment import Assignment, Middleware
from .binding import bound_handlers, dispatcher_for, gathering_of
from .export import DeadExport, ExportPlan
from .fetcher import Fetcher
from .gatherer import jobs_of
from .gauges import dispatcher_report
from .heartbeat import Heartbeat
from .introducing import Introduction
from .joblog import JobLog
from .progress import ProgressBoard
from .registering import enter, enter_anew
from .stall import Stall
from .steering import Steering
from .stop import Stop
from .suspects import Suspects
from .tally import died_in, record_settled
from .telling import OnEvent, Telling
from .upkeep import are_empty, introduce, move, reap, report

log = logger("headrace.worker")
seldom = Seldom(log)

#: What a forced stop leaves for handing back and settling, at the most.
LAST_SETTLE_S = 5.0


class WorkerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker runs and how.

    Attributes:
        registry: The handlers.
        settings: The settings.
        queues: The queues to read, with their weights.
        version: headrace's version, for the fleet record.
        middleware: What wraps each job, the outermost first.
        sinks: Where outcomes go beside the broker, such as the outcome log.
        on: Kind of event -> functions to call with it.
        data_folder: Returns where files of its own go.
    """

    registry: Registry
    settings: Settings
    queues: Mapping[str, int]
    version: str = ""
    middleware: tuple[Middleware, ...] = ()
    sinks: tuple[Sink, ...] = ()
    on: Mapping[str, Sequence[OnEvent]] = {}
    data_folder: Callable[[], Path]


class Worker:
    """Works on the jobs of some queues.

    Args:
        broker: Where they wait.
        views: The same broker's other ports.
        plan: What to run and how.
    """

    def __init__(self, broker: Broker, views: OpenBroker, plan: WorkerPlan) -> None:
        settings = plan.settings
        self._introduction = Introduction(plan.queues, plan.registry, plan.version)
        self.id = self._introduction.worker
        self.state: Any = None
        self.queue_views: list[QueueView] = []
        self._plan = plan
        self._broker = broker
        self._views = views
        rules = Rules(result_ttl_s=settings.result_ttl_s, max_result_bytes=settings.max_result_bytes)
        self._sink = BrokerSink(broker, rules, self._on_settled)
        self._sink.on_let_go = self._next_suspect
        self._sinks: tuple[Sink, ...] = (self._sink, *plan.sinks)
        self.dispatcher = dispatcher_for(plan.registry, settings, self._sinks)
        self.dispatcher.on_batch = _nothing
        self._progress = ProgressBoard()
        self._handlers = dict(
            bound_handlers(
                plan.registry,
                settings,
                self.dispatcher.bind,
                middleware=plan.middleware,
                get_state=lambda: self.state,
                note_progress=self._progress.note,
            )
        )
        self._assigner = Assigner(
            self._handlers, settings.unknown_handler_grace_s, settings.max_payload_bytes, self.dispatcher.outbox.put
        )
        self._fetcher = Fetcher(broker, self._feeds(), plan.queues, self._take)
        never_twice = [handler for handler in plan.registry if handler.options.on_crash == "dead"]
        self._on_crash_dead = bool(never_twice)
        self._fetcher.careful.update(handler.options.queue for handler in never_twice)
        self._gathering = gathering_of(self._handlers, self.dispatcher, settings.prefetch_ttl_s)
        if self._gathering is not None:
            self._fetcher.widen = self._gathering.widen
        self.dispatcher.on_room = self._fetcher.on_room if self._gathering is None else self._on_room
        self._steering = Steering(
            views,
            tuple(plan.queues),
            self._fetcher,
            self.dispatcher.pools,
            self.dispatcher.outbox.put,
            settings.prefetch_ttl_s,
        )
        self._upkeep = Courier(broker.waits)
        self._telling = Telling(plan.on, views.events, self._upkeep)
        if plan.on:
            self._sink.on_told = self._telling.settled
        self._export = self._exporter()
        self._watch = ProcessWatch(time.monotonic())
        strict = {name: bound.max_deliveries for name, bound in self._handlers.items()}
        self._suspects = Suspects(strict, settings.max_deliveries)
        self._steering.holdings = (self._suspects,) if self._gathering is None else (self._suspects, self._gathering)
        self._job_log = JobLog()
        self._stopping = False
        self._lost = anyio.Event()

    async def run(self, stop: Stop, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until told to stop, then end in order.

        Raises:
            BrokerUnavailable: the server could not be reached at the start; one that says that it will be ready soon
                is waited for.
        """
        settings = self._plan.settings
        registration = Registration(self.id, tuple(self._plan.queues), settings.lease_s)
        if not await enter(self._broker, self._upkeep, registration, stop):
            return
        portal = Portal.open()
        self._broker.listen(partial(portal.send, self._fetcher.on_jobs))
        self._broker.on_queues_lost = lambda queues: portal.send(partial(self._telling.lost, queues))
        stall = Stall(settings.stall_limit_s)
        heartbeat = Heartbeat(self._broker.renew, settings.lease_s, partial(portal.send, self._note_lost), stall)
        self._sink.on_refused = heartbeat.hurry
        try:
            async with plain_group() as pulse:
                pulse.start_soon(stall.turn)
                heartbeat.start()
                try:
                    await self._run(stop, registration, task_status)
                finally:
                    heartbeat.look_no_more()
                    stall.rest()
        finally:
            heartbeat.stop()
            with anyio.move_on_after(LAST_SETTLE_S, shield=True):
                await self._leave()

    async def _run(self, stop: Stop, registration: Registration, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Work with all loops around, and tell of it."""
        async with self.dispatcher, plain_group() as group:
            group.start_soon(self._progress.run, self._views)
            await group.start(self._steering.run)  # it hears first, then looks: no pause comes in between
            await self._steering.begin(self.id, stop)
            group.start_soon(self._watch.lag.run)
            queues = tuple(self._plan.queues)
            courier = Courier(self._broker.waits)
            group.start_soon(report, self._views, courier, self.id, self._report_bytes, queues, self._look)
            group.start_soon(self._telling.run)
            await self._telling.announce("worker.started", self.id, queues)
            with self._watch.pauses:
                await self._work(stop, registration, task_status)
            await self._telling.announce("worker.stopped", self.id, queues)
            await self._telling.finish()
            group.cancel_scope.cancel()

    async def queues_are_empty(self) -> bool:
        """Return whether nothing is due or running in its queues; later jobs and paused queues do not count."""
        courier, queues = Courier(self._broker.waits), tuple(self._plan.queues)
        empty = await are_empty(self._broker, self._views, courier, queues)
        return empty and not self.dispatcher.completer.pending

    def report(self) -> WorkerReport:
        """Return how it is doing; never waits."""
        gathering = self._gathering
        return dispatcher_report(
            self.dispatcher,
            (*self._sinks, self._telling) if self._plan.on else self._sinks,
            self._fetcher.depth + (0 if gathering is None else gathering.waiting_max),
            0,
            fetch_paused_s=self._fetcher.paused_s,
            watch=self._watch,
            held_back=self._suspects.waiting + (0 if gathering is None else gathering.waiting),
        )

    async def _work(self, stop: Stop, registration: Registration, task_status: anyio.abc.TaskStatus[None]) -> None:
        queues = tuple(self._plan.queues)
        async with plain_group() as loops:
            loops.start_soon(self._fetcher.run)
            if self._gathering is not None:
                loops.start_soon(self._gathering.run)
            loops.start_soon(self._register_anew, registration)
            loops.start_soon(move, self._broker, self._upkeep, self._fetcher)
            loops.start_soon(self._export.run)
            loops.start_soon(
                reap,
                self._broker,
                self._upkeep,
                self._fetcher,
                self._take_over,
                self._plan.settings.lease_s,
                lambda: self._suspects.caution,
            )
            await introduce(self._views, self._upkeep, self.id, self._report_bytes())
            log.info("working", worker=self.id, queues=list(queues), handlers=self._introduction.handlers)
            task_status.started()
            await stop.wait_quiet()
            self._stopping = True
            loops.cancel_scope.cancel()
        await self._drain(stop)

    async def _drain(self, stop: Stop) -> None:
        """Give back, wait for what runs, and in the end interrupt it."""
        dispatcher = self.dispatcher
        unstarted: list[Work] = [*self._suspects.take_back()]
        if self._gathering is not None:
            unstarted += self._gathering.take_back()
        for pool in dispatcher.pools.values():
            unstarted += pool.take_back()
        for work in unstarted:
            dispatcher.outbox.put(Outcome(work, Status.INTERRUPTED))
        running = sum(pool.busy for pool in dispatcher.pools.values())
        log.info("draining", running=running, given_back=len(unstarted), timeout_s=self._plan.settings.drain_timeout_s)
        async with plain_group() as watching:
            watching.start_soon(self._let_go_when_lost)
            with anyio.move_on_after(self._plan.settings.drain_timeout_s):
                await stop.unless_now(dispatcher.drain)
            watching.cancel_scope.cancel()
        cut = sum(pool.cancel_all("drain") for pool in dispatcher.pools.values())
        if cut:
            log.warning("interrupted", jobs=cut, why="still running at the end of the drain; they go back to the queue")
        with anyio.move_on_after(LAST_SETTLE_S):
            await dispatcher.drain()
        self._sink.gives_up = True
        for pool in dispatcher.pools.values():
            for slot in pool.running():
                log.error("left behind", job=slot.work.label if slot.work else "", why="it cannot be stopped")

    async def _let_go_when_lost(self) -> None:
        """Once the registration is lost, stop what runs under it: others have it, and its outcomes are refused."""
        await self._lost.wait()
        pools = self.dispatcher.pools.values()
        self._suspects.take_back([job for pool in pools for slot in pool.running() for job in jobs_of(slot.work)])
        if self._gathering is not None:
            self._gathering.take_back()
        for pool in pools:
            pool.take_back()
            pool.cancel_all("lost_lease")

    def _look(self, views: list[QueueView]) -> None:
        now_s, seen = time.monotonic(), {view.name: view.submitted for view in self.queue_views}
        for view in views:
            added = view.submitted - seen.get(view.name, view.submitted)
            self.dispatcher.recorder.record_queue_submitted(now_s, view.name, max(0, added))
        self.queue_views = views
        self._export.look({view.name: view.dead for view in views})
        self._steering.looked([view.name for view in views if view.paused])

    async def _leave(self) -> None:
        try:
            await self._upkeep.call(self._broker.unregister)
            await self._upkeep.call(self._views.fleet_put, self.id, b"", 0)
        except BrokerUnavailable as error:
            log.warning("not unregistered", then="the registration ends with its lease", error=str(error))
        log.info("stopped", worker=self.id)

    def _exporter(self) -> DeadExport:
        settings = self._plan.settings
        plan = ExportPlan(
            worker=self.id,
            namespace=settings.namespace,
            queues=tuple(self._plan.queues),
            max_dead=settings.max_dead,
            rotate_bytes=settings.file.rotate_bytes,
            data_folder=self._plan.data_folder,
        )
        courier, count = Courier(self._broker.waits), self.dispatcher.recorder.record_exported
        return DeadExport(self._views, courier, plan, self._telling.announce, count)

    def _feeds(self) -> dict[str, set[Any]]:
        pools = self.dispatcher.pools
        feeds: dict[str, set[Any]] = {queue: set() for queue in self._plan.queues}
        for handler in self._plan.registry:
            if handler.options.queue in feeds:
                feeds[handler.options.queue].add(pools[handler.runner])
        return {queue: found or {pools["async"]} for queue, found in feeds.items()}

    def _take(self, leases: Sequence[Lease]) -> None:
        """Hand leases to the pools; unstarted ones of a stopping worker are given back by `_drain`."""
        for name, batch in self._assigner.assign(leases).items():
            pool = self.dispatcher.pools[name]
            for queue in {assignment.lease.source.queue for assignment in batch}:
                self._fetcher.learn(queue, pool)
                if self._on_crash_dead and any(each.on_crash_dead for each in batch if each.queue == queue):
                    self._fetcher.careful.add(queue)
            self._offer(name, self._suspects.sift(batch))
        for outcome in self._suspects.turned_away():
            self.dispatcher.outbox.put(outcome)

    def _offer(self, pool: str, batch: Sequence[Assignment]) -> None:
        self.dispatcher.offer(pool, batch if self._gathering is None else self._gathering.sift(batch))

    def _on_room(self) -> None:
        self._fetcher.on_room()
        if self._gathering is not None:
            self._gathering.on_room()

    def _take_over(self, leases: Sequence[Lease]) -> None:
        self._take(leases)
        self._steering.look_soon()

    def _note_lost(self) -> None:
        self._lost.set()

    async def _register_anew(self, registration: Registration) -> None:
        """Whenever the registration is lost, stop what runs under it, whose outcomes are refused; make a new one."""
        while True:
            await self._let_go_when_lost()
            await enter_anew(self._broker, self._upkeep, registration)
            self._lost = anyio.Event()  # only now: what was said in between was about the one before

    def _on_settled(self, outcomes: Sequence[Outcome], dispositions: Sequence[Disposition]) -> None:
        """Count a settled batch, once for all of it; let the next suspect start."""
        self._next_suspect(outcomes)
        now_s, queues = time.monotonic(), self._plan.queues
        statuses = [outcome.status for outcome in outcomes]
        # All that succeeded is done: then there is nothing to look into.
        ordinary = statuses.count(Status.SUCCEEDED) == len(statuses) or not any(each.kind for each in dispositions)
        if not ordinary:
            self._job_log.tell(now_s, outcomes, dispositions)
            self._export.died(died_in(dispositions))
        only_queue = next(iter(queues)) if len(queues) == 1 else None
        record_settled(self.dispatcher.recorder, now_s, outcomes, dispositions, only_queue, ordinary=ordinary)

    def _next_suspect(self, outcomes: Sequence[Outcome]) -> None:
        suspect = self._suspects.next_after(outcomes)
        if suspect is not None:
            self._offer(suspect.bound.pool, (suspect,))

    def _report_bytes(self) -> bytes:
        pools = self.dispatcher.pools.values()
        full = all(pool.room(0) <= 0 for pool in pools)
        if self._stopping:
            state: WorkerState = "stopping"
        else:
            state = "quiet" if self._steering.is_quiet else "working"
        return self._introduction.to_bytes(
            self.report(),
            stuck=[label for pool in pools for label in pool.statistics().stuck],
            fetch_age_s=0.0 if full else time.monotonic() - self._fetcher.last_fetch_s,
            state=state,
        )


def _nothing(batch: Sequence[Outcome]) -> None:
    """Do nothing: jobs are counted once they are settled, see `_on_settled`."""
