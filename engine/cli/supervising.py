"""From the options of `headrace run` to the children that a supervisor keeps: workers, and the API beside them.

With an embedded server, the supervisor holds it open for as long as it lives, so a child's death never stops it.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Final

import anyio

from headrace.config.logs import logger
from headrace.config.settings import Settings

from ..runtime import Engine
from ..supervisor.keeping import Supervisor
from ..supervisor.policy import ChildPlan
from .options import given_url

log = logger("headrace.supervisor")

#: What a worker may take beyond its drain: interrupted jobs go back, and the process ends.
_BEYOND_DRAIN_S: Final = 15.0
#: An option and its value; True for a flag, a list for one that is repeated, None for one that was not given.
Options = Mapping[str, str | list[str] | bool | None]


def supervise(target: str, engine: Engine, options: Options, http: Mapping[str, str] | None) -> int:
    """Keep workers, and the API where asked for, until they are told to stop; return the exit code.

    Args:
        target: MODULE:ENGINE.
        engine: The engine, configured; only its settings are used here.
        options: What each worker's command is given.
        http: Where the API is served; None for nowhere.

    Raises:
        ConfigError: the embedded server's place is wrong.
        BrokerUnavailable: the embedded server does not come up.
    """
    settings = engine.settings
    plans = [*_workers(target, settings, options)]
    if http is not None:
        place = f"{_bracketed(settings.http.host)}:{settings.http.port}"
        plans.append(ChildPlan("http", "http", (*_headrace("serve"), *_url(), "--http", place, target)))
    with ExitStack() as stack:
        if settings.url is None or settings.url.startswith("embedded:"):
            engine.connection.open()
            stack.callback(engine.connection.close)
        patience_s = settings.drain_timeout_s + _BEYOND_DRAIN_S
        supervisor = Supervisor(plans, burst=bool(options.get("--burst")), patience_s=patience_s)
        log.info("supervising", workers=settings.processes, http=http is not None)
        return anyio.run(supervisor.run)


def _workers(target: str, settings: Settings, options: Options) -> Iterator[ChildPlan]:
    given = [*_words(options), *_url(), "--processes", "1"]
    for number in range(1, settings.processes + 1):
        log_outcomes = settings.log_outcomes
        if log_outcomes is not None and settings.processes > 1:
            log_outcomes = f"{log_outcomes}.{number}"  # one writer to a file
        outcomes = () if log_outcomes is None else ("--log-outcomes", log_outcomes)
        yield ChildPlan(f"worker {number}", "worker", (*_headrace("run"), *given, *outcomes, target))


def _headrace(command: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "headrace", command)


def _url() -> tuple[str, ...]:
    url = given_url()
    return () if url is None else ("--url", url)


def _words(options: Options) -> Iterator[str]:
    for option, value in options.items():
        if value is True:
            yield option
        elif isinstance(value, str):
            yield from (option, value)
        elif isinstance(value, list):
            for item in value:
                yield from (option, item)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
