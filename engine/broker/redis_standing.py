"""What a worker knows of its own registration: its name, what it holds in each queue, and until when it stands.

The end is kept by a clock of this machine that goes on while the machine sleeps, counted from before the server was
asked, so that it never lies behind the server's. Past it nothing is fetched before the server was asked again; a
registration that brought jobs past its end has lapsed for good, since others may have them. One thread fetches, another
renews; each field is written by one of them.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..redisio.connections import Command
from ..redisio.keys import GROUP, INTERRUPTION, RETURNED, TOKEN_TTL_S, QueueKeys
from ..redisio.scripts import script
from .port import Caution, Source

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
        returning: What of `taken` is on its way back: a sweep that brings it brings news.
        sweep: Sweeps whose answer came; a further one with this number answers a lost one's again.
    """

    source: Source
    last: bytes = b"0-0"
    taken: set[bytes] = msgspec.field(default_factory=set)
    settled: set[bytes] = msgspec.field(default_factory=set)
    returning: set[bytes] = msgspec.field(default_factory=set)
    sweep: int = 0

    def take(self, entries: Sequence[bytes]) -> list[bool]:
        """Note entries that came otherwise than by a fetch; return which of them are news."""
        known = (self.taken - self.returning) | self.settled
        news = [entry not in known for entry in entries]
        fresh = [entry for entry, is_new in zip(entries, news, strict=True) if is_new]
        self.taken.update(fresh)
        self.returning.difference_update(fresh)
        return news

    def let_go(self, settled: Sequence[bytes], returned: Sequence[bytes]) -> None:
        """Forget what was settled or went back; not what a sweep has brought again since it was sent back."""
        self.taken.difference_update(settled)
        self.taken.difference_update([entry for entry in returned if entry in self.returning])
        self.returning.difference_update(returned)

    def forget(self) -> None:
        """Know of nothing any more: the group is gone, and with it what was pending."""
        self.last = b"0-0"
        self.taken.clear()
        self.returning.clear()


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


def sweep_of(keys: QueueKeys, standing: Standing, queue: str, room: int, caution: Caution) -> Command:
    """Return the call that takes over what others left in a queue.

    Sent again with the same token after a lost reply, a sweep answers the same; each queue for itself, since the next
    sweep may leave a queue out for which there is no room any more.
    """
    hold = standing.queues[queue]
    token = keys.token + f"{standing.member}-{hold.sweep}".encode()
    names = "\n".join(f"{name}={starts}" for name, starts in caution.by_name.items())
    careful = (caution.starts, caution.room, INTERRUPTION, names)
    args = (GROUP, RETURNED, room, standing.lease_ms, TOKEN_TTL_S, *careful)
    return script("recover").call(
        (keys.workers, keys.jobs, keys.meta, token), standing.member, *args, *hold.taken.copy()
    )


def last_delivered(groups: Any) -> bytes:
    """Return the last entry that our group handed out, as XINFO GROUPS answers; the first possible where it is gone."""
    for flat in groups if isinstance(groups, list) else ():
        group = dict(zip(flat[::2], flat[1::2], strict=False))
        if group.get(b"name") == GROUP:
            return bytes(group[b"last-delivered-id"])
    return b"0-0"


def is_before(entry: bytes, other: bytes) -> bool:
    """Return whether one entry's id is smaller than another's."""
    return _numbers(entry) < _numbers(other)


def _numbers(entry: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in entry.split(b"-"))
