"""`headrace config show`: every setting, its value, and where it came from.

Passwords are masked. It reads files and variables and connects to nothing.
"""

import click

from headrace.config.show import rows

from .opening import loaded_settings
from .options import json_option, url_option
from .output import print_json, print_table


@click.group
def command() -> None:
    """Show every setting and where it came from."""


@command.command("show")
@json_option
@url_option
def show_config(as_json: bool) -> None:
    """Show every setting in force, its value and where it came from."""
    found = list(rows(loaded_settings()))
    if as_json:
        print_json(found)
    else:
        print_table(("setting", "value", "from"), [(row.name, row.value, row.origin) for row in found])
