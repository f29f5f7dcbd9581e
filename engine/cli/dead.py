"""`headrace dead`: the jobs that were given up on: list them, read why, run them again, or forget them.

To handle all of them takes the word --all; ids that are not there are named, and the exit code is then 1.
"""

import sys
from collections.abc import Callable

import click

from .. import admin, inspect
from ..broker.views import BrokerViews
from .opening import opened_broker
from .options import json_option, limit_option, url_option
from .output import print_json, print_record, print_table, time_of


@click.group
def command() -> None:
    """List, show, retry or drop the jobs that were given up on."""


@command.command("list")
@click.option("--queue", metavar="NAME", help="Only those of this queue.")
@limit_option
@json_option
@url_option
def list_dead(queue: str | None, limit: int, cursor: str, as_json: bool) -> None:
    """List dead letters, the newest first in each queue."""
    with opened_broker() as broker:
        letters, after = inspect.dead(broker, queue, cursor, limit)
    if as_json:
        print_json([inspect.dead_item(letter) for letter in letters])
    else:
        rows = [
            (
                letter.id,
                letter.name,
                letter.reason,
                letter.attempts,
                time_of(letter.died_at_ms),
                _first_line(letter.error),
            )
            for letter in letters
        ]
        print_table(("id", "name", "reason", "attempts", "died", "error"), rows)
    if after:
        click.echo(f"headrace: there are more; go on with --cursor '{after}'", err=True)


@command.command("show")
@click.argument("job_id", metavar="ID")
@json_option
@url_option
def show_dead(job_id: str, as_json: bool) -> None:
    """Show a dead letter: what it was, why it died, its arguments and traceback."""
    with opened_broker() as broker:
        item = inspect.dead_item(inspect.dead_letter(broker, job_id))
    if as_json:
        print_json(item)
        return
    item["died_at"] = time_of(item.pop("died_at_ms"))
    if item["args"] is not None:
        del item["raw_base64"]
    print_record(item)


@command.command("retry")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All there are, or all that the options below choose.")
@click.option("--queue", metavar="NAME", help="With --all: only those of this queue.")
@click.option("--reason", metavar="WORD", help="With --all: only those, such as failed, timed_out or crashed.")
@json_option
@url_option
def retry_dead(
    job_ids: tuple[str, ...], everything: bool, queue: str | None, reason: str | None, as_json: bool
) -> None:
    """Queue dead jobs again under their ids, with all their attempts."""
    _check_choice(job_ids, queue, reason, everything=everything)
    with opened_broker() as broker:
        handled = _handle(broker, job_ids, admin.dead_retry, lambda views: admin.dead_retry_all(views, queue, reason))
    _report("retried", handled, as_json=as_json)


@command.command("drop")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All there are, or all that the options below choose.")
@click.option("--queue", metavar="NAME", help="With --all: only those of this queue.")
@click.option("--reason", metavar="WORD", help="With --all: only those, such as failed, timed_out or crashed.")
@json_option
@url_option
def drop_dead(job_ids: tuple[str, ...], everything: bool, queue: str | None, reason: str | None, as_json: bool) -> None:
    """Forget dead letters for good."""
    _check_choice(job_ids, queue, reason, everything=everything)
    with opened_broker() as broker:
        handled = _handle(broker, job_ids, admin.dead_drop, lambda views: admin.dead_drop_all(views, queue, reason))
    _report("dropped", handled, as_json=as_json)


def _check_choice(job_ids: tuple[str, ...], queue: str | None, reason: str | None, *, everything: bool) -> None:
    if everything == bool(job_ids):
        raise click.UsageError("give ids, or --all; `headrace dead list` shows what there is")
    if job_ids and (queue or reason):
        raise click.UsageError("--queue and --reason choose among --all; ids are exact already")


def _handle(
    broker: BrokerViews,
    job_ids: tuple[str, ...],
    some: Callable[[BrokerViews, tuple[str, ...]], admin.Handled],
    everything: Callable[[BrokerViews], admin.Handled],
) -> admin.Handled:
    return some(broker, job_ids) if job_ids else everything(broker)


def _report(what: str, handled: admin.Handled, *, as_json: bool) -> None:
    if as_json:
        print_json({what: handled.count, "missing": list(handled.missing)})
    else:
        click.echo(f"{what} {handled.count:,}")
    for job_id in handled.missing:
        click.echo(
            f"headrace: there is no dead letter {job_id!r}; `headrace jobs show {job_id}` may know more", err=True
        )
    if handled.missing:
        sys.exit(1)


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:80]
