"""Handlers: what is found out about a function at registration, and what is refused there."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import future_module
import pytest

from headrace.jobs.errors import ConfigError, UnknownHandler
from headrace.jobs.handler import HandlerOptions, HandlerPlan, options_from
from headrace.jobs.registry import Registry
from headrace.jobs.retry import DEFAULT, ONCE, Retry
from headrace.workers.context import Context
from headrace.workers.context import Context as Renamed


def options_of(function: Any, **options: Any) -> HandlerOptions:
    said: dict[str, Any] = {
        "name": None, "aliases": (), "queue": "default", "timeout": None, "retry": DEFAULT, "result_ttl": None,
        "runner": "auto",
    }  # fmt: skip
    return options_from(function, **said | options)


def plan_of(function: Callable[..., Any], **options: Any) -> HandlerPlan:
    return HandlerPlan(function, options_of(function, **options))


def plain(a: int) -> int:
    return a


async def coroutine(a: int) -> int:
    return a


class Callable1:
    def __call__(self, ctx: Context, a: int) -> int:
        return a


class AsyncCallable:
    async def __call__(self, a: int) -> int:
        return a

    def method(self, ctx: Context, a: int) -> int:
        return a


def test_options_are_in_base_units() -> None:
    """Spans become seconds, tries a Retry, and the name is the function's own."""
    options = options_of(plain, timeout="1m", result_ttl=timedelta(hours=1), retry=4, aliases=["old"], queue="mail")
    assert (
        HandlerOptions(
            name="plain", aliases=("old",), queue="mail", timeout_s=60.0, retry=Retry(attempts=4), result_ttl_s=3600.0
        )
        == options
    )
    assert (ONCE, 0.0) == (options_of(plain, retry=None).retry, options_of(plain, timeout=0).timeout_s)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": -1}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": 1e300}, "mistake in the unit"),
        ({"timeout": True}, "timeout"),
        ({"result_ttl": float("inf")}, "result_ttl"),
        ({"result_ttl": "400d"}, "mistake in the unit"),
        ({"retry": 0}, "attempts"),
        ({"retry": "3"}, "attempts"),
        ({"queue": "a b"}, "queue"),
        ({"queue": ""}, "queue"),
        ({"runner": "fork"}, "runner"),
        ({"aliases": "old"}, "tuple of names"),
        ({"aliases": ("",)}, "not empty"),
        ({"aliases": (3,)}, "not empty"),
        ({"aliases": 3}, "iterable"),
        ({"name": "\ud800"}, "Unicode"),
        ({"name": 3}, "not empty"),
    ],
)
def test_options_out_of_bounds_are_config_errors(options: dict[str, Any], message: str) -> None:
    """The message names the handler, its place and the option."""
    with pytest.raises(ConfigError, match=message) as refused:
        options_of(plain, **options)
    assert "test_handler.py" in str(refused.value)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [generator, async_generator])
def test_generators_are_no_handlers(function: Any) -> None:
    """A function that yields would run nothing, and is refused."""
    with pytest.raises(ConfigError, match="instead of yielding"):
        options_of(function)


def test_what_is_no_function_is_refused() -> None:
    """What cannot be called is refused, and what has no name needs one."""
    with pytest.raises(ConfigError, match="expects a function"):
        options_of(3)
    with pytest.raises(ConfigError, match="name="):
        options_of(functools.partial(plain, 1))
    assert "bound" == options_of(functools.partial(plain, 1), name="bound").name


@pytest.mark.parametrize(
    ("function", "runner"),
    [
        (plain, "thread"),
        (coroutine, "async"),
        (functools.partial(coroutine, 1), "async"),
        (AsyncCallable(), "async"),
        (Callable1(), "thread"),
        (AsyncCallable().method, "thread"),
    ],
)
def test_the_runner_follows_from_the_function(function: Any, runner: str) -> None:
    """What gives a coroutine runs on the loop, all else in a thread unless a process is asked for."""
    plan = plan_of(function, name="handler")
    assert runner == plan.runner
    assert (300.0 if runner == "async" else 0.0) == plan.timeout_s


def test_a_process_is_for_plain_functions() -> None:
    """A plain function may ask for a process; an async function may ask for nothing."""
    assert ("process", 300.0) == (plan_of(plain, runner="process").runner, plan_of(plain, runner="process").timeout_s)
    with pytest.raises(ConfigError, match="async function"):
        plan_of(coroutine, runner="process")


def by_class(ctx: Context, a: int) -> None: ...
def by_other_name(ctx: Renamed, a: int) -> None: ...
def by_string(ctx: "Context", a: int) -> None: ...
def by_renamed_string(ctx: "Renamed", a: int) -> None: ...
def not_first(a: int, ctx: Context) -> None: ...
def without(a: int) -> None: ...
def nothing() -> None: ...
def untyped(ctx, a): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("function", "wants"),
    [
        (by_class, True),
        (by_other_name, True),
        (by_string, True),
        (by_renamed_string, True),
        (future_module.with_context, True),
        (Callable1(), True),
        (AsyncCallable().method, True),
        (functools.partial(by_class), True),
        (not_first, False),
        (without, False),
        (nothing, False),
        (untyped, False),
        (future_module.own_context, False),
    ],
)
def test_the_context_is_known_by_its_class(function: Any, wants: bool) -> None:
    """A first parameter that is annotated as headrace's Context is one, by whatever name it was imported."""
    assert wants is plan_of(function, name="handler").wants_context


def test_a_handler_has_a_place() -> None:
    """Where a handler is says module and name for children, file and line for people, for any callable."""
    assert (f"{__name__}:plain", True) == (plan_of(plain).where, "test_handler.py:" in plan_of(plain).place)
    assert f"{__name__}:Callable1()" == plan_of(Callable1(), name="c").where
    assert plan_of(functools.partial(plain, 1), name="p").where.endswith("partial()")


def test_a_registry_finds_names_and_aliases() -> None:
    """A handler answers to its name and aliases; the queues are those of the handlers, the default one first."""
    registry = Registry()
    plan = plan_of(plain, aliases=("old",), queue="mail")
    registry.add(plan)
    registry.add(plan)
    assert (plan, plan, None) == (registry.get("plain"), registry.find("old"), registry.get("new"))
    assert ([plan], True, ["default", "mail"]) == (list(registry), "old" in registry, registry.queues())
    with pytest.raises(UnknownHandler, match=r"'new'.*old, plain"):
        registry.find("new")


def test_a_name_belongs_to_one_handler() -> None:
    """A second handler of a name or alias is refused, and both places are named; nothing of it is kept."""
    registry = Registry()
    registry.add(plan_of(plain, aliases=("old",)))
    for options in ({"name": "plain"}, {"name": "old"}, {"name": "new", "aliases": ("plain",)}):
        with pytest.raises(ConfigError, match=r"test_handler\.py.*test_handler\.py"):
            registry.add(plan_of(coroutine, **options))
    assert "new" not in registry
