"""The fourth port of a broker: the streams of events, one a queue, for who waits for results or watches what happens.

Synchronous, as the others are. Settling writes them; readers name the entry behind which they read on, so nothing is
lost between two reads, however long they are apart, until the stream's bound drops the oldest.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from headrace.config import limits
from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable

from ..observe.seldom import Seldom

if TYPE_CHECKING:
    from .watch import Watch


seldom = Seldom(logger("headrace.events"))


class Entry(NamedTuple):
    """One packed batch of events; see headrace.jobs.events.

    Attributes:
        queue: The queue whose stream it is in.
        id: Its place there, "MS-SEQ".
        data: The packed batch.
    """

    queue: str
    id: str
    data: bytes


class EventStreams(Protocol):
    """The streams of events of one broker. Raises BrokerUnavailable when the server is away.

    Attributes:
        closed: Whether the broker was closed.
        watch: The broker's watch, once there is one; see watch.py.
    """

    closed: bool
    watch: "Watch | None"

    def ends(self, queues: Sequence[str]) -> dict[str, str]:
        """Return for each queue the entry behind which there is nothing yet; "0-0" where there never was one."""

    def read(self, after: Mapping[str, str], count: int) -> list[Entry]:
        """Return what is there behind the named entries, at most `count` of each queue, each queue's in order."""

    def wait(self, after: Mapping[str, str], count: int, wait_s: float) -> list[Entry]:
        """Do what `read` does; while there is nothing, wait until there is, or `wake`, or the time is over.

        One caller at a time.
        """

    def wake(self) -> None:
        """End a waiting `wait` early, from any thread; harmless when none waits."""

    def announce(self, queues: Sequence[str], data: bytes) -> None:
        """Write one packed batch to the streams of some queues: what no settling call tells."""


def tell(streams: EventStreams, queues: Sequence[str], data: bytes) -> None:
    """Announce what was carried out already: at best, for what was done is no failure because nobody heard of it."""
    try:
        streams.announce(queues, data)
    except BrokerUnavailable as error:
        seldom.warning("not told", queues=list(queues), then="who reads the events misses one", error=str(error))


#: What one entry takes beside its bytes, roughly.
_ENTRY_BYTES: Final = 64


def stream_max_count(data: bytes) -> int:
    """Return how many entries a stream may keep, as the newest one allows: few large ones, many small ones."""
    return min(limits.EVENTS_MAX_COUNT, max(1, limits.EVENTS_MAX_BYTES // (len(data) + _ENTRY_BYTES)))
