"""`headrace serve`: the API in a process of their own, without workers.

With MODULE:ENGINE its settings hold and its handlers check arguments; without, what the workers publish does.
"""

from typing import Any

import click

from headrace.config.logs import configure

from .opening import loaded_settings, note_log_level
from .options import given_url, url_option
from .places import http_option


@click.command
@click.argument("target", metavar="[MODULE:ENGINE]", required=False)
@http_option
@click.option("--leash", type=int, hidden=True)
@url_option
def command(target: str | None, http: dict[str, Any] | None, leash: int | None) -> None:
    """Serve the API until told to stop."""
    if leash is not None:
        from ..supervisor.leash import Leash

        Leash(leash).end_by_signal()
    from ..http.serve import serve

    flags = {"url": given_url(), "http": http}
    engine = None
    if target is not None:
        from .finding import find_engine

        engine = find_engine(target)
        engine.configure(**flags)
        engine.connection.is_told = leash is not None  # by its supervisor
    settings = engine.settings if engine is not None else loaded_settings(http=http).settings
    note_log_level(settings)
    configure(settings.log_level, settings.log_format)
    serve(engine, **({} if engine is not None else flags))
