"""Logging: structured lines on stderr, the same for headrace, for handlers, and for libraries that use stdlib logging.

`logger` is for every module of headrace: it speaks through stdlib logging, so an application that embeds headrace
keeps its own set-up, and nothing reaches stdout. `configure` takes over the process's root logger and structlog's
defaults; only the command line calls it, at its start. Calling it again replaces what it set before and nothing else.
"""

import logging
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger
    from structlog.typing import EventDict, Processor, WrappedLogger

    from .settings import LogFormat, LogLevel


class _Handler(logging.StreamHandler[TextIO]):
    """The handler that `configure` puts on the root logger; its class tells it from everybody else's."""


class _Event(dict[str, Any]):
    """An event as a log record's message: values for structlog's formatter, one line of text for any other."""

    def __str__(self) -> str:
        pairs = (f"{key}={value!r}" for key, value in self.items() if key not in _NOT_IN_TEXT)
        return " ".join([str(self.get("event", "")), *pairs]).strip()


#: Keys of an event that are not repeated as key=value: the text itself, and what stdlib logging prints by itself.
_NOT_IN_TEXT: Final = frozenset({"event", "exc_info", "stack_info"})


def configure(log_level: "LogLevel", log_format: "LogFormat", stream: TextIO | None = None) -> None:
    """Send all logging of this process to one stream in one format; for a process that headrace owns.

    Args:
        log_level: Least severe message that is written.
        log_format: "console" for people, "json" for one JSON object a line, with ISO timestamps in UTC.
        stream: Where to write; None is stderr.
    """
    import structlog

    target = sys.stderr if stream is None else stream
    handler = _Handler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format, target),
            ],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(log_level.upper())
    logging.captureWarnings(True)  # a warning in plain text would break a stream of JSON lines
    structlog.configure(
        processors=_processors(),
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a cached logger would keep an earlier configuration
    )


def logger(name: str) -> "BoundLogger":
    """Return a structured logger on top of the stdlib logger of that name.

    Where `configure` was called, its lines look as all others do. Where headrace is embedded, they reach the
    application's own handlers, as values if those format with structlog, else as "event key=value" text.

    Args:
        name: The module's name, such as "headrace.engine.broker".
    """
    import structlog

    bound: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name), processors=_processors(), wrapper_class=structlog.stdlib.BoundLogger
    )
    return bound


def _processors() -> "list[Processor]":
    import structlog

    return [
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
        _hand_over,
    ]


def _hand_over(wrapped: "WrappedLogger", method: str, event: "EventDict") -> Any:
    """End the processors: hand the event to stdlib logging in a form that every formatter can print."""
    import structlog

    args, options = structlog.stdlib.ProcessorFormatter.wrap_for_formatter(wrapped, method, _Event(event))
    # structlog's formatter takes exc_info from the event, every other from the record.
    return args, {**options, "exc_info": event.get("exc_info")}


def _renderers(log_format: "LogFormat", stream: TextIO) -> "list[Processor]":
    import structlog

    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain tracebacks: the rich ones print local variables, which is where jobs' arguments and passwords are.
    return [
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    ]
