"""`headrace jobs`: the jobs that have not ended, what is known of one with its result or error; cancel or retry one.

What is shown is made in inspect and what is done in admin, as for the API.
"""

import sys

import click

from headrace.jobs.states import ENDED, State

from .. import admin, inspect
from ..broker.control import cancel_one
from .opening import opened_broker
from .options import json_option, limit_option, url_option
from .output import print_json, print_record, print_table, time_of


@click.group
def command() -> None:
    """List the jobs that have not ended; show, cancel or retry one."""


@command.command("list")
@click.option("--queue", metavar="NAME", help="Only those of this queue.")
@click.option("--status", type=click.Choice([state.value for state in State if state not in ENDED]), help="Only those.")
@limit_option
@json_option
@url_option
def list_jobs(queue: str | None, status: str | None, limit: int, cursor: str, as_json: bool) -> None:
    """List jobs that have not ended, the oldest first in each queue."""
    with opened_broker() as broker:
        views, after = inspect.jobs(broker, queue, State(status) if status else None, cursor, limit)
    records = [inspect.job_record(view) for view in views]
    if as_json:
        print_json(records)
    else:
        columns = ("id", "name", "status", "attempts", "submitted", "due")
        print_table(
            columns,
            [
                (
                    record["id"], record["name"], record["status"], record["attempts"],
                    time_of(record["submitted_at_ms"]), time_of(record["due_at_ms"]),
                )
                for record in records
            ],
        )  # fmt: skip
    if after:
        click.echo(f"headrace: there are more; go on with --cursor '{after}'", err=True)


@command.command("show")
@click.argument("job_id", metavar="ID")
@click.option("--arguments", is_flag=True, help="With args and kwargs, while they are kept.")
@json_option
@url_option
def show_job(job_id: str, arguments: bool, as_json: bool) -> None:
    """Show what is known of a job, with its result or error once it has ended."""
    with opened_broker() as broker:
        record = inspect.job(broker, job_id, with_result=True, with_arguments=arguments)
    if as_json:
        print_json(record)
        return
    error = record.pop("error", None)
    for name in [name for name in record if name.endswith("_at_ms")]:
        record[name.removesuffix("_ms")] = time_of(record.pop(name))
    print_record({**record, **({f"error {name}": value for name, value in error.items()} if error else {})})


@command.command("cancel")
@click.argument("job_id", metavar="ID")
@json_option
@url_option
def cancel_job(job_id: str, as_json: bool) -> None:
    """Cancel a job: one that waits ends at once, one that runs is told to stop. Exits 1 when it has ended already."""
    with opened_broker() as broker:
        cancelled = cancel_one(broker, job_id)
    if as_json:
        print_json({"id": job_id, "cancelled": cancelled})
    elif cancelled:
        click.echo(f"cancelled {job_id}")
    if not cancelled:
        click.echo(f"headrace: {job_id} has ended already; `headrace jobs show {job_id}` says how", err=True)
        sys.exit(1)


@command.command("retry")
@click.argument("job_id", metavar="ID")
@json_option
@url_option
def retry_job(job_id: str, as_json: bool) -> None:
    """Queue a dead job again under its id, with all its attempts. Exits 1 when it is not dead."""
    with opened_broker() as broker:
        retried = not admin.dead_retry(broker, [job_id]).missing
        status = "queued" if retried else inspect.job(broker, job_id)["status"]
    if as_json:
        print_json({"id": job_id, "retried": retried, "status": status})
    elif retried:
        click.echo(f"queued {job_id} again")
    if not retried:
        click.echo(f"headrace: {job_id} is {status}; only dead jobs can be retried: submit it anew", err=True)
        sys.exit(1)
