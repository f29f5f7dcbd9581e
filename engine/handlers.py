"""What the `@job` decorator returns: the user's function, still callable, with typed ways to submit it.

A JobFunction belongs to a Handlers collection until an engine includes that; from then on it submits through the
engine. Types: `submit` is checked against the handler's own parameters, the Context left out; calling it is calling the
function.
"""

import functools
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import msgspec

from headrace.config.limits import BATCH_LINGER_S
from headrace.jobs.errors import ConfigError
from headrace.jobs.handler import HandlerPlan, OnCrash, RunnerChoice, Span, options_from
from headrace.jobs.retry import DEFAULT as DEFAULT_RETRY
from headrace.jobs.retry import Retry
from headrace.jobs.submission import DEFAULT, UNSET, OnFull, SubmitOptions, submit_options
from headrace.jobs.unique import OnDuplicate, Unique
from headrace.workers.context import Context

from .handles import JobHandle, Submitter, SyncJobHandle

C = ParamSpec("C")
P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
#: One item of a batch handler's list.
I = TypeVar("I")  # noqa: E741 - beside C, P, T and R


class _Owner:
    """Whom the functions of one collection submit through; set once, by `include`."""

    __slots__ = ("submitter",)

    def __init__(self) -> None:
        self.submitter: Submitter | None = None


class SyncSubmit(Generic[P, R]):
    """The blocking form, for Django, Flask and scripts; may be used from any thread."""

    __slots__ = ("_function", "_options")

    def __init__(self, function: "JobFunction[..., P, Any, R]", options: SubmitOptions) -> None:
        self._function = function
        self._options = options

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> SyncJobHandle[R]:
        """Submit one job; raises what the awaited form does, and RuntimeError inside a running event loop."""
        return self._function.submitter().submit_plan_blocking(self._function.plan, args, kwargs, self._options)

    def submit_many(self, items: Iterable[tuple[Any, ...]]) -> list[SyncJobHandle[R]]:
        """Submit a job for each tuple of arguments, in batches."""
        return self._function.submitter().submit_plan_many_blocking(self._function.plan, items, self._options)


