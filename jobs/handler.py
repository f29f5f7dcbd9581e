"""Handlers: the user's function, its options, and the plan that is made of both once, at registration.

Everything that can be known of a function is found out here, so that the hot path looks nothing up. The plan is frozen
and knows no server, no loop and no runner's state.
"""

import functools
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import msgspec

from headrace.config import limits, units

from .arguments import Arguments
from .codec import TOO_LONG, head_of
from .errors import ConfigError
from .ids import check_queue
from .items import ItemArguments, check_batch
from .retry import DEFAULT, Retry, from_option
from .unique import Unique, unique_from

RunnerChoice = Literal["auto", "thread", "process"]
OnCrash = Literal["rerun", "dead"]
RunnerName = Literal["async", "thread", "process"]
#: What options take for a time span: seconds, a timedelta, or "30s".
Span = float | int | str | timedelta


class HandlerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the decorator was given, checked and in base units.

    Attributes:
        name: The handler's name on the wire.
        aliases: Further names that it answers to, for renaming without losing queued jobs.
        queue: Where its jobs go unless the submission says otherwise.
        timeout_s: Seconds a try may run; 0 for no limit; None for the default of its runner.
        retry: How often it is tried.
        result_ttl_s: Seconds its results are kept; 0 keeps none; None for the setting.
        runner: "auto", "thread" or "process".
        max_deliveries: Starts without an outcome after which a job is given up; None for the setting.
        on_crash: "rerun", or "dead" for work that must never start twice.
        batch: The most jobs that one call gets as a list; 0 for one job a call.
        batch_linger_s: Seconds for which a job waits for others to share its call.
        expires_s: Seconds that a job may wait in its queue and still be started; None for as long as it takes.
        unique: The unique key of its jobs; None for none.
    """

    name: str
    aliases: tuple[str, ...] = ()
    queue: str = "default"
    timeout_s: float | None = None
    retry: Retry = DEFAULT
    result_ttl_s: float | None = None
    runner: RunnerChoice = "auto"
    max_deliveries: int | None = None
    on_crash: OnCrash = "rerun"
    batch: int = 0
    batch_linger_s: float = limits.BATCH_LINGER_S
    expires_s: float | None = None
    unique: Unique | None = None


class HandlerPlan:
    """A handler, ready to be bound to a runner.

    Attributes:
        name: The handler's name on the wire.
        function: The user's function.
        options: What the decorator was given.
        wants_context: Whether its first parameter is the Context.
        where: "module:qualname", by which a child process finds it.
        place: "file:line" of the definition, for error messages.
        arguments: Checks, packs and unpacks its arguments.
        head: The first bytes of every envelope of its jobs.
        runner: The kind of runner that runs it.
    """

    __slots__ = ("arguments", "function", "head", "name", "options", "place", "runner", "wants_context", "where")

    def __init__(self, function: Callable[..., Any], options: HandlerOptions) -> None:
        self.function = function
        self.options = options
        self.name = options.name
        self.place = place_of(function)
        self.where = where_of(function)
        self.runner = _runner_of(function, options)
        self.wants_context = _wants_context(function)
        self.head = head_of(self.name)
        if options.batch:
            try:
                check_batch(function, wants_context=self.wants_context, in_process=self.runner == "process")
            except ValueError as error:
                raise ConfigError(f"handler {self.name!r} ({self.place}), batch={options.batch}: {error}") from None
            self.arguments: Arguments = ItemArguments(function, name=self.name)
        else:
            self.arguments = Arguments(function, name=self.name, skip_first=self.wants_context)

    @property
    def timeout_s(self) -> float:
        """Seconds a try may run when nobody says otherwise; 0 for no limit."""
        if self.options.timeout_s is not None:
            return self.options.timeout_s
        return limits.TIMEOUT_THREAD_S if self.runner == "thread" else limits.TIMEOUT_ASYNC_S


def options_from(
    function: Callable[..., Any],
    *,
    name: str | None,
    aliases: tuple[str, ...],
    queue: str,
    timeout: Span | None,
    retry: Retry | int | None,
    result_ttl: Span | None,
    runner: RunnerChoice,
    max_deliveries: int | None = None,
    on_crash: OnCrash = "rerun",
    batch: int | None = None,
    batch_linger: Span = limits.BATCH_LINGER_S,
    expires: Span | None = None,
    unique: Unique | str | bool | None = None,
) -> HandlerOptions:
    """Return checked options for a function.

    Raises:
        ConfigError: an option is out of its bounds; the message names the option and the handler.
    """
    name = name or getattr(function, "__name__", "")
    if not callable(function):
        raise ConfigError(f"@job expects a function, got {function!r}")
    if not name:
        raise ConfigError(f"{function!r} has no name of its own; give it one with @job(name=...)")
    where = f"handler {name!r} ({place_of(function)})"
    try:
        if runner not in ("auto", "thread", "process"):
            raise ValueError(f'runner={runner!r}: use "auto", "thread" or "process"')
        if on_crash not in ("rerun", "dead"):
            raise ValueError(f'on_crash={on_crash!r}: use "rerun" or "dead"')
        if max_deliveries is not None and not 1 <= max_deliveries <= limits.MAX_DELIVERIES_MAX:
            raise ValueError(f"max_deliveries={max_deliveries!r}: use 1 to {limits.MAX_DELIVERIES_MAX}")
        if batch is not None and not 1 <= batch <= limits.BATCH_MAX_COUNT:
            raise ValueError(f"batch={batch!r}: use 1 to {limits.BATCH_MAX_COUNT:,}")
        if isinstance(aliases, str):
            raise ValueError(f"aliases={aliases!r}: give a tuple of names")  # noqa: TRY004 - all become one ConfigError
        for each in (name, *aliases):
            _check_name(each)
        _check_returns(function)
        return HandlerOptions(
            name=name,
            aliases=tuple(aliases),
            queue=check_queue(queue),
            timeout_s=None if timeout is None else _span("timeout", timeout),
            retry=from_option(retry),
            result_ttl_s=None if result_ttl is None else _span("result_ttl", result_ttl),
            runner=runner,
            max_deliveries=max_deliveries,
            on_crash=on_crash,
            batch=batch or 0,
            batch_linger_s=_span("batch_linger", batch_linger, limits.BATCH_LINGER_MAX_S),
            expires_s=_expires_s(expires),
            unique=unique_from(unique),
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def place_of(function: Callable[..., Any]) -> str:
    """Return "file:line" of a function's definition, or its name where there is no source."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else getattr(function, "__qualname__", repr(function))


