"""The gateway: what the routes call. Joins a broker, a client and the waiting for results for one serving process.

It decides nothing about jobs: that is in client, inspect and jobs. It owns what is remembered of the workers, read at
most once a second however many requests come, mostly by a thread beside the loop; and the waits for results and for
room, which it ends when the server stops.
"""

import math
import threading
import time
from collections.abc import Sequence
from typing import Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import msgspec

from headrace.config import limits, logger
from headrace.config.settings import Settings
from headrace.jobs import codec, ids
from headrace.jobs.errors import BrokerUnavailable, QueueFull, UnknownHandler, WaitTimeout
from headrace.jobs.registry import Registry
from headrace.jobs.results import missing
from headrace.jobs.states import ENDED, State
from headrace.jobs.unique import Unique

from .. import admin, inspect
from ..broker.control import OpenBroker, cancel_one
from ..broker.courier import Courier
from ..broker.port import FirstId, Submission
from ..broker.views import QueueView
from ..client import Client
from ..loops.gauges import card_of
from ..observe.fleet import FleetRecord, HandlerCard, WorkerView
from ..observe.statistics import Statistics
from ..packing import bound_of, submission_of
from ..results import Results
from .ends import Asking, answer_of
from .feed import Feed
from .held import Held
from .letters import Letters
from .listing import JobPage, Search, Sought
from .metrics import Exposition
from .parts import Fate, publish_part
from .records import JobAnswer, JobRecord, JobRequest, JobStatus, Retried
from .unread import Unread
from .vitals import Vitals

log = logger("headrace.http")
#: What workers say of themselves changes when one starts or stops; a second late is soon enough for a new name.
FLEET_TTL_S: Final = 1.0
#: Until then what was read is still used while it is read again.
FLEET_STALE_S: Final = 2.0
#: A full queue has room again once a job has ended, and for a batch of clients once a tenth of it has.
ROOM_SHARE: Final = 0.1
RETRY_AFTER_MAX_S: Final = 60
#: A paused queue has room only after somebody resumes it: soon enough to see that, and not a second apart.
PAUSED_RETRY_AFTER_S: Final = 10
READING_THREADS_COUNT: Final = 4
WRITING_THREADS_COUNT: Final = 4
#: Some 5 ms of taking results apart and writing them as JSON: more is done beside the requests of others.
ANSWERED_ASIDE_FROM_BYTES: Final = 256 * 1024


class Fleet(msgspec.Struct, frozen=True):
    """What the workers say of themselves, as of the last look.

    Attributes:
        workers: Their records.
        cards: Their handlers, by name and alias.
        read_at_s: When, on the monotonic clock.
    """

    workers: list[FleetRecord] = []
    cards: dict[str, HandlerCard] = {}
    read_at_s: float = -math.inf


