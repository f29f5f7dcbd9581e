"""From an error to what people see: one message on stderr and an exit code; a traceback only at log_level debug.

Errors that are neither headrace's nor about a named file are defects and keep their traceback: None is returned.
"""

import os
import traceback
from typing import IO, Any

import click

from headrace.config.errors import HeadraceError

from .opening import DEBUG

_BAD_FILE_EXIT_CODE = 2


class Failure(click.ClickException):
    """A failed command: its message and its exit code."""

    def __init__(self, message: str, exit_code: int, *, with_traceback: bool) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance
        self._with_traceback = with_traceback

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message to stderr; at log_level debug the traceback before it."""
        if self._with_traceback and self.__cause__ is not None:
            click.echo("".join(traceback.format_exception(self.__cause__)), err=True, nl=False)
        click.echo(f"headrace: {self.message}", file=file, err=file is None)


def failure_of(error: Exception, ctx: click.Context) -> Failure | None:
    """Return what to show for an error; None for a defect."""
    cause = _cause(error)
    debug = bool(ctx.meta.get(DEBUG)) or os.environ.get("HEADRACE_LOG_LEVEL") == "debug"
    if isinstance(cause, HeadraceError):
        return Failure(str(cause), cause.exit_code, with_traceback=debug)
    if isinstance(cause, OSError) and cause.filename and not isinstance(cause, ConnectionError):
        what = f"{cause.filename}: {cause.strerror}; mend the path or its permissions, or name another"
        return Failure(what, _BAD_FILE_EXIT_CODE, with_traceback=debug)
    if _is_unwritten(cause):
        return Failure(str(cause), _BAD_FILE_EXIT_CODE, with_traceback=debug)
    return None


def _is_unwritten(error: BaseException) -> bool:
    """Return whether outcomes were left unwritten at the end, as on a full disk.

    The waits of an event loop time out without a word, and the system's have a number; only sinks say what is missing.
    """
    return type(error) is TimeoutError and error.errno is None and bool(str(error))


def _cause(error: BaseException) -> BaseException:
    """Return the one error in groups around it; of several of headrace's own, the first."""
    while isinstance(error, BaseExceptionGroup):
        inner = [_cause(found) for found in error.exceptions]
        if len(inner) > 1 and not all(isinstance(found, HeadraceError) or _is_unwritten(found) for found in inner):
            return error
        error = inner[0]
    return error
