"""Connections to a server: redis-py's synchronous ones with hiredis, driven a batch of commands at a time.

A Wire is one connection for one role; a Wires is a small stack of them for callers of any thread. Both promise that a
command is sent once at most, that a connection which failed is never used again, that a stale one is noticed before it
is written to, and that a forked child opens its own. Errors of the network are BrokerUnavailable; errors of single
commands are returned in their place. Retrying is the caller's business: only it knows what may be sent twice.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import hiredis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from headrace.jobs.errors import BrokerUnavailable

from .address import Address
from .counting import CountingParser
from .faults import ends_connection, unavailable

#: One command: its name and its arguments. Text is sent as UTF-8.
Command = tuple[bytes | str | int, ...]

#: How long a reply may take: far above any script of ours, below the shortest patience of a supervisor.
REPLY_TIMEOUT_S: Final = 5.0
#: Bytes a second that a server takes at the least, when it has other work: a dead letter of 64 MB has 16 s more.
_TAKEN_BYTES_PER_S: Final = 4 * 1024 * 1024
#: Below it, a command's size is nothing beside REPLY_TIMEOUT_S.
_LARGE_BYTES: Final = 1024 * 1024
#: The longest that one reading command waits at the server.
BLOCK_MAX_S: Final = 5.0
#: How much later than its wait's end its reply may come: a dead network is noticed then.
BLOCK_MARGIN_S: Final = 1.5
#: Bytes asked of the socket at a time: a fetch of 500 small jobs then takes one or two calls.
_READ_BYTES: Final = 64 * 1024
#: Connections that a Wires keeps open for the next caller.
_IDLE_MAX_COUNT: Final = 8


class Wire:
    """One connection for one role, opened at its first use; one exchange at a time, other threads wait.

    Args:
        address: Where the server is.
        role: What CLIENT LIST shows behind "headrace:".
        blocks: Whether commands wait at the server; such a wire knows its `client_id`.

    Attributes:
        client_id: The server's number of this connection; 0 while there is none. Only where `blocks`.
    """

    __slots__ = ("_address", "_blocks", "_closed", "_connection", "_lock", "_open", "_pid", "_role", "client_id")

    def __init__(self, address: Address, role: str, *, blocks: bool = False) -> None:
        self._address = address
        self._role = role
        self._blocks = blocks
        self._closed = False
        self._begin()

    def exchange(self, commands: Sequence[Command], wait_s: float = 0.0) -> list[Any]:
        """Send commands in one piece and return their replies in order, a ResponseError in place of a refused one.

        Args:
            commands: What to send.
            wait_s: How long they wait at the server before they are answered.

        Raises:
            BrokerUnavailable: the server is away or refuses this client; what was sent may have been carried out.
        """
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if self._closed:
                raise self._closed_error()
            try:
                return self._exchange(commands, wait_s)
            except RedisError as error:
                raise unavailable(error, self._address) from error
            except (AttributeError, TypeError, ValueError, OSError) as error:
                if not self._closed:
                    raise
                # Closed under an exchange, redis-py's connection raises whatever it stumbles over.
                raise self._closed_error() from error
            finally:
                if self._closed:  # while this was under way
                    self._connection.disconnect()

    def close(self) -> None:
        """End the connection, also under a waiting read, whose caller then sees BrokerUnavailable."""
        self._closed = True
        if self._pid == os.getpid():
            self._connection.disconnect()

    def _closed_error(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"the broker at {self._address.url} was closed by this program; open it again")

    def _begin(self) -> None:
        """Start afresh: in a forked child another thread may hold the lock for ever, and the socket is not ours."""
        options = {"port": 6379} | self._address.options if "host" in self._address.options else self._address.options
        self.client_id = 0
        self._open = False
        self._lock = threading.Lock()
        self._connection = self._address.connection_class(
            **options,
            socket_timeout=REPLY_TIMEOUT_S,
            socket_connect_timeout=REPLY_TIMEOUT_S,
            socket_read_size=_READ_BYTES,
            parser_class=CountingParser,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
            client_name=f"headrace:{self._role}",
            protocol=2,  # measured: RESP3 is no faster here, and replies are lists of bytes in both
        )
        self._pid = os.getpid()

    def _exchange(self, commands: Sequence[Command], wait_s: float) -> list[Any]:
        connection = self._ready()
        read = connection.read_response
        replies: list[Any] = []
        is_useless = False
        packed = _pack(commands)
        large = len(packed) > _LARGE_BYTES
        try:
            if large:  # the socket's timeout is for the whole of a send
                connection._sock.settimeout(REPLY_TIMEOUT_S + len(packed) / _TAKEN_BYTES_PER_S)  # noqa: SLF001
            connection.send_packed_command([packed])
            if self._blocks:
                # The connection knows one timeout for all that it reads; a wait of a second must not hide a dead
                # network for as long as the longest wait may take.
                connection._sock.settimeout(wait_s + BLOCK_MARGIN_S if wait_s else REPLY_TIMEOUT_S)  # noqa: SLF001
            for _ in commands:
                try:
                    replies.append(read())
                except ResponseError as error:
                    replies.append(error)
                    is_useless = is_useless or ends_connection(error)
            if large:
                connection._sock.settimeout(REPLY_TIMEOUT_S)  # noqa: SLF001
        except BaseException:  # replies may still be on their way, and nobody must take them for theirs
            self._open = False
            connection.disconnect()
            raise
        if is_useless:
            self._open = False
            connection.disconnect()
        return replies

    def _ready(self) -> Any:
        """Return the connection, connected; that the peer hung up is noticed here, where nothing was sent yet."""
        connection = self._connection
        if self._open:
            try:
                stale = connection.can_read(0)
            except RedisError:
                stale = True
            if not stale:
                return connection
            self._open = False
            connection.disconnect()
        self.client_id = 0
        try:
            connection.connect()
        except RedisError:
            if self._address.revive is None:
                raise
            self._address.revive()  # a server of our own that died: started again, with all that was acknowledged
            connection.connect()
        if self._blocks:
            connection.send_command("CLIENT", "ID")
            self.client_id = int(connection.read_response())
        self._open = True
        return connection


class Wires:
    """Wires for callers of any thread: each takes one, or a new one when none is idle.

    Args:
        address: Where the server is.
        role: What CLIENT LIST shows behind "headrace:".
    """

    __slots__ = ("_address", "_closed", "_idle", "_role")

    def __init__(self, address: Address, role: str) -> None:
        self._address = address
        self._role = role
        self._idle: deque[Wire] = deque()
        self._closed = False

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands over a wire of its own; see Wire.exchange."""
        try:
            wire = self._idle.pop()
        except IndexError:
            wire = Wire(self._address, self._role)
            if self._closed:
                wire.close()
        try:
            return wire.exchange(commands)
        finally:
            if self._closed or len(self._idle) >= _IDLE_MAX_COUNT:
                wire.close()
            else:
                self._idle.append(wire)

    def close(self) -> None:
        """Close what is idle; what is in use closes when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def raise_first(replies: Iterable[Any], address: Address) -> None:
    """Raise BrokerUnavailable for the first refused command, if there is one."""
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise unavailable(reply, address) from reply


def _pack(commands: Sequence[Command]) -> bytes:
    """Return the commands' bytes; hiredis's own packer, since redis-py's looks at each argument twice in Python."""
    pack = cast(Callable[[Command], bytes], hiredis.pack_command)  # its stub knows tuples of one only
    if len(commands) == 1:
        return pack(commands[0])
    return b"".join([pack(command) for command in commands])
