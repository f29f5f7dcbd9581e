"""The connections of the serving process: which of them do nothing, and the end of those that do nothing for too long.

The server below bounds a header's time once its first bytes are there, but neither a peer that is silent before nor
idle HTTP/2; ten thousand silent peers would use up every connection. So this closes, once a second, those that had no
request for http.idle_timeout; sooner, the longest idle first, while nearly all are in use; and those whose client
leaves an answer unread for an event stream's time. Idle is the policy, and owns what is remembered. With ten thousand
a sweep takes some 100 ms, so it judges in a thread that gives way; all else is on the serving loop.
"""

import fcntl
import os
import socket
import stat
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import msgspec

from headrace.config import limits

from .unread import Peer, Unread

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

SWEEP_S: Final = 1.0
#: Sockets that are looked at in a row: some 0.3 ms.
GIVE_WAY_COUNT: Final = 50
#: Of all connections, how many are left free while others idle.
_SPARE_SHARE: Final = 0.1
_DESCRIPTORS: Final = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


class Found(msgspec.Struct, frozen=True):
    """One connection to the API, as it was found among this process's descriptors.

    Attributes:
        descriptor: Its number, which may be another's by now.
        inode: Of its socket, which is no other's for as long as it is open.
        peer: Whose it is.
        unsent_bytes: Of answers, what its peer has not taken yet; 0 where that cannot be known.
    """

    descriptor: int
    inode: int
    peer: Peer
    unsent_bytes: int = 0


class Idle:
    """Knows since when connections idle.

    Args:
        timeout_s: After how long without a request one is to be closed.
        connections_max: How many the server takes.
    """

    def __init__(self, timeout_s: float, connections_max: int) -> None:
        self._timeout_s = timeout_s
        self._connections_max = connections_max
        self._under_way: dict[Peer, int] = {}
        self._ended_s: dict[Peer, float] = {}
        self._known: dict[int, tuple[Peer, float]] = {}
        self._unsent: dict[int, tuple[int, float]] = {}
        self._stuck: set[int] = set()

    @property
    def count(self) -> int:
        """How many connections there were at the last look."""
        return len(self._known)

    def began(self, peer: Peer) -> None:
        """Take note that a request came."""
        self._under_way[peer] = self._under_way.get(peer, 0) + 1

    def ended(self, peer: Peer, now_s: float) -> None:
        """Take note that it was answered."""
        left = self._under_way.pop(peer) - 1
        if left:
            self._under_way[peer] = left
        self._ended_s[peer] = now_s

    def is_idle(self, peer: Peer, since_s: float) -> bool:
        """Return whether a peer has had no request since a time on the monotonic clock; on the loop."""
        return peer not in self._under_way and self._ended_s.get(peer, -1.0) <= since_s

    def is_stuck(self, inode: int) -> bool:
        """Return whether a connection's peer took nothing for so long that no request of it matters; on the loop."""
        return inode in self._stuck

    def overdue(self, found: Mapping[int, Found], now_s: float) -> list[Found]:
        """Return the connections that are to be closed, unless a request has come meanwhile, see `is_idle`.

        Requests under way keep their connection, but not for ever where nothing of it is taken (`is_stuck`): over
        HTTP/2 the next one may always be under way. After twice the time their own deadlines have spoken.

        In a thread or on the loop, one call at a time.

        Args:
            found: All there are, by inode.
            now_s: The monotonic clock; those that were not there before have idled since now.
        """
        # Copies, each made in one step, for requests come and end meanwhile.
        under_way, ended_s = set(self._under_way), dict(self._ended_s)
        self._known = {inode: self._known.get(inode, (each.peer, now_s)) for inode, each in found.items()}
        here = {each.peer for each in found.values()}
        for peer in ended_s.keys() - here:
            self._ended_s.pop(peer, None)
        self._unsent = {inode: self._moved(each, now_s) for inode, each in found.items()}
        still = [
            (max(ended_s.get(peer, -1.0), first_s), inode)
            for inode, (peer, first_s) in self._known.items()
            if peer not in under_way
        ]
        idle = sorted((max(since_s, self._unsent[at][1]), at) for since_s, at in still if not self._unsent[at][0])
        unread = [(self._unsent[at][1], at) for _, at in still if self._unsent[at][0]]
        stalled = [inode for since_s, inode in unread if now_s - since_s >= limits.HTTP_STREAM_SEND_TIMEOUT_S]
        self._stuck = {
            inode
            for inode, (unsent_bytes, since_s) in self._unsent.items()
            if unsent_bytes and now_s - since_s >= 2 * limits.HTTP_STREAM_SEND_TIMEOUT_S
        }
        stalled += self._stuck.difference(stalled)
        over = stalled + [inode for since_s, inode in idle if now_s - since_s >= self._timeout_s]
        spare = max(1, int(self._connections_max * _SPARE_SHARE))
        wanted = len(found) - (self._connections_max - spare)
        if len(found) >= self._connections_max - spare // 2 and wanted > len(over):
            pressed = [inode for since_s, inode in idle if now_s - since_s >= limits.HTTP_IDLE_PRESSED_S]
            over = list(dict.fromkeys([*over, *pressed]))[: max(wanted, len(over))]
        return [found[inode] for inode in over]

    def _moved(self, each: Found, now_s: float) -> tuple[int, float]:
        """Return what its peer has not taken yet, and since when that is so."""
        known = self._unsent.get(each.inode)
        if known is not None and known[0] == each.unsent_bytes:
            return known
        # What was never seen to move has not.
        moved_s = now_s if known is not None or each.unsent_bytes else self._known[each.inode][1]
        return each.unsent_bytes, moved_s