def where_of(function: Callable[..., Any]) -> str:
    """Return "module:qualname"; of what has neither, such as a callable object, its class's with () behind it."""
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str):
        return f"{module}:{qualname}"
    kind = type(function)
    return f"{kind.__module__}:{kind.__qualname__}()"


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Return whether calling it gives a coroutine, seen through functools.partial and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method is inspected, not tested for
    )


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"{name!r} cannot be a handler's name: give a text that is not empty")
    if len(name) > limits.NAME_MAX_CHARS:
        raise ValueError(f"{name[:40]!r}... cannot be a handler's name: {TOO_LONG}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name {name!r} is no valid Unicode, so it cannot be sent") from None


def _check_returns(function: Callable[..., Any]) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError("it is a generator function: calling it runs nothing; return a list instead of yielding")


def _span(option: str, value: Span, most_s: float = limits.PERIOD_MAX_S) -> float:
    try:
        span_s = units.parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    if span_s > most_s:
        shown = units.format_duration(most_s)
        raise ValueError(f"{option}={value!r}: more than {shown} is a mistake in the unit")
    return span_s


def _expires_s(value: Span | None) -> float | None:
    if value is None:
        return None
    span_s = _span("expires", value)
    if not span_s:
        raise ValueError(f"expires={value!r}: none of its jobs would ever be started; leave it out for no limit")
    return span_s


def _runner_of(function: Callable[..., Any], options: HandlerOptions) -> RunnerName:
    if is_coroutine_function(function):
        if options.runner != "auto":
            raise ConfigError(
                f"handler {options.name!r} ({place_of(function)}) is an async function and asks for "
                f'runner="{options.runner}": async functions run on the loop; make it a plain function for '
                f"threads or processes"
            )
        return "async"
    return "process" if options.runner == "process" else "thread"


def _wants_context(function: Callable[..., Any]) -> bool:
    """Return whether the first parameter is annotated as headrace's Context, as a class or by its name.

    Compared by name: the class lives a layer above, and annotations may be strings.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    if not parameters:
        return False
    annotation = parameters[0].annotation
    if isinstance(annotation, str):
        text = annotation.strip("'\"")
        first, *rest = text.split(".")
        found = getattr(inspect.unwrap(_plain(function)), "__globals__", {}).get(first)
        if found is None:  # imported for type checkers only, or local to a function
            return text.rpartition(".")[2] == "Context"
        for name in rest:
            found = getattr(found, name, None)
        annotation = found
    return getattr(annotation, "__module__", "") == "headrace.workers.context" and annotation.__name__ == "Context"


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what lies behind functools.partial and callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    return function if hasattr(function, "__globals__") or isinstance(function, type) else type(function).__call__
