"""The option --http HOST:PORT: where the API is served.

It takes the text apart; whether that place can be served is found out where it is.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def parse_place(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, str] | None:
    """Return the settings `host` and `port` that HOST:PORT, :PORT or PORT says; None where it was not given."""
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not port.isdecimal() or (":" in host and not host.startswith("[")):
        raise click.BadParameter(f"{value!r}: write HOST:PORT, such as 127.0.0.1:8787 or [::1]:8787, or a port alone")
    return {"port": port, **({"host": host.strip("[]")} if colon and host else {})}


def http_option(function: F) -> F:
    """Give a command the option --http."""
    return click.option(
        "--http", metavar="HOST:PORT", callback=parse_place, help="Where the API is served; default 127.0.0.1:8787."
    )(function)
