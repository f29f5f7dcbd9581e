"""`headrace token new`: makes a bearer token of the HTTP API and prints it once, with what to paste.

It writes no file and connects to nothing: the token is with whoever reads it, its hash is for the configuration.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import get_args

import click

from headrace.config.tokens import NAME_MAX_CHARS, Scope
from headrace.config.units import parse_duration

from .options import json_option
from .output import print_json


@click.group
def command() -> None:
    """Make tokens for the HTTP API."""


@command.command("new")
@click.option("--name", default="", metavar="NAME", help="What logs and `config show` call it; default token-DATE.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(get_args(Scope)),
    multiple=True,
    default=("submit", "read"),
    show_default=True,
    help="What it may do, as often as wanted; admin may do all.",
)
@click.option("--expires", metavar="TIME", help="How long it holds, such as 90d; default for ever.")
@json_option
def new(name: str, scopes: tuple[str, ...], expires: str | None, as_json: bool) -> None:
    """Print a new token, once, and the lines for headrace.toml, which hold its hash only."""
    from ..http.tokens import hash_of, new_token

    now = datetime.now(UTC).replace(microsecond=0)
    token = new_token()
    entry: dict[str, object] = {
        "name": _checked(name or f"token-{now:%Y-%m-%d-%H%M%S}"),
        "sha256": hash_of(token),
        "scopes": list(dict.fromkeys(scopes)),
    }
    if expires is not None:
        entry["expires"] = (now + timedelta(seconds=_duration_s(expires))).isoformat()
    if as_json:
        print_json({"token": token, **entry})
        return
    click.echo(f"{token}\n\nThis is the token; it is not shown again. Into headrace.toml:\n\n[[http.tokens]]")
    for key, value in entry.items():
        # As JSON writes texts and lists, TOML reads them; a time stands there without quotes.
        click.echo(f"{key} = {value if key == 'expires' else json.dumps(value, ensure_ascii=False)}")


def _checked(name: str) -> str:
    if len(name) > NAME_MAX_CHARS or not name.isprintable():
        raise click.BadParameter(f"use 1 to {NAME_MAX_CHARS} printable characters", param_hint="--name")
    return name


def _duration_s(text: str) -> float:
    try:
        duration_s = parse_duration(text)
        datetime.now(UTC) + timedelta(seconds=duration_s)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    if not duration_s:
        raise click.BadParameter(
            f"{text!r}: the token would never hold; leave --expires out for one that holds for ever",
            param_hint="--expires",
        )
    return duration_s
