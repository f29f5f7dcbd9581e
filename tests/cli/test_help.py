"""The help: what it says, and that it costs nothing."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from headrace.engine.cli.app import COMMANDS, command_line

HELP = """\
Usage: headrace [OPTIONS] COMMAND [ARGS]...

  Hand it functions; it runs them on a bounded pool without losing one.

  Exit codes: 0 fine, 1 the job failed, 2 usage or configuration, 3 broker
  unavailable, 4 waited too long. Figures go to stdout, logs and progress to
  stderr.

Options:
  --version   Show the version and exit.
  --url URL   The server; also behind a command.
  -h, --help  Show this message and exit.

Commands:
  demo     Run the main job on real input and show what it did.
  run      Work on the jobs of an engine until told to stop.
  serve    Serve the API, without working on jobs.
  submit   Submit a job by its handler's name, or many from a file.
  stats    Show the figures of all workers and queues.
  jobs     List the jobs that have not ended; show, cancel or retry one.
  queues   List, pause, resume or purge queues.
  workers  List workers, or tell one to be quiet or to stop.
  dead     List, show, retry or drop the jobs that were given up on.
  token    Make a token for the HTTP API.
  config   Show every setting and where it came from.
"""
HEAVY = ("anyio", "asyncio", "litestar", "msgspec", "redis", "rich", "structlog", "trio")


def test_the_help_lists_every_command() -> None:
    """The help is what it was meant to be, word for word."""
    result = CliRunner().invoke(command_line, ["--help"], prog_name="headrace", terminal_width=80)
    assert (0, HELP) == (result.exit_code, result.output)


def test_the_help_imports_nothing_heavy() -> None:
    """`headrace --help` imports no library but click."""
    program = (
        "import sys\n"
        "from headrace.engine.cli.app import command_line\n"
        "try: command_line(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "[]" == ended.stderr.strip()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    """Every row of the table leads to a command that explains itself."""
    result = CliRunner().invoke(command_line, [command, "--help"])
    assert (0, True) == (result.exit_code, f"{command} [" in result.output)


def test_a_misspelt_command_is_guessed() -> None:
    """A command that does not exist is a usage error that names the nearest."""
    result = CliRunner().invoke(command_line, ["sumbit"])
    assert (2, True) == (result.exit_code, "did you mean 'submit'?" in result.output)
