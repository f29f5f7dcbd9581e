"""What a batch handler takes and gives: one list of items in, one value or exception for each of them out.

A job is one item, so its arguments are checked against the type that the list holds, and its result against the type
that the returned list holds, exceptions left out. Pure; the hints are resolved at first use, as for every handler.
"""

import functools
import inspect
import types
import typing
from collections import abc
from collections.abc import Callable
from typing import Any, Final

from .arguments import Arguments
from .errors import ConfigError

#: What an item is called where it is given by name, as in a job of JSON.
ITEM: Final = "item"
_LISTS: Final = (list, abc.Sequence, abc.Collection, abc.Iterable)
_GIVEN: Final = (*_LISTS, tuple)


def check_batch(function: Callable[..., Any], *, wants_context: bool, in_process: bool) -> None:
    """Refuse a function that cannot take a batch; raises ValueError, saying why."""
    if in_process:
        raise ValueError('batches run on the loop or in a thread; leave out runner="process"')
    if wants_context:
        raise ValueError(
            "it wants a Context, and a call gets many jobs, each with an id and an attempt of its own; leave it out"
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error}; wrap it in a function of your own") from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if len(parameters) != 1 or parameters[0].kind not in positional:
        raise ValueError("it takes exactly one argument, the list of items")


class ItemArguments(Arguments):
    """The argument of one job of a batch handler: an item of its list."""

    def __init__(self, function: Callable[..., Any], *, name: str) -> None:
        super().__init__(function, name=name, skip_first=False)
        self._whole = Arguments(function, name=name, skip_first=False)

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """One item, by position or as `item`."""
        return inspect.Signature([inspect.Parameter(ITEM, inspect.Parameter.POSITIONAL_OR_KEYWORD)])

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """Type of an item, and of what the handler returns for one.

        Raises:
            ConfigError: the function takes or returns no list.
        """
        parameter, given = self._whole.hints.items()
        return {
            ITEM: self._inside(parameter[1], _LISTS, f"takes {parameter[0]!r} as"),
            "return": _without_exceptions(self._inside(given[1], _GIVEN, "returns")),
        }

    def _inside(self, hint: Any, kinds: tuple[Any, ...], what: str) -> Any:
        """Return what a list's hint says of its members."""
        if hint is Any or hint in kinds:
            return Any
        members = typing.get_args(hint)
        if typing.get_origin(hint) in kinds and (len(members) == 1 or members[1:] == (...,)):
            return members[0]
        raise ConfigError(
            f"handler {self._name!r} has batch=, so it takes list[ITEM] and returns a list with a value or an "
            f"exception for each; it {what} {hint!r}"
        )


def _without_exceptions(hint: Any) -> Any:
    """Return the type of what succeeds, of a union with exceptions."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return Any if _is_exception(hint) else hint
    kept = [member for member in typing.get_args(hint) if not _is_exception(member)]
    return functools.reduce(lambda left, right: left | right, kept) if kept else Any


def _is_exception(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseException)
