"""Options that several commands take, and where their values are kept while a command runs.

`--url` may stand before or behind the command; the one behind it wins. Imports click alone, since the help does too.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_URL: Final = "headrace.url"


def note_url(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Keep the url that was given; the callback of every --url."""
    if value is not None:
        ctx.meta[_URL] = value
    return value


def given_url() -> str | None:
    """Return the url that was given as a flag, before or behind the command."""
    url: str | None = click.get_current_context().meta.get(_URL)
    return url


def url_option(function: F) -> F:
    """Give a command the option --url; its value is asked for with `given_url`."""
    return click.option(
        "--url", metavar="URL", expose_value=False, callback=note_url,
        help="The server: redis://, rediss://, unix://, embedded://[PATH]. Also HEADRACE_URL and headrace.toml.",
    )(function)  # fmt: skip


def json_option(function: F) -> F:
    """Give a command the option --json, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def limit_option(function: F) -> F:
    """Give a listing the options --limit and --cursor."""
    function = click.option(
        "--cursor", default="", metavar="CURSOR", help="Where to go on, as the page before said on stderr."
    )(function)
    return click.option(
        "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Rows at most."
    )(function)
