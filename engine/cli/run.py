"""`headrace run`: works on the jobs of an engine, in this process or in several under a supervisor.

A drained SIGTERM or SIGINT exits 0, a second one hurries. The API of --http is a process beside the workers, never in
theirs, so requests and jobs share no loop.
"""

import gc
import importlib.util
import signal
import sys
from functools import partial
from typing import Any, Final

import anyio
import click

from headrace.config.errors import ConfigError
from headrace.config.logs import configure
from headrace.config.settings import Settings
from headrace.jobs.ids import check_queue

from ..loops.stop import Stop
from ..runtime import Engine
from ..supervisor.leash import Leash
from .finding import find_engine
from .opening import note_log_level, refuse_memory
from .options import given_url, url_option
from .places import parse_place

_BACKENDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
#: What follows the end of a drain: interrupted jobs go back and are settled, each within five seconds.
_AFTER_DRAIN_S: Final = 12.0


@click.command
@click.argument("target", metavar="MODULE:ENGINE")
@click.option(
    "--queue",
    "queues",
    metavar="NAME[=WEIGHT]",
    multiple=True,
    help="A queue to read, as often as wanted; without it default and every queue that a handler names.",
)
@click.option("--slots", metavar="N", help="Async handlers at a time.")
@click.option("--processes", metavar="N", help="Workers, each a process with slots of its own.")
@click.option("--loop", type=click.Choice(list(_BACKENDS)), help="The event loop.")
@click.option("--burst", is_flag=True, help="Exit when the queues are empty.")
@click.option("--http", metavar="HOST:PORT", callback=parse_place, help="Serve the API beside the workers.")
@click.option("--log-outcomes", metavar="PATH", help="A JSON line for each job that ended; PATH.1, PATH.2 for several.")
@click.option("--drain-timeout", metavar="S", help="How long running jobs may go on after a signal to stop.")
@click.option("--leash", type=int, hidden=True)
@url_option
def command(
    target: str,
    queues: tuple[str, ...],
    burst: bool,
    http: dict[str, str] | None,
    leash: int | None,
    **flags: str | None,
) -> None:
    """Work on the jobs of an engine until told to stop.

    MODULE is imported with the working folder first on sys.path, or is the path of a .py file. SIGTERM or Ctrl-C lets
    running jobs end; a second one stops at once.
    """  # fmt: skip
    held = Leash(leash) if leash is not None else None
    weights = _weights(queues)
    engine = find_engine(target)
    engine.configure(url=given_url(), http=http, **flags)
    settings = engine.settings
    engine.connection.is_told = held is not None  # by its supervisor
    note_log_level(settings)
    configure(settings.log_level, settings.log_format)
    _check_loop(settings)
    if held is None and not any(True for _ in engine.registry):
        click.echo(
            f"headrace: {target} has no handlers, so its worker can run no job: declare them on this engine, include "
            "those of other modules, or name another engine",
            err=True,
        )
    if held is None and (settings.processes > 1 or http is not None):
        refuse_memory(settings.url, "the workers and the API would be processes of their own")
        if http is not None:
            from ..http.serve import check_servable

            check_servable(settings)  # here, for the workers would run on beside an API that never comes up
        from .supervising import supervise

        options = {"--queue": list(queues), "--slots": flags["slots"], "--loop": flags["loop"],
                   "--drain-timeout": flags["drain_timeout"], "--burst": burst}  # fmt: skip
        sys.exit(supervise(target, engine, options, http))
    backend, backend_options = _BACKENDS[settings.loop]
    work = partial(_work, engine, weights, held, burst=burst)
    anyio.run(work, backend=backend, backend_options=backend_options)


async def _work(engine: Engine, weights: dict[str, int] | None, held: Leash | None, *, burst: bool) -> None:
    # What is loaded by now stays. A full collection would look through all of it: 50 to 80 ms, measured with trio, in
    # which no job runs and no timeout is kept.
    gc.collect()
    gc.freeze()
    stop = Stop()
    if held is not None:
        held.attach(stop, patience_s=engine.settings.drain_timeout_s + _AFTER_DRAIN_S)
    await engine.run(queues=weights, burst=burst, stop=stop)
    # It has drained: a further signal, which an impatient person sends, has nothing left to hurry.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _weights(queues: tuple[str, ...]) -> dict[str, int] | None:
    """Return queue -> weight; None where none was named.

    Raises:
        InvalidArguments: a name cannot be a queue's.
    """
    weights: dict[str, int] = {}
    for item in queues:
        name, equals, weight = item.partition("=")
        if equals and not (weight.isdecimal() and int(weight) > 0):
            raise click.BadParameter(
                f"{item!r}: a weight is a whole number from 1 on, as in images=3", param_hint="--queue"
            )
        weights[check_queue(name)] = int(weight) if equals else 1
    return weights or None


def _check_loop(settings: Settings) -> None:
    if settings.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise ConfigError("loop is uvloop, which is not installed: pip install 'headrace[uvloop]', or --loop asyncio")
