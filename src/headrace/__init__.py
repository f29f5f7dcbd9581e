"""headrace: an event-driven job engine. Hand it functions; it runs them on a bounded pool without losing one.

The public names, and nothing else. They are imported when first used, so that child processes and the command line pay
only for what they need.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.config.errors import ConfigError, HeadraceError
    from headrace.engine.gathering import JobResult
    from headrace.engine.handlers import Handlers
    from headrace.engine.handles import JobHandle
    from headrace.engine.loops.dispatcher import Dispatcher
    from headrace.engine.loops.ticket import Ticket
    from headrace.engine.remote.awaiting import AsyncClient
    from headrace.engine.remote.blocking import Client
    from headrace.engine.remote.replies import BatchRejected
    from headrace.engine.runtime import Engine
    from headrace.engine.sinks.file import FileSink
    from headrace.engine.sinks.redis import RedisSink
    from headrace.jobs.errors import (
        BrokerUnavailable,
        DuplicateJob,
        FailJob,
        InvalidArguments,
        JobCancelled,
        JobCrashed,
        JobExpired,
        JobFailed,
        JobNotFound,
        JobTimedOut,
        PayloadTooLarge,
        QueueFull,
        ResultUnavailable,
        RetryJob,
        UnknownHandler,
        WaitTimeout,
    )
    from headrace.jobs.retry import Retry
    from headrace.jobs.unique import Unique
    from headrace.workers.context import Context

    __version__: str

_PLACES = {
    "headrace.config.errors": ("ConfigError", "HeadraceError"),
    "headrace.engine.gathering": ("JobResult",),
    "headrace.engine.handlers": ("Handlers",),
    "headrace.engine.handles": ("JobHandle",),
    "headrace.engine.loops.dispatcher": ("Dispatcher",),
    "headrace.engine.loops.ticket": ("Ticket",),
    "headrace.engine.remote.awaiting": ("AsyncClient",),
    "headrace.engine.remote.blocking": ("Client",),
    "headrace.engine.remote.replies": ("BatchRejected",),
    "headrace.engine.runtime": ("Engine",),
    "headrace.engine.sinks.file": ("FileSink",),
    "headrace.engine.sinks.redis": ("RedisSink",),
    "headrace.engine.version": ("__version__",),
    "headrace.jobs.errors": (
        "BrokerUnavailable",
        "DuplicateJob",
        "FailJob",
        "InvalidArguments",
        "JobCancelled",
        "JobCrashed",
        "JobExpired",
        "JobFailed",
        "JobNotFound",
        "JobTimedOut",
        "PayloadTooLarge",
        "QueueFull",
        "ResultUnavailable",
        "RetryJob",
        "UnknownHandler",
        "WaitTimeout",
    ),
    "headrace.jobs.retry": ("Retry",),
    "headrace.jobs.unique": ("Unique",),
    "headrace.workers.context": ("Context",),
}
_CALLED_THERE = {"__version__": "VERSION"}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "AsyncClient",
    "BatchRejected",
    "BrokerUnavailable",
    "Client",
    "ConfigError",
    "Context",
    "Dispatcher",
    "DuplicateJob",
    "Engine",
    "FailJob",
    "FileSink",
    "Handlers",
    "HeadraceError",
    "InvalidArguments",
    "JobCancelled",
    "JobCrashed",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "JobResult",
    "JobTimedOut",
    "PayloadTooLarge",
    "QueueFull",
    "RedisSink",
    "ResultUnavailable",
    "Retry",
    "RetryJob",
    "Ticket",
    "Unique",
    "UnknownHandler",
    "WaitTimeout",
]


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(module), _CALLED_THERE.get(name, name))
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
