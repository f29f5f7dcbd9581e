"""Asking a person before what cannot be undone is done. The question is on stderr, so that stdout stays a program's.

An answer may come from a pipe, too; where none can come, as from a scheduler, the error says that --yes stands for it.
"""

import sys

import click


def confirm(question: str) -> None:
    """Return once the answer is yes.

    Raises:
        click.Abort: it is no, or a person left the question.
        click.UsageError: nobody is there to answer.
    """
    unasked = click.UsageError("nobody is there to answer; give --yes where it is to be done unasked")
    if sys.stdin is None:
        raise unasked
    try:
        is_confirmed = click.confirm(question, err=True)
    except click.Abort as left:
        # click makes one error of a Ctrl-C and of an input that ended, which its context tells apart.
        if sys.stdin.isatty() or not isinstance(left.__context__, EOFError):
            raise
        click.echo(err=True)  # the question stands there without an answer
        raise unasked from None
    if not is_confirmed:
        raise click.Abort
