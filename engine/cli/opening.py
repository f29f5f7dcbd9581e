"""How commands come to the settings in force and to the broker that these name.

Commands that only look or submit are programs of their own, so a broker inside one process is refused: it would take
jobs and forget them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from headrace.config.errors import ConfigError
from headrace.config.sources import Loaded, load

from .options import given_url

if TYPE_CHECKING:
    from headrace.config.settings import Settings

    from ..broker.control import OpenBroker
    from ..connection import Connection

#: Key in the context's `meta`: whether errors come with their traceback.
DEBUG: Final = "headrace.debug"


def loaded_settings(**flags: Any) -> Loaded:
    """Return the settings in force, the --url among the flags.

    Raises:
        ConfigError: lists every problem in every source.
    """
    loaded = load({"url": given_url(), **flags}, {}, os.environ, Path.cwd())
    note_log_level(loaded.settings)
    return loaded


def note_log_level(settings: "Settings") -> None:
    """Have errors shown with their traceback from here on when the log level says so."""
    click.get_current_context().meta[DEBUG] = settings.log_level == "debug"


@contextmanager
def opened_connection() -> "Iterator[tuple[Settings, Connection]]":
    """Give the settings, and a connection that is closed at the end; opened by whoever uses it.

    Raises:
        ConfigError: the settings are wrong, or name a broker inside one process.
    """
    settings = loaded_settings().settings
    refuse_memory(settings.url, "this command is a process of its own")
    from ..connection import Connection

    yield settings, Connection(settings, os.environ, Path.cwd())


@contextmanager
def opened_broker() -> "Iterator[OpenBroker]":
    """Give the broker that the settings name, and close it at the end.

    Raises:
        ConfigError: the settings are wrong.
        BrokerUnavailable: the embedded server does not come up; any other says so at the first question.
    """
    with opened_connection() as (_, connection):
        broker = connection.open()
        try:
            yield broker
        finally:
            connection.close()


def refuse_memory(url: str | None, why: str) -> None:
    """Raise ConfigError when the url names a broker inside one process."""
    if url is not None and url.startswith("memory:"):
        raise ConfigError(
            f"{url} keeps jobs inside one process, and {why}: give the --url of a server, or none for the embedded one"
        )
