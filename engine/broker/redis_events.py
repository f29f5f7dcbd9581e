"""The streams of events on a server: read with XREAD, over a connection of their own where a read waits.

Writes nothing but announcements; what is settled is told by the scripts that settle. Safe from any thread, but one
`wait` at a time; its connection is opened when somebody first waits, and a forked child opens its own.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headrace.jobs.errors import BrokerUnavailable

from ..redisio.address import Address
from ..redisio.connections import BLOCK_MAX_S, Command, Wire, Wires, raise_first
from ..redisio.keys import Keys
from ..redisio.scripts import run
from .events import Entry, stream_max_count

#: How often, and how long apart, `wake` asks the server while the reader is on its way there.
_WAKE_TRIES, _WAKE_PAUSE_S = 3, 0.0005
#: The field of an entry that holds the packed batch.
FIELD: Final = b"e"


class RedisEvents:
    """EventStreams on a server.

    Args:
        wires: Connections for any thread.
        address: Where they lead.
        keys: The names of all keys.
    """

    def __init__(self, wires: Wires, address: Address, keys: Keys) -> None:
        self._wires = wires
        self._address = address
        self._keys = keys
        # It starts no server again: it reads on for a while after its last waiter left. Whoever waits looks, and does.
        self._reader = Wire(msgspec.structs.replace(address, revive=None), "events", blocks=True)
        self._waiting = False
        self._woken = False
        self.closed = False
        self.watch: Watch | None = None

    def ends(self, queues: Sequence[str]) -> dict[str, str]:
        """Return for each queue the entry behind which there is nothing yet."""
        commands: list[Command] = [(b"XREVRANGE", self._keys.of(q).events, b"+", b"-", b"COUNT", 1) for q in queues]
        replies = run(self._wires, commands)
        raise_first(replies, self._address)
        return {queue: reply[0][0].decode() if reply else "0-0" for queue, reply in zip(queues, replies, strict=True)}

    def read(self, after: Mapping[str, str], count: int) -> list[Entry]:
        """Return what is there behind the named entries."""
        if not after:
            return []
        replies = self._wires.exchange([self._command(after, count, ())])
        raise_first(replies, self._address)
        return self._entries(after, replies[0])

    def wait(self, after: Mapping[str, str], count: int, wait_s: float) -> list[Entry]:
        """Return what is there or comes in time."""
        self._waiting = True
        try:
            if self._woken or self.closed:
                return []
            wait_s = max(0.001, min(wait_s, BLOCK_MAX_S))
            command = self._command(after, count, (b"BLOCK", round(wait_s * 1000)))
            replies = self._reader.exchange([command], wait_s)
        finally:
            self._waiting = self._woken = False
        raise_first(replies, self._address)
        return self._entries(after, replies[0])

    def wake(self) -> None:
        """End a waiting `wait` early."""
        self._woken = True
        for _ in range(_WAKE_TRIES):
            if not self._waiting:
                return
            with contextlib.suppress(BrokerUnavailable):  # then the reader's own connection fails too, and it returns
                if self._wires.exchange([(b"CLIENT", b"UNBLOCK", self._reader.client_id)])[0] == 1:
                    return
            time.sleep(_WAKE_PAUSE_S)

    def announce(self, queues: Sequence[str], data: bytes) -> None:
        """Write one packed batch to the streams of some queues."""
        most = stream_max_count(data)
        commands: list[Command] = [
            (b"XADD", self._keys.of(queue).events, b"MAXLEN", b"~", most, b"*", FIELD, data) for queue in queues
        ]
        raise_first(run(self._wires, commands), self._address)

    def close(self) -> None:
        """End the connection, also under a waiting read."""
        self.closed = True
        self._reader.close()
        if self.watch is not None:
            self.watch.end()

    def _command(self, after: Mapping[str, str], count: int, block: tuple[bytes | int, ...]) -> Command:
        streams = [self._keys.of(queue).events for queue in after]
        return (b"XREAD", b"COUNT", count, *block, b"STREAMS", *streams, *after.values())

    def _entries(self, queues: Mapping[str, str], reply: Any) -> list[Entry]:
        named = {self._keys.of(queue).events: queue for queue in queues}
        found: list[Entry] = []
        for stream, entries in reply or ():
            found += [Entry(named[stream], entry.decode(), fields[1]) for entry, fields in entries]
        return found


if TYPE_CHECKING:
    from .events import EventStreams
    from .watch import Watch

    _fills_the_port: type[EventStreams] = RedisEvents
