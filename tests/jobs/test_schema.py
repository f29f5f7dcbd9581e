"""Arguments against a published schema: what is plainly wrong is found, what may be right passes."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

import pytest

from headrace.jobs.arguments import Arguments
from headrace.jobs.errors import InvalidArguments
from headrace.jobs.schema import check_arguments


def resize(path: str, width: int = 200, ratio: float = 1.0, *, mode: Literal["fit", "fill"] = "fit") -> None: ...
def loose(first, *rest: int, **named: int) -> None: ...
def rich(day: date, price: Decimal, wait: timedelta, data: bytes, note: str | None, tags: list[str]) -> None: ...


def check(function, *args, **kwargs) -> None:
    schema = Arguments(function, name=function.__name__, skip_first=False).schema()
    check_arguments(function.__name__, schema, args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("a",), {}),
        (("a", 100, 2), {}),
        ((), {"path": "a", "mode": "fill"}),
    ],
)
def test_what_fits_passes(args, kwargs) -> None:
    """Arguments that the handler would take are not refused."""
    check(resize, *args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing: 'path'"),
        (("a", 1, 1.0, "fit"), {}, "at most 3 are taken"),
        (("a",), {"path": "b"}, "'path' is given twice"),
        (("a",), {"height": 1}, "no argument 'height'"),
        ((1,), {}, "'path': expected string, got integer"),
        (("a", "b"), {}, "'width': expected integer, got string"),
        (("a", True), {}, "'width': expected integer, got boolean"),
        (("a", 1.5), {}, "'width': expected integer, got number"),
        (("a", 100.0), {}, "'width': expected integer, got number"),
        (("a",), {"mode": "crop"}, "'mode': expected one of"),
    ],
)
def test_what_cannot_fit_is_refused(args, kwargs, said) -> None:
    """What the handler can never take is InvalidArguments, naming the argument."""
    with pytest.raises(InvalidArguments, match=said):
        check(resize, *args, **kwargs)


@pytest.mark.parametrize("value", [1.0, True, "1", 3])
def test_a_choice_is_one_of_its_kind(value: object) -> None:
    """Of numbers to choose from, what is equal and of another class is none, as for the handler itself."""

    def level(of: Literal[1, 2]) -> None: ...

    check(level, 1)
    with pytest.raises(InvalidArguments, match="'of': expected one of 1, 2"):
        check(level, value)
    with pytest.raises(InvalidArguments, match="'of'"):
        Arguments(level, name="level", skip_first=False).check((value,), {})


def test_open_signatures_take_anything() -> None:
    """*args and **kwargs take any number of arguments, and untyped parameters any type."""
    check(loose, {"a": 1}, 2, 3, further=4)


def test_types_with_several_forms_are_left_to_the_worker() -> None:
    """Dates, decimals, durations and bytes have several forms on the wire, so no form is refused here."""
    check(rich, "2026-01-01", 1.5, 30, "aGk=", None, [])
    with pytest.raises(InvalidArguments, match="'tags': expected array, got string"):
        check(rich, "2026-01-01", "1", "PT1S", b"hi", "x", "tag")


def test_the_schema_of_an_older_worker_is_enough() -> None:
    """A schema that does not say how many go by position counts them all so."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    check_arguments("old", schema, [1], {})
    with pytest.raises(InvalidArguments):
        check_arguments("old", schema, [1, 2], {})
