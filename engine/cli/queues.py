"""`headrace queues`: the queues that ever had a job, how full they are; pausing, resuming and emptying them.

What is shown is made in inspect and what is done in admin, as for the API. Purging asks first.
"""

import click

from .. import admin, inspect
from .asking import confirm
from .opening import opened_broker
from .options import json_option, url_option
from .output import print_json, print_table


@click.group
def command() -> None:
    """List, pause, resume or purge queues."""


@command.command("list")
@json_option
@url_option
def list_queues(as_json: bool) -> None:
    """List the queues that ever had a job."""
    with opened_broker() as broker:
        views = inspect.queues(broker)
    if as_json:
        print_json(views)
        return
    columns = ("queue", "queued", "running", "delayed", "dead", "oldest s", "workers", "paused")
    print_table(
        columns,
        [
            (
                view.name, view.queued, view.running, view.delayed, view.dead, f"{view.oldest_age_s:.1f}", view.workers,
                "paused" if view.paused else None,
            )
            for view in views
        ],
    )  # fmt: skip


@command.command("pause")
@click.argument("queue")
@json_option
@url_option
def pause_queue(queue: str, as_json: bool) -> None:
    """Have workers leave a queue alone; what runs goes on, and jobs may be submitted."""
    with opened_broker() as broker:
        view = admin.pause(broker, queue)
    if as_json:
        print_json(view)
    else:
        click.echo(f"paused {queue}: {view.queued:,} queued, {view.running:,} running")
    _note_unknown(view, f"it stays paused for jobs to come, until `headrace queues resume {queue}`")


@command.command("resume")
@click.argument("queue")
@json_option
@url_option
def resume_queue(queue: str, as_json: bool) -> None:
    """Have workers take jobs of a queue again."""
    with opened_broker() as broker:
        view = admin.resume(broker, queue)
    if as_json:
        print_json(view)
    else:
        click.echo(f"resumed {queue}: {view.queued:,} queued")
    _note_unknown(view, "it is not paused now; `headrace queues list` shows those that are")


@command.command("purge")
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@url_option
def purge_queue(queue: str, yes: bool, as_json: bool) -> None:
    """End the jobs of a queue that wait, as cancelled; what runs goes on."""
    with opened_broker() as broker:
        if not yes:
            view = broker.queues([queue])[0]
            confirm(f"End {view.queued:,} queued and {view.delayed:,} delayed jobs of {queue!r}?")
        done = admin.purge(broker, queue)
    if as_json:
        print_json(done)
    else:
        click.echo(f"purged {done.purged:,}")


def _note_unknown(view: admin.SwitchedQueue, what: str) -> None:
    """Say on stderr that nobody used the queue, as where its name is misspelt."""
    if not view.known:
        near = f"; did you mean {' or '.join(repr(name) for name in view.similar)}?" if view.similar else ""
        click.echo(
            f"headrace: no job, worker or handler has used the queue {view.name!r} so far{near} ({what})", err=True
        )
