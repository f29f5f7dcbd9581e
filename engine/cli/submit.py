"""`headrace submit`: one job by its handler's name, or many from a file; waits for the result where told to.

The last line of stdout is the id, with --wait the result as JSON, with --batch the summary. Names and arguments are
checked against what the workers publish; without any worker there is nothing to check against, and stderr says so.
"""

import click

from headrace.jobs import codec
from headrace.jobs.errors import WaitTimeout
from headrace.jobs.results import unwrap
from headrace.jobs.submission import submit_options

from .. import inspect
from ..packing import bound_of, submission_of
from ..results import wait_blocking
from ..synchronous import SyncClient
from .arguments import json_of
from .opening import opened_connection
from .options import url_option
from .output import print_json


@click.command
@click.argument("name", required=False)
@click.option("--args", "args_json", metavar="JSON", help="Arguments by position, a JSON array.")
@click.option("--kwargs", "kwargs_json", metavar="JSON", help="Arguments by name, a JSON object.")
@click.option("--queue", metavar="NAME", help="Where to; without it, where the handler's worker says, else default.")
@click.option("--delay", metavar="S", help="Seconds until it is due, or 250ms, 10s, 5m, 1h.")
@click.option("--id", "own_id", metavar="ID", help="Your own id for the job; a second one of that id is refused.")
@click.option("--wait", metavar="S", help="Wait so long for the result and print it as JSON.")
@click.option(
    "--batch", metavar="FILE", help='Submit each line of a file, or of "-": {"name", "args", "kwargs", "queue"}.'
)
@click.option("--allow-unknown", is_flag=True, help="Accept names that no running worker knows.")
@url_option
def command(
    name: str | None,
    args_json: str | None,
    kwargs_json: str | None,
    queue: str | None,
    delay: str | None,
    own_id: str | None,
    wait: str | None,
    batch: str | None,
    allow_unknown: bool,
) -> None:
    """Submit a job by its handler's name, or one for each line of a file.

    Prints the id, or with --wait the result as JSON, as the last line. Exit code 1 when the job failed, 4 when it had
    not ended in time; then the job goes on, and the id is printed.
    """
    if batch is not None:
        if name is not None or any(given is not None for given in (args_json, kwargs_json, delay, own_id, wait)):
            raise click.UsageError(
                "--batch takes names and arguments from its lines; leave out NAME, --args, --kwargs, --delay, --id "
                "and --wait"
            )
        from .batch import submit_file

        submit_file(batch, queue, allow_unknown=allow_unknown)
        return
    if name is None:
        raise click.UsageError("name the handler: headrace submit NAME --args '[1, 2]', or give --batch FILE")
    args, kwargs = json_of("--args", args_json, list), json_of("--kwargs", kwargs_json, dict)
    options = submit_options(queue=queue, delay=delay, id=own_id)
    wait_s = None if wait is None else submit_options(wait_timeout=wait).wait_timeout_s
    with opened_connection() as (settings, connection):
        client = SyncClient(connection, bound_of(settings), settings.on_full)
        broker = client.broker()
        card = inspect.handlers(broker).get(name) if allow_unknown else inspect.check_known(broker, name)
        if card is not None:
            inspect.check_arguments(name, card, args, kwargs)
        elif not allow_unknown:
            note = f"headrace: no worker is running, so {name!r} and its arguments are checked only when one is"
            click.echo(note, err=True)
        call, rule = codec.pack_call(name, args, kwargs), card.rule if card is not None else None
        submission = submission_of(name, call, options, settings.max_payload_bytes, rule)
        job_id = client.submit(options.queue or (card.queue if card else "default"), [submission], options)[0]
        if wait_s is None:
            click.echo(job_id)
            return
        click.echo(f"headrace: submitted {job_id}", err=True)
        try:
            record = wait_blocking(broker, job_id, wait_s)
        except WaitTimeout:
            click.echo(job_id)
            raise
        print_json(unwrap(job_id, record))
