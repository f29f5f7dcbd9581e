"""`headrace queues`: the queues that ever had a job, and how full they are.

It only looks; what is shown is made in inspect, as for the API.
"""

import click

from .. import inspect
from .opening import opened_broker
from .options import json_option, url_option
from .output import print_json, print_table


@click.group
def command() -> None:
    """List the queues and how full they are."""


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
    columns = ("queue", "queued", "running", "delayed", "dead", "oldest s", "workers")
    print_table(
        columns,
        [
            (view.name, view.queued, view.running, view.delayed, view.dead, f"{view.oldest_age_s:.1f}", view.workers)
            for view in views
        ],
    )
