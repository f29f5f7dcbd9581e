"""The command line's front: the table of commands, and what becomes of their errors.

A command's module is imported when that command is called; `headrace --help` reads the table alone, so it imports click
and nothing else. Errors of headrace end as one message on stderr and the exit code that their class carries.
"""

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from .options import note_url

#: command -> (where it is, its line in the help). The modules are imported at the call, never for the help.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("headrace.engine.cli.demo:command", "Run the main job on real input and show what it did."),
    "run": ("headrace.engine.cli.run:command", "Work on the jobs of an engine until told to stop."),
    "serve": ("headrace.engine.cli.serve:command", "Serve the API, without working on jobs."),
    "submit": ("headrace.engine.cli.submit:command", "Submit a job by its handler's name, or many from a file."),
    "stats": ("headrace.engine.cli.stats:command", "Show the figures of all workers and queues."),
    "jobs": ("headrace.engine.cli.jobs:command", "List the jobs that have not ended; show, cancel or retry one."),
    "queues": ("headrace.engine.cli.queues:command", "List, pause, resume or purge queues."),
    "workers": ("headrace.engine.cli.workers:command", "List workers, or tell one to be quiet or to stop."),
    "dead": ("headrace.engine.cli.dead:command", "List, show, retry or drop the jobs that were given up on."),
    "token": ("headrace.engine.cli.token:command", "Make a token for the HTTP API."),
    "config": ("headrace.engine.cli.config:command", "Show every setting and where it came from."),
}
EXIT_INTERRUPTED: Final = 130  # what shells report for Ctrl-C: 128 + SIGINT


class CommandLine(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the commands in the table's order."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        import importlib

        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        command.help = command.help or COMMANDS[cmd_name][1]
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a misspelt one, name the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "`headrace --help` lists the commands"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn headrace's errors into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from .failing import failure_of

            failure = failure_of(error, ctx)
            if failure is None:
                raise
            raise failure from error


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="headrace", message="%(prog)s %(version)s")
@click.option("--url", metavar="URL", expose_value=False, callback=note_url, help="The server; also behind a command.")
def command_line() -> None:
    """Hand it functions; it runs them on a bounded pool without losing one.

    Exit codes: 0 fine, 1 the job failed, 2 usage or configuration, 3 broker unavailable, 4 waited too long. Figures go
    to stdout, logs and progress to stderr.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code, also where a thread will not end."""
    from .leaving import leave

    try:
        command_line(args, prog_name="headrace")
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else int(end.code is not None))
    raise AssertionError("click ends with SystemExit")
