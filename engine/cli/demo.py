"""`headrace demo`: the engine's main job on real input, with a progress bar and every job accounted for.

Figures go to stdout, everything else to stderr. It exits with 0 only if no job failed and none was lost.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from .options import given_url, json_option


@click.command("demo")
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Index every *.py file below this folder instead of Python's own library.",
)
@click.option("--loop", type=click.Choice(["asyncio", "uvloop", "trio"]), help="The event loop.  [default: asyncio]")
@json_option
@click.pass_context
def command(context: click.Context, path: Path | None, loop: str | None, *, as_json: bool) -> None:
    """Index the source files of Python's own library, one job a file.

    Starts a private server, works with one process a core, checks that every file has its result and its line in the
    outcome log, prints the figures, and leaves nothing behind but that log. Your own queues are never touched.
    """
    from ..demo import corpus, page, run

    files = corpus.standard_library() if path is None else corpus.folder(path)
    for sentence in files.left_out:
        click.echo(f"headrace: left out: {page.shown(sentence)}", err=True)
    with _progress(len(files.paths)) as show:
        finished = run.run(files, loop, show, url=given_url())
    summary, setting = finished.summary, finished.setting
    click.echo(page.document(summary, setting.outcome_log) if as_json else page.render(summary, setting))
    if summary.lost or summary.failed:
        click.echo(
            f"headrace: {summary.lost:,} jobs were lost and {summary.failed:,} failed, of {summary.files:,}; "
            f"{setting.outcome_log} has what is known of each",
            err=True,
        )
        context.exit(1)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar where stderr is a terminal, else one line, from the first that is heard of any progress."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console)
    row = bar.add_task("", total=total)
    begun = False

    def show(done: int) -> None:
        nonlocal begun
        if not begun:
            begun = True
            if console.is_terminal:
                bar.start()
            else:
                click.echo(f"headrace: indexing {total:,} files", err=True)
        bar.update(row, completed=done)

    try:
        yield show
    finally:
        if begun and console.is_terminal:  # else it would print an empty line
            bar.stop()
