"""Handlers whose annotations are strings, with a type that is defined below its use and one that type checkers see."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace import Context


def below(row: Row, count: int = 1) -> Row:
    return row


def with_context(ctx: Context, count: int) -> int:
    return count


def unresolvable(row: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821 - that is the point
    return None


@dataclasses.dataclass
class Row:
    id: int
    name: str = ""


class own:  # noqa: N801 - as a module of the user's
    class Context:  # noqa: D106
        pass


def own_context(ctx: own.Context, count: int) -> int:
    return count
