"""The settings as one frozen record, each field beside its name, kind, description and bounds.

To add a setting, add one field here and its default and bounds in headrace.config.limits: the sources, `config show`
and docs/configuration.md follow. The record holds values that were checked already; it reads no file and no variable.
"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Final, Literal, get_type_hints

import msgspec

from . import limits
from .declaration import Setting, Value, choice, count, duration, size, string
from .tokens import Token

Loop = Literal["asyncio", "uvloop", "trio"]
OnFull = Literal["reject", "wait"]
Fsync = Literal["never", "interval", "always"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["console", "json"]


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Section `http`: the API."""

    host: Annotated[str, string("http.host", "Address that the API binds to.", pattern=r"[^\s/]+")] = limits.HTTP_HOST
    port: Annotated[int, count("http.port", "Port of the API; 0 takes any free one.", 0, limits.PORT_MAX)] = (
        limits.HTTP_PORT
    )
    body_max_bytes: Annotated[
        int,
        size(
            "http.body_max",
            "Largest request body, but for a batch.",
            limits.MESSAGE_MIN_BYTES,
            limits.HTTP_BODY_BOUND_BYTES,
        ),
    ] = limits.HTTP_BODY_MAX_BYTES
    body_timeout_s: Annotated[
        float,
        duration(
            "http.body_timeout",
            "How long a client may keep the server waiting for its body, beside what 500 bytes a second take.",
            limits.HTTP_TIMEOUT_MIN_S,
            limits.HTTP_TIMEOUT_MAX_S,
        ),
    ] = limits.HTTP_BODY_TIMEOUT_S
    header_max_bytes: Annotated[
        int,
        size(
            "http.header_max",
            "Largest request line and header together.",
            limits.HTTP_HEADER_MIN_BYTES,
            limits.HTTP_HEADER_BOUND_BYTES,
        ),
    ] = limits.HTTP_HEADER_MAX_BYTES
    header_timeout_s: Annotated[
        float,
        duration(
            "http.header_timeout",
            "How long a client may take for a request's header; over HTTP/1 also from one request to the next.",
            limits.HTTP_TIMEOUT_MIN_S,
            limits.HTTP_TIMEOUT_MAX_S,
        ),
    ] = limits.HTTP_HEADER_TIMEOUT_S
    idle_timeout_s: Annotated[
        float,
        duration(
            "http.idle_timeout",
            "After how long without a request any connection is closed.",
            limits.HTTP_TIMEOUT_MIN_S,
            limits.HTTP_TIMEOUT_MAX_S,
        ),
    ] = limits.HTTP_IDLE_TIMEOUT_S
    connections_max: Annotated[
        int,
        count(
            "http.connections_max",
            "Connections at a time; more wait to be taken, and idle ones make room for them.",
            1,
            limits.HTTP_CONNECTIONS_BOUND,
        ),
    ] = limits.HTTP_CONNECTIONS_MAX
    tls_cert: Annotated[
        str | None,
        string("http.tls_cert", "File with the certificate and those that vouch for it (PEM).", none_word="none"),
    ] = None
    tls_key: Annotated[
        str | None, string("http.tls_key", "File with the certificate's private key (PEM).", none_word="none")
    ] = None
    cors_origins: Annotated[
        tuple[str, ...],
        Setting(
            "http.cors_origins",
            "origins",
            "Origins whose pages may call the API from browsers; none but its own by default.",
        ),
    ] = ()
    batch_max_bytes: Annotated[
        int,
        size("http.batch_max", "Largest body of a batch; 0 for no bound.", 0, limits.HTTP_BATCH_BOUND_BYTES),
    ] = limits.HTTP_BATCH_MAX_BYTES
    tokens: Annotated[
        tuple[Token, ...],
        Setting("http.tokens", "tokens", "Bearer tokens: a list of tables with name, sha256 and scopes."),
    ] = ()


class FileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Section `file`: the files that outcomes are written to."""

    fsync: Annotated[
        Fsync, choice("file.fsync", "When records are forced to the disk; interval is once a second.", Fsync)
    ] = "interval"
    rotate_bytes: Annotated[
        int, size("file.rotate_bytes", "Size at which a new file is begun; 0 never.", 0, limits.FILE_ROTATE_MAX_BYTES)
    ] = limits.FILE_ROTATE_BYTES
    rotate_age_s: Annotated[
        float, duration("file.rotate_age", "Age at which a new file is begun; 0 never.", 0, limits.PERIOD_MAX_S)
    ] = limits.FILE_ROTATE_AGE_S


_HTTP: Final = HttpSettings()
_FILE: Final = FileSettings()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting, checked. Fields are named as the settings are, with their units behind."""

    url: Annotated[
        str | None,
        string("url", "Address of the server; none starts a private server on this machine.", none_word="none"),
    ] = None
    require_url: Annotated[
        bool, Setting("require_url", "bool", "Refuse to start without a url instead of starting a private server.")
    ] = False
    namespace: Annotated[
        str, string("namespace", "First part of every key on the server.", pattern=limits.NAMESPACE_PATTERN)
    ] = "headrace"

    slots: Annotated[int, count("slots", "Async handlers at a time.", 1, limits.SLOTS_MAX)] = limits.SLOTS
    thread_slots: Annotated[int, count("thread_slots", "Thread handlers at a time.", 1, limits.THREAD_SLOTS_MAX)] = (
        limits.THREAD_SLOTS
    )
    process_slots: Annotated[
        int | None, count("process_slots", "Process handlers at a time.", 1, limits.PROCESS_SLOTS_MAX, "cores")
    ] = None
    processes: Annotated[int, count("processes", "Workers that `headrace run` starts.", 1, limits.PROCESSES_MAX)] = (
        limits.PROCESSES
    )
    loop: Annotated[Loop, choice("loop", "The event loop.", Loop)] = "asyncio"

    timeout_s: Annotated[
        float | None,
        duration(
            "timeout",
            "How long a handler may run where it does not say so itself; 0 for no limit. "
            "The default is 5m for async and process handlers, none for thread handlers.",
            0,
            limits.TIMEOUT_MAX_S,
            "default",
        ),
    ] = None
    drain_timeout_s: Annotated[
        float,
        duration("drain_timeout", "How long running jobs may go on after a signal to stop.", 0, limits.PERIOD_MAX_S),
    ] = limits.DRAIN_TIMEOUT_S
    stall_limit_s: Annotated[
        float,
        duration(
            "stall_limit",
            "How long the event loop may stand still before the worker ends itself.",
            limits.STALL_LIMIT_MIN_S,
            limits.PERIOD_MAX_S,
        ),
    ] = limits.STALL_LIMIT_S

    lease_s: Annotated[
        float,
        duration("lease", "How long a worker that went silent keeps its jobs.", limits.LEASE_MIN_S, limits.LEASE_MAX_S),
    ] = limits.LEASE_S
    max_deliveries: Annotated[
        int,
        count(
            "max_deliveries",
            "Starts without an outcome after which a job counts as poison.",
            1,
            limits.MAX_DELIVERIES_MAX,
        ),
    ] = limits.MAX_DELIVERIES
    prefetch_ttl_s: Annotated[
        float,
        duration(
            "prefetch_ttl",
            "How long a fetched job may wait for a slot before it goes back.",
            limits.PREFETCH_TTL_MIN_S,
            limits.PERIOD_MAX_S,
        ),
    ] = limits.PREFETCH_TTL_S
    unknown_handler_grace_s: Annotated[
        float,
        duration(
            "unknown_handler_grace", "How long a job waits for a worker that knows its handler.", 0, limits.PERIOD_MAX_S
        ),
    ] = limits.UNKNOWN_HANDLER_GRACE_S

    result_ttl_s: Annotated[
        float,
        duration("result_ttl", "How long results and statuses are kept; 0 keeps none.", 0, limits.PERIOD_MAX_S),
    ] = limits.RESULT_TTL_S
    dead_ttl_s: Annotated[
        float, duration("dead_ttl", "How long dead letters are kept.", limits.DEAD_TTL_MIN_S, limits.PERIOD_MAX_S)
    ] = limits.DEAD_TTL_S
    max_dead: Annotated[
        int,
        count("max_dead", "Dead letters a queue holds before the oldest are exported.", 1, limits.MAX_DEAD_MAX),
    ] = limits.MAX_DEAD

    max_payload_bytes: Annotated[
        int, size("max_payload", "Largest job.", limits.MESSAGE_MIN_BYTES, limits.MESSAGE_MAX_BYTES)
    ] = limits.MAX_PAYLOAD_BYTES
    max_result_bytes: Annotated[
        int, size("max_result", "Largest result that is stored.", limits.MESSAGE_MIN_BYTES, limits.MESSAGE_MAX_BYTES)
    ] = limits.MAX_RESULT_BYTES
    max_queue_length: Annotated[
        int,
        count(
            "max_queue_length",
            "Jobs queued and delayed in one queue before more are refused; 0 for no bound.",
            0,
            limits.MAX_QUEUE_LENGTH_MAX,
        ),
    ] = limits.MAX_QUEUE_LENGTH
    max_queue_bytes: Annotated[
        int,
        size(
            "max_queue_bytes",
            "Bytes in one queue before more jobs are refused; 0 for no bound.",
            0,
            limits.MAX_QUEUE_BYTES_MAX,
        ),
    ] = limits.MAX_QUEUE_BYTES
    memory_high: Annotated[
        float,
        Setting(
            "memory_high",
            "fraction",
            "Share of the server's maxmemory above which new jobs are refused.",
            limits.MEMORY_HIGH_MIN,
            limits.MEMORY_HIGH_MAX,
        ),
    ] = limits.MEMORY_HIGH
    on_full: Annotated[
        OnFull, choice("on_full", "What a single submission to a full queue does; batches always wait.", OnFull)
    ] = "reject"

    log_outcomes: Annotated[
        str | None,
        string("log_outcomes", "File that gets one JSON line for each job that ended.", none_word="off"),
    ] = None
    log_level: Annotated[LogLevel, choice("log_level", "Least severe message that is logged.", LogLevel)] = "info"
    log_format: Annotated[LogFormat, choice("log_format", "Log lines for people or machines.", LogFormat)] = "console"

    http: HttpSettings = _HTTP
    file: FileSettings = _FILE

    @property
    def process_slots_resolved(self) -> int:
        """Process handlers at a time, with "cores" resolved to the cores that this process may use."""
        return cores() if self.process_slots is None else self.process_slots

    def timeout_for(self, runner: str) -> float:
        """Return the seconds that a handler on `runner` ("async", "thread", "process") may run; 0 for no limit."""
        if self.timeout_s is not None:
            return self.timeout_s
        return limits.TIMEOUT_THREAD_S if runner == "thread" else limits.TIMEOUT_ASYNC_S