class Submit(Generic[P, R]):
    """A handler with options for its submissions; what `JobFunction.options` returns."""

    __slots__ = ("_function", "_options")

    def __init__(self, function: "JobFunction[..., P, Any, R]", options: SubmitOptions) -> None:
        self._function = function
        self._options = options

    @property
    def sync(self) -> SyncSubmit[P, R]:
        """The blocking form."""
        return SyncSubmit(self._function, self._options)

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Submit one job; see `JobFunction.submit`."""
        return await self._function.submitter().submit_plan(self._function.plan, args, kwargs, self._options)

    async def submit_many(self, items: Iterable[tuple[Any, ...]]) -> list[JobHandle[R]]:
        """Submit a job for each tuple of arguments; see `JobFunction.submit_many`."""
        return await self._function.submitter().submit_plan_many(self._function.plan, items, self._options)


class JobFunction(Generic[C, P, T, R]):
    """A registered handler: call it as the function that it is, or submit it.

    Attributes:
        function: The user's function.
        plan: What is known of it.
    """

    def __init__(self, function: Callable[C, T], plan: HandlerPlan, owner: _Owner) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.plan = plan
        self._owner = owner

    def __repr__(self) -> str:
        return f"<job {self.plan.name} ({self.plan.where})>"

    def __call__(self, *args: C.args, **kwargs: C.kwargs) -> T:
        """Call the function itself, here and now; nothing is submitted."""
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        """The handler's name on the wire."""
        return self.plan.name

    @property
    def sync(self) -> SyncSubmit[P, R]:
        """The blocking form, for code without an event loop."""
        return SyncSubmit(self, DEFAULT)

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Submit one job.

        Args:
            args: The handler's arguments, without the Context.
            kwargs: The same by name.

        Raises:
            InvalidArguments: they do not fit the handler's type hints, or would not survive the wire.
            PayloadTooLarge: they take more than `max_payload`.
            QueueFull: the queue is at its bound.
            DuplicateJob: another job has its unique key.
            BrokerUnavailable: the server is away.
            ConfigError: the engine is not open (`async with engine:`), or no engine includes this handler.
        """
        return await self.submitter().submit_plan(self.plan, args, kwargs, DEFAULT)

    async def submit_many(self, items: Iterable[tuple[Any, ...]]) -> list[JobHandle[R]]:
        """Submit a job for each tuple of positional arguments, in batches of bounded memory.

        Raises what `submit` does; the jobs of earlier batches are submitted then.
        """
        return await self.submitter().submit_plan_many(self.plan, items, DEFAULT)

    def options(
        self,
        *,
        queue: str | None = None,
        delay: Span | None = None,
        at: datetime | None = None,
        timeout: Span | None = None,
        retry: Retry | int | msgspec.UnsetType | None = UNSET,
        result_ttl: Span | None = None,
        on_full: OnFull | None = None,
        wait_timeout: Span | None = None,
        id: str | None = None,  # noqa: A002 - the option's name
        unique: Unique | str | bool | None = None,
        on_duplicate: OnDuplicate | None = None,
        expires: Span | datetime | None = None,
    ) -> Submit[P, R]:
        """Return this handler with options for its submissions.

        Args:
            queue: Another queue than the handler's.
            delay: Seconds (or a timedelta, or "10s") until it is due.
            at: When it is due: a datetime with a time zone.
            timeout: How long a try may run; 0 for no limit.
            retry: A Retry, or a number of tries in all, or None for one.
            result_ttl: How long its result is kept; 0 keeps none.
            on_full: "reject" or "wait" when the queue is full.
            wait_timeout: How long to wait then.
            id: Your own id for the job, one of its queue; kept as long as its result is.
            unique: A key that one job of the queue has at a time, until it ends; True makes one of the arguments.
            on_duplicate: "reject" or "return" (the first job's handle) when another job has the id or the key.
            expires: How long after now it may still be started, or until when.

        Raises:
            InvalidArguments: an option is out of its bounds.
        """
        options = submit_options(
            queue=queue,
            delay=delay,
            at=at,
            timeout=timeout,
            retry=retry,
            result_ttl=result_ttl,
            on_full=on_full,
            wait_timeout=wait_timeout,
            id=id,
            unique=unique,
            on_duplicate=on_duplicate,
            expires=expires,
        )
        return Submit(self, options)

    def submitter(self) -> Submitter:
        """Return what it submits through.

        Raises:
            ConfigError: no engine includes it yet.
        """
        if self._owner.submitter is None:
            raise ConfigError(
                f"handler {self.plan.name!r} belongs to no engine yet: call engine.include(handlers) before submitting"
            )
        return self._owner.submitter


class _Decorator:
    """`@job` with options: what it returns once it is given the function."""

    __slots__ = ("_register",)

    def __init__(self, register: Callable[[Callable[..., Any]], JobFunction[..., ..., Any, Any]]) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> JobFunction[Concatenate[Context, P], P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> JobFunction[Concatenate[Context, P], P, R, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, P, R, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        """Register the function and return it as a JobFunction."""
        return self._register(function)


class _BatchDecorator(Protocol):
    """`@job` with batch=: submitting takes an item of the list that the function takes."""

    @overload
    def __call__(
        self, function: Callable[[list[I]], Coroutine[Any, Any, Sequence[R | Exception]]], /
    ) -> JobFunction[[list[I]], [I], Coroutine[Any, Any, Sequence[R | Exception]], R]: ...
    @overload
    def __call__(
        self, function: Callable[[list[I]], Sequence[R | Exception]], /
    ) -> JobFunction[[list[I]], [I], Sequence[R | Exception], R]: ...


class Handlers:
    """A collection of handlers, to be included by an engine: as routers elsewhere, so that no import goes in a circle.

    Args:
        queue: Where their jobs go unless a handler says otherwise.
    """

    def __init__(self, queue: str = "default") -> None:
        self._queue = queue
        self._owner = _Owner()
        self._tell: Callable[[HandlerPlan], None] | None = None
        self.plans: list[HandlerPlan] = []

    @overload
    def job(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> JobFunction[Concatenate[Context, P], P, Coroutine[Any, Any, R], R]: ...
    @overload
    def job(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, P, Coroutine[Any, Any, R], R]: ...
    @overload
    def job(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> JobFunction[Concatenate[Context, P], P, R, R]: ...
    @overload
    def job(self, function: Callable[P, R], /) -> JobFunction[P, P, R, R]: ...
    @overload
    def job(
        self,
        function: None = None,
        /,
        *,
        batch: int,
        batch_linger: Span = BATCH_LINGER_S,
        name: str | None = None,
        aliases: tuple[str, ...] = (),
        queue: str | None = None,
        timeout: Span | None = None,
        retry: Retry | int | None = DEFAULT_RETRY,
        result_ttl: Span | None = None,
        runner: RunnerChoice = "auto",
        max_deliveries: int | None = None,
        on_crash: OnCrash = "rerun",
        expires: Span | None = None,
        unique: Unique | str | bool | None = None,
    ) -> _BatchDecorator: ...
    @overload
    def job(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        aliases: tuple[str, ...] = (),
        queue: str | None = None,
        timeout: Span | None = None,
        retry: Retry | int | None = DEFAULT_RETRY,
        result_ttl: Span | None = None,
        runner: RunnerChoice = "auto",
        max_deliveries: int | None = None,
        on_crash: OnCrash = "rerun",
        expires: Span | None = None,
        unique: Unique | str | bool | None = None,
    ) -> _Decorator: ...
    def job(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        aliases: tuple[str, ...] = (),
        queue: str | None = None,
        timeout: Span | None = None,
        retry: Retry | int | None = DEFAULT_RETRY,
        result_ttl: Span | None = None,
        runner: RunnerChoice = "auto",
        max_deliveries: int | None = None,
        on_crash: OnCrash = "rerun",
        batch: int | None = None,
        batch_linger: Span = BATCH_LINGER_S,
        expires: Span | None = None,
        unique: Unique | str | bool | None = None,
    ) -> Any:
        """Register a function as a handler; bare, or with options.

        Args:
            function: An async function, or a plain one (which runs in a thread or a process).
            name: Its name on the wire; the function's own by default.
            aliases: Further names that it answers to.
            queue: Where its jobs go.
            timeout: How long a try may run (seconds, timedelta, "30s"); 0 for no limit.
            retry: A Retry, or a number of tries in all, or None for one.
            result_ttl: How long results are kept; 0 keeps none.
            runner: "auto", or for plain functions "thread" or "process".
            max_deliveries: Starts without an outcome, as when its process dies, after which a job is given up.
            on_crash: "rerun", or "dead" for work that must never start twice, such as mail and payments.
            batch: One call gets a list of up to so many jobs; submitting takes one item of it. The function returns a
                value or an exception for each, in order, and each job ends for itself.
            batch_linger: How long a job waits for others to share its call.
            expires: How long a job may wait in its queue, once it is due, and still be started.
            unique: A key that one of its jobs has at a time, until it ends; True makes one of the arguments.

        Raises:
            ConfigError: an option is out of its bounds, or another handler has the name.
        """

        def register(function: Callable[..., Any]) -> JobFunction[..., ..., Any, Any]:
            options = options_from(
                function, name=name, aliases=aliases, queue=queue or self._queue, timeout=timeout, retry=retry,
                result_ttl=result_ttl, runner=runner, max_deliveries=max_deliveries, on_crash=on_crash, batch=batch,
                batch_linger=batch_linger, expires=expires, unique=unique,
            )  # fmt: skip
            plan = HandlerPlan(function, options)
            self._add(plan)
            return JobFunction(function, plan, self._owner)

        return _Decorator(register) if function is None else register(function)

    def bind_to(self, submitter: Submitter) -> None:
        """Have the functions of this collection submit through an engine; called by `Engine.include`.

        Raises:
            ConfigError: another engine included it before.
        """
        if self._owner.submitter not in (None, submitter):
            raise ConfigError("these Handlers are included in another engine already; make a collection for each")
        self._owner.submitter = submitter

    def on_added(self, tell: Callable[[HandlerPlan], None]) -> None:
        """Have `tell` called for each handler that is declared from now on; called by `Engine.include`."""
        self._tell = tell

    def _add(self, plan: HandlerPlan) -> None:
        if self._tell is not None:
            self._tell(plan)
        self.plans.append(plan)
