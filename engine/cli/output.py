"""What commands print: one JSON document, or a table: by rich on a terminal, plain columns anywhere else.

Figures go to stdout. rich is imported only when a table is shown on a terminal.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
import msgspec


def print_json(value: Any) -> None:
    """Print one JSON document and a line's end; what JSON cannot say is its repr."""
    click.echo(msgspec.json.encode(value, enc_hook=repr).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print rows under their columns; None is shown as a dash, numbers stand on the right."""
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells, title)
        return
    if title:
        click.echo(title)
    lines = [[column.upper() for column in columns], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_record(record: Mapping[str, Any]) -> None:
    """Print one record, a field a line; texts of several lines stand indented below their name."""
    width = max((len(name) for name in record), default=0)
    for name, value in record.items():
        shown = value if isinstance(value, str) else _compact(value)
        if "\n" in shown:
            shown = "\n" + "\n".join(f"    {line}" for line in shown.rstrip("\n").split("\n"))
        click.echo(f"{name.ljust(width)}  {shown}")


def time_of(at_ms: int | None) -> str | None:
    """Return milliseconds since the epoch as RFC 3339 in UTC; None where there is no time."""
    from ..inspect import time_of as shown

    return shown(at_ms) if at_ms else None


def _compact(value: Any) -> str:
    return "-" if value is None else msgspec.json.encode(value, enc_hook=repr).decode()


def _print_rich(columns: Sequence[str], cells: Sequence[Sequence[str]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))  # as Text: brackets in a job's name are no markup
    Console().print(table)
