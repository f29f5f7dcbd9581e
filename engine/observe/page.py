"""Writes docs/statistics.md from the docstrings of the statistics records: `python -m headrace.engine.observe.page`.

One table a record, one row a field, all from the record's own Attributes lines; a field without one is an error here.
Reads no statistics and runs no job.
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import msgspec

from .statistics import Statistics

PAGE = Path("docs/statistics.md")

_HEAD = """# Statistics

`engine.statistics()`, `GET /v1/stats` and `headrace stats --json` give this record. A figure is `null` where nothing
was measured. NAME stands for the name of a handler, queue, runner or sink. For Prometheus see [Metrics](metrics.md).

This page is made by `python -m headrace.engine.observe.page` from the records in `engine/observe/`: change it there.
"""

#: `name (unit): meaning`; the unit is missing where the field is a record of its own.
_LINE = re.compile(r"^(?P<name>\w+)(?: \((?P<unit>[^)]+)\))?: (?P<meaning>.+)$")
_TABLE_HEAD = ("| field | type | unit | meaning |", "|---|---|---|---|")
_JSON_NAMES = {int: "integer", float: "number", str: "string", type(None): "null"}


def page() -> str:
    """Return the page."""
    places: dict[type[msgspec.Struct], list[str]] = {}
    for path, record in _walk(Statistics, ""):
        places.setdefault(record, []).append(path)
    return "\n".join([_HEAD, *(_section(record, paths) for record, paths in places.items())])


def documented(record: type[msgspec.Struct]) -> dict[str, tuple[str, str]]:
    """Return unit and meaning of each field, by the field's Python name, in the order of the docstring."""
    _, _, attributes = inspect.cleandoc(record.__doc__ or "").partition("Attributes:\n")
    lines: list[str] = []
    for line in inspect.cleandoc(attributes).splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    found = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            raise ValueError(f"{record.__name__}: write `name (unit): meaning` in its docstring, not {line!r}")
        found[match["name"]] = (match["unit"] or "", match["meaning"])
    return found


def main() -> int:
    """Write the page; returns the exit code."""
    if not PAGE.parent.is_dir():
        sys.stderr.write(f"there is no {PAGE.parent}/ here: run this in the folder of the checkout\n")
        return 2
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def _walk(record: type[msgspec.Struct], path: str) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    yield path, record
    for field in msgspec.structs.fields(record):
        inner, named = _inner(field.type)
        if inner is not None:
            yield from _walk(inner, f"{path}.{field.encode_name}".lstrip(".") + (".NAME" if named else ""))


def _inner(kind: object) -> tuple[type[msgspec.Struct] | None, bool]:
    """Return the record that a field holds, if any, and whether it holds one for each name."""
    named = typing.get_origin(kind) is dict
    held = typing.get_args(kind)[1] if named else kind
    return (held if isinstance(held, type) and issubclass(held, msgspec.Struct) else None), named


def _section(record: type[msgspec.Struct], paths: list[str]) -> str:
    sentences = inspect.cleandoc(record.__doc__ or "").partition("\n\nAttributes:")[0]
    title = ", ".join(f"`{path}`" for path in paths if path) or "The record"
    told = documented(record)
    fields = msgspec.structs.fields(record)
    missing = [field.name for field in fields if field.name not in told]
    if missing:
        raise ValueError(f"{record.__name__}: its docstring says nothing of {', '.join(missing)}")
    rows = [
        f"| `{field.encode_name}` | {_json_type(field.type)} | {told[field.name][0]} | {told[field.name][1]} |"
        for field in fields
    ]
    return "\n".join(
        [f"## {record.__name__}", "", title, "", sentences, "", *_TABLE_HEAD, *rows, ""],
    )


def _json_type(kind: object) -> str:
    inner, named = _inner(kind)
    if inner is not None:
        link = f"[{inner.__name__}](#{inner.__name__.lower()})"
        return f"NAME: {link}" if named else link
    if isinstance(kind, types.UnionType):
        return " or ".join(_json_type(part) for part in typing.get_args(kind))
    return _JSON_NAMES[typing.cast("type", kind)]


if __name__ == "__main__":
    sys.exit(main())
