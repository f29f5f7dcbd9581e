"""Signals and empty queues, which ask a worker to end; and the lifespan around it, whose failure is named.

SIGTERM and SIGINT ask for an end in order, a second one for an end at once; a burst ends when its queues are empty.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.abc

from headrace.config.errors import ConfigError, HeadraceError
from headrace.config.logs import logger

from .loops.stop import Stop

log = logger("headrace.lifecycle")


async def stop_on_signals(stop: Stop, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """Turn signals into calls of `stop` until cancelled; in the main thread only.

    Only signals count: a worker that ends in order for another reason is not hurried by the first of them, as where a
    service's whole group is signalled and its supervisor passes the same request on.
    """
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        urgent = False
        async for number in signals:
            log.info("signal", name=signal.Signals(number).name, then="stop at once" if urgent else "drain")
            if urgent:
                stop.now()
            else:
                stop.quiet()
            urgent = True


async def stop_when_empty(stop: Stop, is_empty: Callable[[], Awaitable[bool]], every_s: float = 0.05) -> None:
    """Ask for an end once `is_empty` says so twice in a row, since a job may be between two places when it looks."""
    seen = 0
    while not stop.requested:
        seen = seen + 1 if await is_empty() else 0
        if seen >= 2:
            stop.quiet()
            return
        await anyio.sleep(every_s)


@asynccontextmanager
async def named_lifespan(lifespan: AbstractAsyncContextManager[Any], name: str) -> AsyncIterator[Any]:
    """Enter a lifespan; what it raises of itself, and not what is raised inside it, becomes an error that names it.

    Raises:
        ConfigError: it raised while it opened or closed what handlers share.
        HeadraceError: it raised this.
    """
    with _naming(name, "before any job was run"):
        state = await lifespan.__aenter__()
    try:
        yield state
    except BaseException as error:
        # What came from inside and went through is the worker's own; the lifespan hands it on as it is.
        if not await lifespan.__aexit__(type(error), error, error.__traceback__):
            raise
    else:
        with _naming(name, "when the worker had ended"):
            await lifespan.__aexit__(None, None, None)


@contextmanager
def _naming(name: str, when: str) -> Iterator[None]:
    try:
        yield
    except HeadraceError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ConfigError(
            f"the lifespan {name} raised {said}, {when}; mend what it opens or closes; HEADRACE_LOG_LEVEL=debug shows "
            "the traceback"
        ) from error
