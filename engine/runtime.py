"""The Engine: what users declare handlers on, submit through and run.

It is the composition root: the one place that puts settings, broker, client and worker together. It decides nothing and
does no I/O until it is entered or run.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc
import anyio.to_thread

from headrace.config.settings import Settings
from headrace.config.sources import Loaded, load
from headrace.jobs import codec
from headrace.jobs.errors import ConfigError, InvalidArguments
from headrace.jobs.handler import HandlerPlan
from headrace.jobs.registry import Registry
from headrace.jobs.submission import SubmitOptions, check_size, submit_options
from headrace.workers.groups import plain_group

from .broker.port import Bound, Submission
from .client import Client
from .connection import Connection
from .events import EventSource
from .gathering import ResultSource
from .handlers import Handlers
from .handles import JobHandle, SyncJobHandle
from .inspect import own_statistics
from .lifecycle import named_lifespan, stop_on_signals, stop_when_empty
from .loops.assignment import Middleware
from .loops.stop import Stop
from .loops.worker import Worker, WorkerPlan
from .mounting import Mountable
from .observe.statistics import Statistics
from .packing import bound_of, submission_of
from .results import Results
from .sinks.file import OutcomeLog
from .synchronous import SyncClient, SyncEngine
from .version import VERSION

#: A lifespan: given the engine, an async context manager over the state that handlers see as `ctx.state`.
Lifespan = Callable[["Engine"], AbstractAsyncContextManager[Any]]


class Engine(EventSource, ResultSource, Mountable, Handlers):
    """Declares, submits and runs jobs.

    ```python
    engine = Engine()

    @engine.job
    async def add(a: int, b: int) -> int:
        return a + b
    ```

    Args:
        url: The server: "redis://", "rediss://", "unix://", "memory://", "embedded://[path]"; None leaves it to the
            other settings, and in the end to the embedded server.
        settings: Any other setting by its name, such as `slots=50` or `result_ttl="1h"`; stronger than files and
            variables, weaker than flags.
    """

    def __init__(self, url: str | None = None, **settings: Any) -> None:
        super().__init__()
        self.registry = Registry()
        self._code = {"url": url, **settings}
        self._flags: dict[str, Any] = {}
        self._loaded: Loaded | None = None
        self._lifespan: Lifespan | None = None
        self._middleware: list[Middleware] = []
        self._connection: Connection | None = None
        self._sync: SyncClient | None = None
        self._client: Client | None = None
        self._results: Results | None = None
        self._entered = 0
        self._worker: Worker | None = None
        self.bind_to(self)

    # Declaring

    def include(self, *collections: Handlers) -> None:
        """Take in handlers that were declared elsewhere.

        Raises:
            ConfigError: a name is taken, or another engine has the collection.
        """
        for handlers in collections:
            handlers.bind_to(self)
            for plan in handlers.plans:
                self.registry.add(plan)
            handlers.on_added(self.registry.add)

    def lifespan(self, function: Callable[["Engine"], AsyncIterator[Any]]) -> Callable[["Engine"], AsyncIterator[Any]]:
        """Have an async generator function open what handlers share: it gets the engine and yields the state.

        Raises:
            ConfigError: there is one already.
        """
        if self._lifespan is not None:
            raise ConfigError("an engine has one lifespan; open everything in it")
        lifespan, name = asynccontextmanager(function), f"{function.__module__}.{function.__qualname__}"
        self._lifespan = lambda engine: named_lifespan(lifespan(engine), name)
        return function

    def middleware(self, function: Middleware) -> Middleware:
        """Have `await function(ctx, call_next)` wrap each job; the first that was declared is the outermost."""
        self._middleware.append(function)
        return function

    # Settings

    def configure(self, **flags: Any) -> None:
        """Give settings that are stronger than all others, as flags are; before anything is opened."""
        if self._connection is not None:
            raise ConfigError("configure() comes too late: the engine is in use; call it before entering or running it")
        self._flags.update({name: value for name, value in flags.items() if value is not None})
        self._loaded = None

    @property
    def loaded(self) -> Loaded:
        """The settings in force and where each came from.

        Raises:
            ConfigError: lists every problem in every source.
        """
        if self._loaded is None:
            self._loaded = load(self._flags, self._code, os.environ, Path.cwd())
        return self._loaded

    @property
    def settings(self) -> Settings:
        """The settings in force; raises ConfigError."""
        return self.loaded.settings

    @property
    def connection(self) -> Connection:
        """The way to the broker; not opened by looking at it."""
        if self._connection is None:
            self._connection = Connection(self.settings, os.environ, Path.cwd())
        return self._connection

    # Submitting

    async def __aenter__(self) -> Self:
        broker = await anyio.to_thread.run_sync(self.connection.open)
        if not self._entered:
            self._client = Client(broker, self._bound(), self.settings.on_full)
            self._results = Results(broker, broker.waits)
        self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        if not self._entered:
            self._close_mounted()
            if self._client is not None:
                self._client.close()
            self._client = self._results = None
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.connection.close)

    async def submit(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> JobHandle[Any]:
        """Submit a job by its handler's name, for producers that do not have its code.

        Args:
            name: The handler's name or alias.
            args: Its positional arguments.
            kwargs: Its arguments by name.
            options: What `JobFunction.options` takes.

        Raises:
            what `JobFunction.submit` does. Arguments are checked where this engine knows the handler.
        """
        said = submit_options(**options)
        queue, submission = self._named(name, args, kwargs or {}, said)
        client, results = self._open()
        plan = self.registry.get(name)
        job_id = await client.submit(queue, submission, said)
        return JobHandle(job_id, results, plan.arguments.decode_result) if plan else JobHandle(job_id, results)

    def handle(self, job_id: str) -> JobHandle[Any]:
        """Return a handle for a job whose id is known."""
        return JobHandle(job_id, self._open()[1])

    @property
    def sync(self) -> SyncEngine:
        """The blocking form, for code without an event loop."""
        return SyncEngine(self._submit_named_blocking, lambda: self._blocking().broker())

    async def submit_plan(
        self, plan: HandlerPlan, args: tuple[Any, ...], kwargs: dict[str, Any], options: SubmitOptions
    ) -> JobHandle[Any]:
        """Submit one job of a handler; what `JobFunction.submit` calls."""
        client, results = self._open()
        submission = self._submission(plan, args, kwargs, options)
        job_id = await client.submit(options.queue or plan.options.queue, submission, options)
        return JobHandle(job_id, results, plan.arguments.decode_result)

    async def submit_plan_many(
        self, plan: HandlerPlan, items: Iterable[tuple[Any, ...]], options: SubmitOptions
    ) -> list[JobHandle[Any]]:
        """Submit many jobs of a handler; what `JobFunction.submit_many` calls."""
        client, results = self._open()
        decode = plan.arguments.decode_result
        jobs = self._submissions(plan, items, options)
        ids = await client.submit_many(options.queue or plan.options.queue, jobs, options)
        return [JobHandle(job_id, results, decode) for job_id in ids]

    def submit_plan_blocking(
        self, plan: HandlerPlan, args: tuple[Any, ...], kwargs: dict[str, Any], options: SubmitOptions
    ) -> SyncJobHandle[Any]:
        """Submit one job of a handler; what `JobFunction.sync.submit` calls."""
        client = self._blocking()
        submission = self._submission(plan, args, kwargs, options)
        ids = client.submit(options.queue or plan.options.queue, [submission], options)
        return client.handles(ids, plan.arguments.decode_result)[0]

    def submit_plan_many_blocking(
        self, plan: HandlerPlan, items: Iterable[tuple[Any, ...]], options: SubmitOptions
    ) -> list[SyncJobHandle[Any]]:
        """Submit many jobs of a handler; what `JobFunction.sync.submit_many` calls."""
        jobs = self._submissions(plan, items, options)
        queue = options.queue or plan.options.queue
        return self._blocking().submit_many(queue, jobs, options, plan.arguments.decode_result)

    # Running

    async def run(
        self, *, queues: Mapping[str, int] | None = None, burst: bool = False, stop: Stop | None = None
    ) -> None:
        """Work until SIGTERM or SIGINT: then fetch no more, let running jobs end, and return; a second signal hurries.

        Args:
            queues: The queues to read and their weights; None for "default" and every queue that a handler names.
            burst: Return when the queues are empty.
            stop: Whom else to obey beside the signals.

        Raises:
            ConfigError: the declarations or settings are wrong.
            BrokerUnavailable: the server could not be reached at the start.
        """
        stop = stop or Stop()
        async with plain_group() as group:
            await group.start(stop_on_signals, stop)
            async with self:
                await self._work(stop, queues, burst=burst)
            group.cancel_scope.cancel()

    @asynccontextmanager
    async def running(self, *, queues: Mapping[str, int] | None = None) -> AsyncIterator[Self]:
        """Work inside an existing application, and connect as a producer; leaving the block drains.

        Args:
            queues: As for `run`.
        """
        stop = Stop()
        async with self, plain_group() as group:
            await group.start(self._start, stop, queues)
            try:
                yield self
            finally:
                stop.quiet()

    def statistics(self) -> Statistics:
        """Return the statistics of this process; never waits. Queue depths are those of the last second's look.

        Raises:
            ConfigError: no worker runs in this process; `headrace stats` shows all workers.
        """
        if self._worker is None:
            raise ConfigError(
                "no worker runs in this process: call statistics() inside `async with engine.running()` or a handler, "
                "or use `headrace stats` for all workers"
            )
        return own_statistics(self._worker)

    async def _start(
        self,
        stop: Stop,
        queues: Mapping[str, int] | None,
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        await self._work(stop, queues, task_status=task_status)

    async def _work(
        self,
        stop: Stop,
        queues: Mapping[str, int] | None,
        *,
        burst: bool = False,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        settings = self.settings
        names = dict(queues) if queues else dict.fromkeys(self.registry.queues(), 1)
        plan = WorkerPlan(
            registry=self.registry,
            settings=settings,
            queues=names,
            version=VERSION,
            middleware=tuple(self._middleware),
            on=self._on,
            sinks=(OutcomeLog(settings.log_outcomes, fsync=settings.file.fsync),) if settings.log_outcomes else (),
            data_folder=self.connection.data_folder,
        )
        broker = await anyio.to_thread.run_sync(self.connection.open)
        try:
            if self._worker is not None:
                raise ConfigError("this engine runs already; make another Engine for another worker in this process")
            worker = self._worker = Worker(broker, broker, plan)
            async with self._lifespan(self) if self._lifespan else nullcontext() as state:
                worker.state = state
                async with plain_group() as group:
                    if burst:
                        group.start_soon(stop_when_empty, stop, worker.queues_are_empty)
                    await worker.run(stop, task_status=task_status)
                    group.cancel_scope.cancel()
        finally:
            self._worker = None
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.connection.close)

    def _add(self, plan: HandlerPlan) -> None:
        self.registry.add(plan)
        super()._add(plan)

    def _bound(self) -> Bound:
        return bound_of(self.settings)

    def _open(self) -> tuple[Client, Results]:
        if self._client is None or self._results is None:
            raise ConfigError(
                "the engine is not open: use it inside `async with engine:` or `async with engine.running():`, "
                "or submit by the blocking form, such as add.sync.submit(1, 2)"
            )
        return self._client, self._results

    def _blocking(self) -> SyncClient:
        if self._sync is None:
            self._sync = SyncClient(self.connection, self._bound(), self.settings.on_full)
        return self._sync

    def _submission(
        self, plan: HandlerPlan, args: tuple[Any, ...], kwargs: dict[str, Any], options: SubmitOptions
    ) -> Submission:
        packed_args, packed_kwargs = plan.arguments.pack(args, kwargs)
        call = plan.head + packed_args + packed_kwargs
        return submission_of(plan.name, call, options, self.settings.max_payload_bytes, plan.options.unique)

    def _submissions(
        self, plan: HandlerPlan, items: Iterable[tuple[Any, ...]], options: SubmitOptions
    ) -> Iterator[Submission]:
        """Yield what `_submission` returns for each, with what they have in common made once.

        Raises:
            InvalidArguments: the options give all of them one id.
        """
        if options.caller_id:
            raise InvalidArguments(f"id={options.caller_id!r}: one id is for one job; give each of them unique=True")
        head, tail, pack = plan.head, codec.pack_options(options.envelope), plan.arguments.pack
        delay_ms, due_at_ms, max_bytes = options.delay_ms, options.due_at_ms, self.settings.max_payload_bytes
        nothing: dict[str, Any] = {}
        if options.is_own or plan.options.unique is not None:
            yield from (self._submission(plan, tuple(args), nothing, options) for args in items)
            return
        for args in items:
            packed_args, packed_kwargs = pack(tuple(args), nothing)
            body = head + packed_args + packed_kwargs + tail
            if len(body) > max_bytes:
                check_size(plan.name, body, max_bytes)
            yield Submission(body, delay_ms, due_at_ms)

    def _named(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: SubmitOptions
    ) -> tuple[str, Submission]:
        plan = self.registry.get(name)
        if plan is not None:
            return options.queue or plan.options.queue, self._submission(plan, tuple(args), dict(kwargs), options)
        call = codec.pack_call(name, args, kwargs)
        return options.queue or "default", submission_of(name, call, options, self.settings.max_payload_bytes)

    def _submit_named_blocking(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> SyncJobHandle[Any]:
        said = submit_options(**options)
        queue, submission = self._named(name, args, kwargs, said)
        client, plan = self._blocking(), self.registry.get(name)
        ids = client.submit(queue, [submission], said)
        return (client.handles(ids, plan.arguments.decode_result) if plan else client.handles(ids))[0]
