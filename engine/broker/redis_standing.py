"""What a worker knows of its own registration: its name, what it holds in each queue, and until when it stands.

The end is kept by a clock of this machine that goes on while the machine sleeps, counted from before the server was
asked, so that it never lies behind the server's. Past it nothing is fetched before the server was asked again; a
registration that brought jobs past its end has lapsed for good, since others may have them. One thread fetches, another
renews; each field is written by one of them.
"""

import math
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from .port import Source

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def awake_s() -> float:
    """Return seconds of a clock that nobody sets and that counts a suspended machine's sleep, where there is one."""
    return time.clock_gettime(_CLOCK)


class Hold(msgspec.Struct):
    """A queue of a registration, with what tells entries in hand from those whose reply was lost.

    Attributes:
        source: Queue and registration.
        last: The last entry that a fetch brought.
        taken: Entries taken over and not settled yet.
        settled: What was settled of `taken` while a sweep was on its way, which may bring it once more.
        sweep: Sweeps whose answer came; a further one with this number answers a lost one's again.
    """

    source: Source
    last: bytes = b"0-0"
    taken: set[bytes] = msgspec.field(default_factory=set)
    settled: set[bytes] = msgspec.field(default_factory=set)
    sweep: int = 0

    def take(self, entries: Sequence[bytes]) -> list[bool]:
        """Note entries that came otherwise than by a fetch; return which of them are news."""
        news = [entry not in self.taken and entry not in self.settled for entry in entries]
        self.taken.update([entry for entry, is_new in zip(entries, news, strict=True) if is_new])
        return news


class Term(msgspec.Struct):
    """Until when a registration stands.

    Attributes:
        ends_s: By `awake_s`; pushed on by each renewal.
        lapsed: Whether it is over for good.
    """

    ends_s: float = -math.inf
    lapsed: bool = False


class Standing(msgspec.Struct, frozen=True):
    """A registration; replaced as a whole by the next, so that any thread may read it.

    Attributes:
        member: Worker id and epoch.
        lease_ms: How long it stands without renewal.
        queues: What it holds in each queue.
        term: Until when it stands.
        left: Whether the worker has left.
    """

    member: str
    lease_ms: int
    queues: dict[str, Hold]
    term: Term = msgspec.field(default_factory=Term)
    left: bool = False

    def renewed(self, asked_s: float) -> None:
        """Note that the server kept it when it was asked at `asked_s`, by `awake_s`."""
        self.term.ends_s = asked_s + self.lease_ms / 1000

    @property
    def is_current(self) -> bool:
        """Whether it stands beyond doubt."""
        return not self.term.lapsed and awake_s() < self.term.ends_s
