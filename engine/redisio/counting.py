"""Counts what goes over connections to servers: a parser for redis-py's connections that has their sockets count.

redis-py hands each new socket to the connection's parser first; from then on both use the one that counts.
"""

from typing import Any

from redis.connection import DefaultParser

from ..traffic import moved

_Parser: Any = DefaultParser


class CountingParser(_Parser):  # type: ignore[misc]
    """redis-py's own parser, on a socket that counts; what connections take as `parser_class`."""

    def on_connect(self, connection: Any, **kwargs: Any) -> None:
        """Take a connection's new socket."""
        connection._sock = _Counted(connection._sock)  # noqa: SLF001
        super().on_connect(connection, **kwargs)


class _Counted:
    """A socket whose bytes are counted; all else is the socket's."""

    __slots__ = ("_sock",)

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv_into(self, buffer: Any, *args: Any) -> int:
        count: int = self._sock.recv_into(buffer, *args)
        moved.receive(count)
        return count

    def sendall(self, data: Any) -> None:
        self._sock.sendall(data)
        moved.send(len(data))