def noting(app: "ASGIApp", idle: Idle) -> "ASGIApp":
    """Return the application, telling of each request."""

    async def noted(scope: "Scope", receive: "Receive", send: "Send") -> None:
        client = scope.get("client")
        if client is None:
            await app(scope, receive, send)
            return
        peer = (client[0], str(client[1]))  # as granian has it
        idle.began(peer)
        try:
            await app(scope, receive, send)
        finally:
            idle.ended(peer, time.monotonic())

    return noted


async def sweep(idle: Idle, port: int, unread: Unread) -> None:
    """Close the connections to a port of this process that are overdue or given up, again and again until cancelled."""
    known: dict[int, Found] = {}
    while True:
        await anyio.sleep(SWEEP_S)
        now_s = time.monotonic()
        known, over = await anyio.to_thread.run_sync(_judge, idle, port, known, now_s)
        for each in over:
            if idle.is_stuck(each.inode) or idle.is_idle(each.peer, now_s):
                close(each)
        if unread.has_connections:
            by_peer = {each.peer: each for each in known.values()}
            for peer in unread.closing(by_peer.keys(), now_s):
                close(by_peer[peer])


def _judge(idle: Idle, port: int, known: Mapping[int, Found], now_s: float) -> tuple[dict[int, Found], list[Found]]:
    found = _look(port, known)
    return found, idle.overdue(found, now_s)


def _look(port: int, known: Mapping[int, Found]) -> dict[int, Found]:
    """Return the connections to a port, by inode; those that are known need no second question."""
    found = {}
    for number, (descriptor, inode) in enumerate(_sockets()):
        if number % GIVE_WAY_COUNT == 0:
            time.sleep(0)  # else the loop would wait for a thread that computes until the interpreter makes it stop
        each = known.get(inode)
        if each is None or each.descriptor != descriptor:
            each = _found(descriptor, inode, port)
        if each is not None:
            unsent_bytes = _unsent(descriptor)
            if unsent_bytes != each.unsent_bytes:
                each = msgspec.structs.replace(each, unsent_bytes=unsent_bytes)
            found[inode] = each
    return found


def _unsent(descriptor: int) -> int:
    """Return what the kernel holds for a connection's peer; Linux alone tells."""
    if sys.platform != "linux":
        return 0
    try:
        answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))  # of a socket it is SIOCOUTQ
    except OSError:  # closed meanwhile
        return 0
    return int.from_bytes(answer, sys.byteorder)


def _sockets() -> Iterator[tuple[int, int]]:
    for name in os.listdir(_DESCRIPTORS):
        try:
            status = os.fstat(int(name))
        except OSError:  # it was this listing's own, or has been closed meanwhile
            continue
        if stat.S_ISSOCK(status.st_mode):
            yield int(name), status.st_ino


def _found(descriptor: int, inode: int, port: int) -> Found | None:
    copy = _copy(descriptor, inode)
    if copy is None:
        return None
    with copy:
        try:
            if copy.family not in (socket.AF_INET, socket.AF_INET6) or copy.getsockname()[1] != port:
                return None
            peer = copy.getpeername()
        except OSError:  # one that listens has no peer, and one that was reset has none any more
            return None
        return Found(descriptor, inode, (peer[0].partition("%")[0], str(peer[1])))


def close(each: Found) -> None:
    """End a connection, unless its descriptor is another's by now; the server reads its end and lets go of it."""
    copy = _copy(each.descriptor, each.inode)
    if copy is None:
        return
    with copy:
        try:
            copy.shutdown(socket.SHUT_RDWR)
        except OSError:  # its peer was faster
            return


def _copy(descriptor: int, inode: int) -> socket.socket | None:
    """Return a descriptor of our own for a socket, which stays that socket's whatever the server closes meanwhile."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    if os.fstat(copy).st_ino != inode:
        os.close(copy)
        return None
    return socket.socket(fileno=copy)
