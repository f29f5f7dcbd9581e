"""`headrace workers`: the workers that are there, what they can run and do; telling one to be quiet or to stop.

What is shown is made in inspect and what is done in admin, as for the API.
"""

import sys

import click

from .. import admin, inspect
from ..broker.control import QUIET, STOP
from .opening import opened_broker
from .options import json_option, url_option
from .output import print_json, print_table, time_of


@click.group
def command() -> None:
    """List workers, or tell one to be quiet or to stop."""


@command.command("list")
@json_option
@url_option
def list_workers(as_json: bool) -> None:
    """List the workers that are there."""
    with opened_broker() as broker:
        views = inspect.worker_views(broker)
    if as_json:
        print_json(views)
        return
    columns = ("id", "state", "queues", "busy", "slots", "stuck", "handlers", "version", "started")
    print_table(
        columns,
        [
            (
                view.id, view.state, ",".join(view.queues), sum(pool.busy for pool in view.runners.values()),
                sum(pool.slots for pool in view.runners.values()), len(view.stuck), len(view.handlers), view.version,
                time_of(view.started_at_ms),
            )
            for view in views
        ],
    )  # fmt: skip


@command.command("quiet")
@click.argument("worker", metavar="ID")
@json_option
@url_option
def quiet_worker(worker: str, as_json: bool) -> None:
    """Have a worker fetch no more; what it runs goes on, and it stays until it is stopped."""
    _tell(worker, QUIET, "quiet", as_json=as_json)


@command.command("stop")
@click.argument("worker", metavar="ID")
@json_option
@url_option
def stop_worker(worker: str, as_json: bool) -> None:
    """Have a worker drain and end, as SIGTERM does; a supervisor starts another in its place."""
    _tell(worker, STOP, "stopping", as_json=as_json)


def _tell(worker: str, word: str, done: str, *, as_json: bool) -> None:
    with opened_broker() as broker:
        record = inspect.worker(broker, worker)
        obeys = admin.tell_worker(broker, record, word)
    if as_json:
        print_json({"id": record.worker, "obeys": obeys})
    elif obeys:
        click.echo(f"{done} {record.worker}")
    if not obeys:
        click.echo(
            f"headrace: {record.worker} shows no sign of having heard; is its loop held up? `headrace workers list`",
            err=True,
        )
        sys.exit(1)
