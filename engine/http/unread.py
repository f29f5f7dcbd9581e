"""What answers hold in memory that their clients have not taken yet: bounded over all connections of HTTP/2.

One such connection asks for a hundred answers at once, and takes them when it likes: ten of them, measured, held 1 GiB
of results of 1 MB. Where all held together pass the bound, the connections that hold most are given up, of equals the
one that took nothing for longest: their answers are cut off, and whoever sweeps closes them. Over HTTP/1 a connection
holds one answer, and is not counted. Policy: what cuts is given to it. Owned by one event loop.
"""

from collections.abc import Callable, Collection
from typing import Final

#: Address and port, as both a socket and the server's scope have them.
Peer = tuple[str, str]

#: How much is freed in one go, of the bound, so that not every further answer looks for who holds most.
_SPARE_SHARE: Final = 0.1


class _Connection:
    """What one connection holds.

    Attributes:
        size_bytes: How much.
        moved_s: When it took something last, or began to hold something.
        shares: Of its answers, those that are on their way.
    """

    __slots__ = ("moved_s", "shares", "size_bytes")

    def __init__(self, now_s: float) -> None:
        self.size_bytes = 0
        self.moved_s = now_s
        self.shares: set[Share] = set()


class Unread:
    """Counts the bytes of answers that wait for their clients, by connection.

    Args:
        max_bytes: How many there may be.

    Attributes:
        size_bytes: How many there are.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._connections: dict[Peer, _Connection] = {}
        self._given_up: dict[Peer, float] = {}
        self.size_bytes = 0

    @property
    def has_connections(self) -> bool:
        """Whether `closing` has anything to look at."""
        return bool(self._connections or self._given_up)

    def share(self, peer: Peer, now_s: float, cut: Callable[[], None]) -> "Share":
        """Return what counts one answer of a connection; it has to be ended.

        Args:
            peer: Whose connection it is.
            now_s: The monotonic clock.
            cut: What cuts the answer off; called when its connection is given up.
        """
        connection = self._connections.setdefault(peer, _Connection(now_s))
        share = Share(self, peer, connection, cut)
        connection.shares.add(share)
        return share

    def closing(self, here: Collection[Peer], looked_s: float) -> set[Peer]:
        """Return the connections that are to be closed, and forget those that are gone.

        Args:
            here: The connections that were seen.
            looked_s: When, on the monotonic clock; of later ones nothing is known.
        """
        for peer, connection in list(self._connections.items()):
            if not connection.shares and connection.moved_s < looked_s and peer not in here:
                self._drop(peer, connection)
        closing = {peer for peer in self._given_up if peer in here}
        for peer, since_s in list(self._given_up.items()):
            if peer in closing or since_s < looked_s:
                del self._given_up[peer]
        return closing

    def count(self, share: "Share", size_bytes: int, now_s: float) -> None:
        """Count further bytes of an answer, or fewer; give up whoever holds most while there are too many."""
        share.size_bytes += size_bytes
        share.connection.size_bytes += size_bytes
        self.size_bytes += size_bytes
        if self.size_bytes <= self._max_bytes:
            return
        most = sorted(self._connections.items(), key=lambda each: (-each[1].size_bytes, each[1].moved_s))
        for peer, connection in most:
            if self.size_bytes <= self._max_bytes * (1 - _SPARE_SHARE):
                return
            self._drop(peer, connection)
            self._given_up[peer] = now_s
            for each in connection.shares:
                each.is_cut = True
                each.cut()

    def end(self, share: "Share", left_bytes: int) -> None:
        """Count an answer no more, but for what stays in the server below until its connection ends."""
        self.size_bytes -= share.size_bytes - left_bytes
        connection = share.connection
        connection.size_bytes -= share.size_bytes - left_bytes
        connection.shares.discard(share)
        if not connection.size_bytes and not connection.shares:
            del self._connections[share.peer]

    def _drop(self, peer: Peer, connection: _Connection) -> None:
        del self._connections[peer]
        self.size_bytes -= connection.size_bytes


class Share:
    """One answer's share.

    Attributes:
        peer: Whose it is.
        connection: What that one's connection holds.
        size_bytes: What waits of it.
        cut: Cuts it off.
        is_cut: Whether its connection was given up; it is counted no more then.
    """

    __slots__ = ("_unread", "connection", "cut", "is_cut", "peer", "size_bytes")

    def __init__(self, unread: Unread, peer: Peer, connection: _Connection, cut: Callable[[], None]) -> None:
        self._unread = unread
        self.cut = cut
        self.peer = peer
        self.connection = connection
        self.size_bytes = 0
        self.is_cut = False

    def holds(self, size_bytes: int, now_s: float) -> None:
        """Count further bytes that wait."""
        if not self.is_cut:
            self._unread.count(self, size_bytes, now_s)

    def took(self, size_bytes: int, now_s: float) -> None:
        """Take note that the client made room for bytes."""
        if not self.is_cut:
            self.connection.moved_s = now_s
            self._unread.count(self, -size_bytes, now_s)

    def end(self, left_bytes: int = 0) -> None:
        """Count it no more.

        Args:
            left_bytes: What of it stays in the server below, because it was cut short.
        """
        if not self.is_cut:
            self._unread.end(self, left_bytes)
