"""Say in words why a server cannot be used: which one, what is wrong, whether it passes, and what to do next.

Turns redis-py's errors into BrokerUnavailable. Shows addresses without their passwords; changes nothing. NOSCRIPT is
not among them: scripts.py answers it. docs/guarantees.md shows what workers and producers make of each.
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

from headrace.jobs.errors import BrokerUnavailable, Outlook

from .address import Address

_ADVICE: Final[tuple[tuple[type[RedisError], Outlook, str, str], ...]] = (
    (BusyLoadingError, Outlook.PASSES, "is still loading its data", "wait until it has, and try again"),
    (MasterDownError, Outlook.PASSES, "has lost its primary", "see to the primary, or give its address"),
    (ClusterDownError, Outlook.PASSES, "is part of a cluster that is down", "mend the cluster"),
    (TimeoutError, Outlook.OPEN, "did not answer in time", "see whether it is overloaded, paused or cut off"),
    (
        InvalidResponse,
        Outlook.LASTS,
        "does not speak the Redis protocol",
        "is this another program's port, or one that wants TLS?",
    ),
    (NoPermissionError, Outlook.LASTS, "forbids its user a command", "allow it, by ACL SETUSER on the server"),
    (ReadOnlyError, Outlook.OPEN, "is a read-only replica", "give the address of the primary"),
    (
        OutOfMemoryError,
        Outlook.OPEN,
        "is at its maxmemory",
        "let workers catch up, delete keys, or raise its maxmemory",
    ),
)
#: Replies for which the client has no class of its own, by their first word.
_ADVICE_BY_CODE: Final = (
    ("BUSY ", Outlook.PASSES, "is held up by a script", "wait until it ends, or SCRIPT KILL it"),
    ("MISCONF", Outlook.OPEN, "refuses to write, since it cannot save to its disk", "free its disk; its log says more"),
    (
        "WRONGTYPE",
        Outlook.LASTS,
        "has one of our keys with another type",
        "another program uses the same names: set `namespace`",
    ),
)
#: After these a connection is worth nothing: another one may reach the new primary, or log in.
_ENDS_CONNECTION: Final = (ReadOnlyError, AuthenticationError)


def unavailable(error: RedisError, address: Address) -> BrokerUnavailable:
    """Return the error to raise for what redis-py met."""
    outlook, what, remedy = _explain(error, address)
    said = f"the server at {address.url} {what} ({str(error).rstrip('.')}): {remedy}"
    return BrokerUnavailable(said, outlook=outlook)


def ends_connection(error: RedisError) -> bool:
    """Return whether the connection that brought this reply should be made anew before the next command."""
    return isinstance(error, _ENDS_CONNECTION)


def _explain(error: RedisError, address: Address) -> tuple[Outlook, str, str]:
    text = str(error)
    if isinstance(error, AuthenticationError):
        if address.has_password:
            what, remedy = (
                "refuses the user or the password",
                "mend them in the address, as in redis://USER:PASSWORD@HOST",
            )
        else:
            what, remedy = "wants a password", "put it into the address, as in redis://:PASSWORD@HOST"
        return Outlook.LASTS, what, remedy
    for kind, outlook, what, remedy in _ADVICE:
        if isinstance(error, kind):
            return outlook, what, remedy
    if isinstance(error, ConnectionError):
        return _explain_connection(text)
    for code, outlook, what, remedy in _ADVICE_BY_CODE:
        if text.startswith(code):
            return outlook, what, remedy
    if "unknown command" in text or "unknown subcommand" in text:
        remedy = "use Redis 6.2 or newer, or Valkey, with that command not renamed"
        return Outlook.LASTS, "lacks a command that is needed", remedy
    return Outlook.OPEN, "refused a command", "its log may say more"


def _explain_connection(text: str) -> tuple[Outlook, str, str]:
    if "max number of clients" in text:
        return Outlook.OPEN, "has as many clients as it takes", "raise its maxclients, or run fewer programs"
    if "SSL" in text or "certificate" in text:
        remedy = "mend its certificate, or the address: rediss:// means TLS"
        return Outlook.LASTS, "cannot be reached over TLS", remedy
    if "while reading" in text or "closed by server" in text or "while writing" in text:
        return Outlook.OPEN, "closed the connection", "see whether it stopped or was restarted; try again"
    return Outlook.OPEN, "cannot be reached", "start it, or mend the address"
