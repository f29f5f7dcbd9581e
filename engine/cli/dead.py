"""`headrace dead`: the jobs that were given up on: list them, read why, mend them, run them again, or forget them.

To handle all of them takes the word --all, and may go at a rate that what they call can bear. Ids that are not there
are named, and the exit code is then 1.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from headrace.jobs.editing import arguments_of
from headrace.jobs.letters import REASONS, dead_item

from .. import admin, inspect
from ..broker.views import BrokerViews
from .arguments import json_of
from .asking import confirm
from .opening import opened_broker, opened_connection
from .options import json_option, limit_option, url_option
from .output import print_json, print_record, print_table, time_of
from .patience import Patience

F = TypeVar("F", bound=Callable[..., Any])
#: How often a long run says how far it is.
PROGRESS_EVERY_S: Final = 1.0
#: What shells use for a command that Ctrl-C ended: 128 and the number of SIGINT.
INTERRUPTED_EXIT_CODE: Final = 130


def choice_options(function: F) -> F:
    """Give a command the options that choose letters, and how fast to go through them."""
    for option in (
        click.option("--rate", metavar="N/s", help="With --all: at most so many a second, evenly."),
        click.option("--name", metavar="HANDLER", help="With --all: only those of this handler."),
        click.option("--reason", type=click.Choice(REASONS), help="With --all: only those that died so."),
        click.option("--queue", metavar="NAME", help="With --all: only those of this queue."),
        click.option("--all", "everything", is_flag=True, help="All there are, or all that the options below choose."),
    ):
        function = option(function)
    return function


@click.group
def command() -> None:
    """List, show, edit, retry or drop the jobs that were given up on."""


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
        print_json([dead_item(letter) for letter in letters])
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
        item = dead_item(inspect.dead_letter(broker, job_id))
    if as_json:
        print_json(item)
        return
    item["died_at"] = time_of(item.pop("died_at_ms"))
    if item["args"] is not None:
        del item["raw_base64"]
    print_record(item)


@command.command("edit")
@click.argument("job_id", metavar="ID")
@click.option("--args", "args_json", metavar="JSON", help="Other arguments by position, a JSON array.")
@click.option("--kwargs", "kwargs_json", metavar="JSON", help="Other arguments by name, a JSON object.")
@json_option
@url_option
def edit_dead(job_id: str, args_json: str | None, kwargs_json: str | None, as_json: bool) -> None:
    """Give a dead job other arguments; it stays dead until it is retried.

    What is not given stays as it is. The arguments that died stay in the letter, as `edited`.
    """
    if args_json is None and kwargs_json is None:
        raise click.UsageError("""give --args, --kwargs or both, such as --args '["a.png"]'""")
    with opened_connection() as (settings, connection):
        broker = connection.open()
        try:
            letter = inspect.dead_letter(broker, job_id)
            args, kwargs = arguments_of(letter)
            args = args if args_json is None else json_of("--args", args_json, list)
            kwargs = kwargs if kwargs_json is None else json_of("--kwargs", kwargs_json, dict)
            card = inspect.handlers(broker).get(letter.name)
            if card is not None:
                inspect.check_arguments(letter.name, card, args, kwargs)
            else:
                note = f"no running worker has {letter.name!r}, so its arguments are checked only when one runs it"
                click.echo(f"headrace: {note}", err=True)
            now_ms = time.time_ns() // 1_000_000
            most_bytes = settings.max_payload_bytes
            changed = admin.dead_edit(broker, letter, args, kwargs, now_ms=now_ms, max_payload_bytes=most_bytes)
        finally:
            connection.close()
    if as_json:
        print_json(dead_item(changed))
    else:
        click.echo(f"edited {job_id}; `headrace dead retry {job_id}` runs it")


@command.command("retry")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@choice_options
@json_option
@url_option
def retry_dead(job_ids: tuple[str, ...], everything: bool, as_json: bool, **chosen: str | None) -> None:
    """Queue dead jobs again under their ids, with all their attempts.

    --all goes from new to old. Ctrl-C ends it between two batches; the same command goes on where it stopped.
    """
    _handle("retried", admin.dead_retry, admin.dead_retry_all, job_ids, chosen, everything=everything, as_json=as_json)


@command.command("drop")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@choice_options
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@json_option
@url_option
def drop_dead(job_ids: tuple[str, ...], everything: bool, yes: bool, as_json: bool, **chosen: str | None) -> None:
    """Forget dead letters for good; --all as for retry, and asks first."""

    def dropping(broker: BrokerViews, choice: admin.Choice, pace: admin.Pace) -> admin.Handled:
        if not yes and (question := _question(broker, choice)):
            confirm(question)
        return admin.dead_drop_all(broker, choice, pace)

    _handle("dropped", admin.dead_drop, dropping, job_ids, chosen, everything=everything, as_json=as_json)


def _question(views: BrokerViews, choice: admin.Choice) -> str:
    """Return what is asked before letters are forgotten; empty where there are none to lose."""
    names = views.queue_names() if choice.queue is None else [choice.queue]
    count = sum(view.dead for view in views.queues(names))
    if not count:
        return ""
    where = "" if choice.queue is None else f" of queue {choice.queue!r}"
    said = {"reason": choice.reason, "handler": choice.name}
    only = " and ".join(f"{what} {value!r}" for what, value in said.items() if value is not None)
    which = f"those of {only} among" if only else "all"
    return f"Forget for good {which} {count:,} dead letters{where}?"


def _handle(
    what: str,
    some: Callable[[BrokerViews, tuple[str, ...]], admin.Handled],
    every: Callable[[BrokerViews, admin.Choice, admin.Pace], admin.Handled],
    job_ids: tuple[str, ...],
    chosen: Mapping[str, str | None],
    *,
    everything: bool,
    as_json: bool,
) -> None:
    if everything == bool(job_ids):
        raise click.UsageError("give ids, or --all; `headrace dead list` shows what there is")
    if job_ids and any(chosen.values()):
        raise click.UsageError("--queue, --reason, --name and --rate are for --all; ids are exact already")
    rate_per_s = _rate(chosen.get("rate"))
    progress, patience = _Progress(what), Patience()
    interrupted = False
    with opened_broker() as broker:
        if job_ids:
            handled = some(broker, job_ids)
        else:
            choice = admin.Choice(queue=chosen["queue"], reason=chosen["reason"], name=chosen["name"])
            try:
                with patience.listening():
                    handled = every(broker, choice, admin.Pace(rate_per_s, progress.note, uncut=patience.uncut))
            except KeyboardInterrupt:
                handled, interrupted = admin.Handled(progress.count), True
    _report(what, handled, as_json=as_json)
    if interrupted:
        click.echo("headrace: interrupted; the others are untouched, the same command goes on with them", err=True)
        sys.exit(INTERRUPTED_EXIT_CODE)


class _Progress:
    """Tells on stderr how far it is, now and then."""

    def __init__(self, what: str) -> None:
        self.count = 0
        self._what = what
        self._next_s = time.monotonic() + PROGRESS_EVERY_S

    def note(self, count: int) -> None:
        self.count = count
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + PROGRESS_EVERY_S
            click.echo(f"headrace: {self._what} {count:,} so far", err=True)


def _rate(text: str | None) -> float | None:
    """Return letters a second of "50/s" or "50"; raises a usage error."""
    if text is None:
        return None
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise click.UsageError(f"--rate {text!r}: give a number above 0 of jobs a second, such as 50/s")
    return rate


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