class Gateway:
    """One serving process's way to the jobs.

    Args:
        broker: An open broker; whoever opened it closes it.
        settings: The settings in force.
        registry: Handlers whose code is here, by which arguments are checked; None for none.

    Attributes:
        settings: The settings in force.
        waits: Whether the broker waits for a server.
        letters: The dead letters.
        held: What bodies take whose rest is on its way.
        unread: What answers take that wait for their clients.
    """

    def __init__(self, broker: OpenBroker, settings: Settings, registry: Registry | None = None) -> None:
        self.settings = settings
        self.waits = broker.waits
        self._broker = broker
        self.held = Held(max(limits.HTTP_BODIES_HELD_BYTES, settings.http.body_max_bytes))
        self.unread = Unread(limits.HTTP2_UNREAD_BYTES)
        self._registry = Registry() if registry is None else registry
        self._bound = bound_of(settings)
        self._client = Client(broker, self._bound)
        self._results = Results(broker, broker.waits)
        self._courier = Courier(broker.waits, threads=READING_THREADS_COUNT)
        self._carrying = Courier(broker.waits, threads=WRITING_THREADS_COUNT)
        self.letters = Letters(broker, self._courier, settings.max_payload_bytes, self._cards)
        self.feed = Feed(broker, self._registry.queues())
        self.vitals = Vitals(broker, self._courier)
        self.exposition = Exposition(broker, self.vitals.watch, self.feed, self.held, self.unread)
        self._fleet = Fleet()
        self._reading: anyio.Lock | None = None
        self._is_looking = False
        self._waits: set[anyio.CancelScope] = set()
        self._ending = False

    # Submitting

    async def submit(self, request: JobRequest, idempotency_key: str = "") -> JobStatus:
        """Submit one job; those that come at the same time travel together.

        Args:
            request: The job.
            idempotency_key: With the same key again, while the first job's record is kept, there is no second job, and
                the answer is about the first; empty for none.

        Raises:
            DuplicateJob: another job than that of its idempotency key has its unique key.
            UnknownHandler: neither this process nor any worker has the handler, and there are workers.
            InvalidArguments: the arguments do not fit it, or options contradict each other.
            PayloadTooLarge: they take more than `max_payload`.
            QueueFull: the queue is at its bound.
            BrokerUnavailable: the server is away.
        """
        # The colon keeps it apart from ids that callers give themselves.
        caller_id = f"http:{idempotency_key}" if idempotency_key else ""
        queue, submission = self.prepare(request, await self.fleet(), caller_id)
        job_id = await self._client.submit_or_find(queue, submission)
        if isinstance(job_id, FirstId):  # it may have gone on, or ended, since it was added
            view = await self._results.view(job_id)
            if view is not None and view.state is not None:
                return JobStatus(str(job_id), view.state)
        if not (submission.delay_ms or submission.due_at_ms or submission.unique):
            return JobStatus(str(job_id), State.QUEUED)
        parsed = ids.parse(job_id)
        return JobStatus(str(job_id), State.DELAYED if parsed is not None and parsed.delayed else State.QUEUED)

    async def submit_part(self, jobs: Sequence[tuple[str, Submission]]) -> list[Fate]:
        """Do what `publish_part` does, from a loop."""
        return await self._carrying.call(self.publish_part, jobs)

    def publish_part(self, jobs: Sequence[tuple[str, Submission]]) -> list[Fate]:
        """Submit as many of the jobs as their queues have room for, and return what became of each; blocks."""
        return publish_part(self._broker, jobs, self._bound)

    async def linger(self, pause_s: float, gone: anyio.Event) -> bool:
        """Wait for so many seconds; False once nobody is to: the server is about to stop, or whoever asked has gone."""
        if not self._ending:
            with anyio.move_on_after(pause_s) as scope:
                self._waits.add(scope)
                try:
                    await gone.wait()
                finally:
                    self._waits.discard(scope)
        return not (self._ending or gone.is_set())

    def prepare(self, request: JobRequest, fleet: Fleet, caller_id: str = "") -> tuple[str, Submission]:
        """Return where a job goes and its envelope, checked against what is known of its handler; no I/O.

        Args:
            request: The job.
            fleet: What is known.
            caller_id: What says that it is the same job when it comes again; empty for nothing.
        """
        options = request.options()
        if caller_id:
            options = msgspec.structs.replace(options, caller_id=caller_id, replays=True)
        call = codec.pack_call(request.name, request.args, request.kwargs)
        plan = self._registry.get(request.name)
        if plan is not None:
            plan.arguments.check(tuple(request.args), request.kwargs)
            queue, unique = plan.options.queue, plan.options.unique
        else:
            queue, unique = self._published(request, fleet)
        submission = submission_of(request.name, call, options, self.settings.max_payload_bytes, unique)
        return options.queue or queue, submission

    def _published(self, request: JobRequest, fleet: Fleet) -> tuple[str, Unique | None]:
        """Check a job against the card of its handler; return its queue and what makes it unique."""
        card = fleet.cards.get(request.name)
        if card is None and fleet.cards:
            known = sorted({*fleet.cards, *(plan.name for plan in self._registry)})
            raise UnknownHandler(
                f"no worker has a handler called {request.name!r}; they have: {', '.join(known)}. Check the name, or "
                f"start a worker that has it"
            )
        if card is None:
            return "default", None
        inspect.check_arguments(request.name, card, request.args, request.kwargs)
        return card.queue, card.rule

    async def fleet(self) -> Fleet:
        """Return what the workers say of themselves, at most two seconds old; raises BrokerUnavailable.

        After one, a thread looks again, and nobody waits for it: on a busy loop it takes some 60 ms to be given its
        turns, and a request in a hundred would have to wait for it.
        """
        known = self._fleet
        age_s = time.monotonic() - known.read_at_s
        if age_s < FLEET_TTL_S:
            return known
        if age_s < FLEET_STALE_S and self._broker.waits:
            if not self._is_looking:
                self._is_looking = True
                threading.Thread(target=self._look_aside, name="headrace-fleet", daemon=True).start()
            return known
        if self._reading is None:
            self._reading = anyio.Lock()
        async with self._reading:
            if time.monotonic() - self._fleet.read_at_s >= FLEET_TTL_S:
                await self._courier.call(self._look)
        return self._fleet

    def _look(self) -> None:
        now_s = time.monotonic()
        workers = inspect.workers(self._broker)
        self._fleet = Fleet(workers, inspect.handlers_of(workers), now_s)

    def _look_aside(self) -> None:
        try:
            self._look()
        except BrokerUnavailable as error:  # whoever asks once it is stale waits for a look of their own, and is told
            log.warning("workers could not be looked at", error=str(error))
        finally:
            self._is_looking = False

    async def handler_cards(self) -> dict[str, HandlerCard]:
        """Return the handlers that workers publish, and those whose code is here, by name and alias.

        Raises:
            BrokerUnavailable: the server is away.
        """
        cards = {name: card_of(plan) for plan in self._registry for name in (plan.name, *plan.options.aliases)}
        return {**(await self.fleet()).cards, **cards}

    async def _cards(self) -> dict[str, HandlerCard]:
        return (await self.fleet()).cards

    def retry_after_s(self, error: QueueFull) -> int:
        """Return the seconds after which a full queue has room for more than a few; 1 where its speed is unknown."""
        if error.drain_s == math.inf:
            return PAUSED_RETRY_AFTER_S
        if error.drain_s is not None:
            return max(1, min(RETRY_AFTER_MAX_S, math.ceil(error.drain_s * ROOM_SHARE)))
        drained_per_s = sum(record.report.drained_per_s.get(error.queue, 0.0) for record in self._fleet.workers)
        if not drained_per_s:
            return 1
        jobs_count = error.bound if error.reason == "length" else error.depth
        return max(1, min(RETRY_AFTER_MAX_S, math.ceil(jobs_count * ROOM_SHARE / drained_per_s)))

    # Reading

    async def job(self, job_id: str) -> JobRecord:
        """Return what is known of a job.

        Raises:
            JobNotFound: there is no such job.
            ResultUnavailable: it ended, and its record is gone.
            BrokerUnavailable: the server is away.
        """
        return JobRecord(**await self._courier.call(inspect.job, self._broker, job_id))

    async def jobs(self, sought: Sought, cursor: str) -> JobPage:
        """Return a page of the jobs that have not ended; raises InvalidArguments and BrokerUnavailable."""
        search = Search(sought, cursor)
        while (page := await self._courier.call(search.look, self._broker)) is None:
            await anyio.lowlevel.checkpoint()  # a broker in this process is looked at in the loop itself
        return page

    async def result(self, job_id: str, wait_s: float) -> tuple[JobAnswer, bool]:
        """Return how a job ended, and whether it has.

        Args:
            job_id: The job.
            wait_s: Seconds to wait for its end.

        Raises:
            JobNotFound: there is no such job.
            ResultUnavailable: it ended, and its value or its record was not kept.
            BrokerUnavailable: the server is away.
        """
        if wait_s > 0 and not self._ending:
            with anyio.CancelScope() as scope:
                self._waits.add(scope)
                try:
                    await self._results.record(job_id, wait_s)
                except WaitTimeout:
                    pass  # it is looked up below, as it is when nobody waits
                finally:
                    self._waits.discard(scope)
        view = await self._results.view(job_id)
        if view is None or view.state is None or (view.state in ENDED and view.record is None):
            raise missing(job_id, existed=view is not None)
        return answer_of(view), view.record is not None

    async def results(self, job_ids: Sequence[str], wait_s: float) -> bytes:
        """Return how those of many jobs ended that have, as the JSON of JobAnswers.

        Args:
            job_ids: The jobs.
            wait_s: Seconds to wait until at least one has ended.

        Raises:
            BrokerUnavailable: the server is away.
        """
        asking = Asking(self._results.looks, job_ids)
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                await asking.run(0.0 if self._ending else wait_s)
            finally:
                self._waits.discard(scope)
        if asking.size_bytes < ANSWERED_ASIDE_FROM_BYTES:
            return msgspec.json.encode(asking.answers())
        return await anyio.to_thread.run_sync(lambda: msgspec.json.encode(asking.answers()))

    async def queues(self) -> list[QueueView]:
        """Return the depths of every queue; raises BrokerUnavailable."""
        return await self._courier.call(inspect.queues, self._broker)

    async def workers(self) -> list[WorkerView]:
        """Return the workers that are there; raises BrokerUnavailable."""
        return await self._courier.call(inspect.worker_views, self._broker)

    # Operating

    async def retry(self, job_id: str) -> Retried:
        """Queue a dead job again; where it is not dead, say what it is.

        Raises:
            JobNotFound: there is no such job.
            BrokerUnavailable: the server is away.
        """
        handled = await self._courier.call(admin.dead_retry, self._broker, [job_id])
        if not handled.missing:
            return Retried(job_id, True, State.QUEUED.value)
        record = await self._courier.call(inspect.job, self._broker, job_id)
        return Retried(job_id, False, record["status"])

    async def cancel(self, job_id: str) -> bool:
        """Cancel a job; False when it has ended already.

        Raises:
            JobNotFound: there is no such job.
            BrokerUnavailable: the server is away.
        """
        return await self._courier.call(cancel_one, self._broker, job_id)

    async def pause(self, queue: str) -> admin.SwitchedQueue:
        """Pause a queue; raises InvalidArguments and BrokerUnavailable."""
        return await self._courier.call(admin.pause, self._broker, queue, self._registry.queues())

    async def resume(self, queue: str) -> admin.SwitchedQueue:
        """Resume a queue; raises what `pause` does."""
        return await self._courier.call(admin.resume, self._broker, queue, self._registry.queues())

    async def purge(self, queue: str) -> admin.Purged:
        """End the jobs of a queue that wait; raises what `pause` does."""
        return await self._courier.call(admin.purge, self._broker, queue)

    async def statistics(self) -> Statistics:
        """Return the statistics of all workers and every queue; raises BrokerUnavailable."""
        return await self._courier.call(inspect.statistics, self._broker)

    def end_waits(self) -> None:
        """Answer those who wait for a result, and end all event streams, at once: the server is about to stop."""
        self._ending = True
        self.feed.end()
        for scope in list(self._waits):
            scope.cancel()

    def close(self) -> None:
        """End the waits and let go of the thread that submits; whoever opened the broker closes it. In its loop."""
        self.end_waits()
        self._client.close()
