"""Say in words why a server cannot be used: which one, what is wrong, and what to do next.

Turns redis-py's errors into BrokerUnavailable. Shows addresses without their passwords; changes nothing.
"""

from typing import Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's own, no kin of the built-in
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,  # noqa: A004
)

from headrace.jobs.errors import BrokerUnavailable

from .address import Address

_ADVICE: Final[tuple[tuple[type[RedisError], str, str], ...]] = (
    (BusyLoadingError, "is still loading its data", "wait until it has, and try again"),
    (MasterDownError, "has lost its primary", "see to the primary, or give its address"),
    (ClusterDownError, "is part of a cluster that is down", "mend the cluster"),
    (TimeoutError, "did not answer in time", "see whether it is overloaded, paused or cut off"),
    (InvalidResponse, "does not speak the Redis protocol", "is this another program's port, or one that wants TLS?"),
    (NoPermissionError, "forbids its user a command", "allow it, by ACL SETUSER on the server"),
    (ReadOnlyError, "is a read-only replica", "give the address of the primary"),
    (OutOfMemoryError, "is at its maxmemory", "let workers catch up, delete keys, or raise its maxmemory"),
)
#: Replies for which the client has no class of its own, by their first word.
_ADVICE_BY_CODE: Final = (
    ("BUSY ", "is held up by a script", "wait until it ends, or SCRIPT KILL it"),
    ("MISCONF", "refuses to write, since it cannot save to its disk", "free its disk; its log says more"),
    ("WRONGTYPE", "has one of our keys with another type", "another program uses the same names: set `namespace`"),
)


def unavailable(error: RedisError, address: Address) -> BrokerUnavailable:
    """Return the error to raise for what redis-py met."""
    what, remedy = _explain(error, address)
    return BrokerUnavailable(f"the server at {address.url} {what} ({str(error).rstrip('.')}): {remedy}")


def _explain(error: RedisError, address: Address) -> tuple[str, str]:
    text = str(error)
    if isinstance(error, AuthenticationError):
        if address.has_password:
            return "refuses the user or the password", "mend them in the address, as in redis://USER:PASSWORD@HOST"
        return "wants a password", "put it into the address, as in redis://:PASSWORD@HOST"
    for kind, what, remedy in _ADVICE:
        if isinstance(error, kind):
            return what, remedy
    if isinstance(error, ConnectionError):
        if "max number of clients" in text:
            return "has as many clients as it takes", "raise its maxclients, or run fewer programs"
        if "SSL" in text or "certificate" in text:
            return "cannot be reached over TLS", "mend its certificate, or the address: rediss:// means TLS"
        if "while reading" in text or "closed by server" in text or "while writing" in text:
            return "closed the connection", "see whether it stopped or was restarted; try again"
        return "cannot be reached", "start it, or mend the address"
    for code, what, remedy in _ADVICE_BY_CODE:
        if text.startswith(code):
            return what, remedy
    if "unknown command" in text or "unknown subcommand" in text:
        return "lacks a command that is needed", "use Redis 6.2 or newer, or Valkey, with that command not renamed"
    return "refused a command", "its log may say more"