#: section -> its record's class; a section is one TOML table, and the part of a variable's name before the `__`.
SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {"http": HttpSettings, "file": FileSettings}


class Place(msgspec.Struct, frozen=True):
    """Where a setting stands in the record.

    Attributes:
        setting: Its declaration.
        section: The section's name, empty for the record itself.
        field: The attribute's name.
    """

    setting: Setting
    section: str
    field: str

    def value(self, settings: Settings) -> Value:
        """Return the setting's value in `settings`."""
        value: Value = getattr(getattr(settings, self.section) if self.section else settings, self.field)
        return value


@cache
def places() -> Mapping[str, Place]:
    """Return every setting by its name, in the record's order, sections last."""
    found = {}
    for section, record in {"": Settings, **SECTIONS}.items():
        for field, hint in get_type_hints(record, include_extras=True).items():
            for mark in getattr(hint, "__metadata__", ()):
                found[mark.name] = Place(mark, section, field)
    return found


def build(values: Mapping[str, Value]) -> Settings:
    """Return the record with the given settings, by name, already read and checked; the others at their defaults."""
    fields: dict[str, dict[str, Value]] = {"": {}, **{section: {} for section in SECTIONS}}
    for name, value in values.items():
        place = places()[name]
        fields[place.section][place.field] = value
    sections = {
        section: msgspec.structs.replace(getattr(_DEFAULTS, section), **fields[section]) for section in SECTIONS
    }
    return msgspec.structs.replace(_DEFAULTS, **fields[""], **sections)


def cores() -> int:
    """Return how many cores this process may use: a container's share where the system tells, else all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_DEFAULTS: Final = Settings()
