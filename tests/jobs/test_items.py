"""The item of a batch handler: its type, and the type of what is returned for one."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headrace.jobs.errors import ConfigError, InvalidArguments
from headrace.jobs.items import ItemArguments


def plain(rows: list[int]) -> list[str]:
    return []


def with_exceptions(rows: Sequence[int]) -> Sequence[str | bytes | ValueError]:
    return []


def bare(rows: list) -> list:  # type: ignore[type-arg]
    return []


def without_hints(rows):  # type: ignore[no-untyped-def]
    return []


def gives_tuple(rows: list[int]) -> tuple[str | Exception, ...]:
    return ()


@pytest.mark.parametrize(
    ("function", "item", "value"),
    [
        (plain, int, str),
        (with_exceptions, int, str | bytes),
        (bare, Any, Any),
        (without_hints, Any, Any),
        (gives_tuple, int, str),
    ],
)
def test_types_are_those_inside_the_lists(function: Callable[..., Any], item: object, value: object) -> None:
    """An item has the type that the list holds; a result that of the returned list, without exceptions."""
    assert {"item": item, "return": value} == ItemArguments(function, name="f").hints


def gives_one(rows: list[int]) -> int:
    return 1


def takes_one(row: int) -> list[int]:
    return []


def gives_two(rows: list[int]) -> tuple[int, str]:
    return 1, ""


@pytest.mark.parametrize("function", [gives_one, takes_one, gives_two])
def test_what_is_no_list_is_refused(function: Callable[..., Any]) -> None:
    """A function that takes or returns something else cannot be a batch handler; the message says what can."""
    with pytest.raises(ConfigError, match=r"batch=, so it takes list\[ITEM\]"):
        ItemArguments(function, name="f").compile()


def test_an_item_goes_by_position_or_by_name() -> None:
    """One item is packed and checked; its schema names it `item`."""
    arguments = ItemArguments(plain, name="f")
    assert ((5,), {}) == arguments.unpack(*arguments.pack((5,), {}))
    assert ((5,), {}) == arguments.unpack(*arguments.pack((), {"item": 5}))
    assert ["item"] == arguments.schema()["required"]
    with pytest.raises(InvalidArguments, match="item"):
        arguments.pack(([5],), {})
