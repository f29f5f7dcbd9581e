"""A queue that the watch reads: how far it has come, and who is to be told of which job or of any event.

It promises that who was added is there once, and is gone once it was dropped, in whatever order many leave one job. No
lock of its own: the watch's guards it.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

#: How long a queue is read on after its last waiter left: whoever submits and waits in a row follows it once.
LINGER_S: Final = 2.0
#: Called when events came to a queue.
Wake = Callable[[], None]


class Ear(Protocol):
    """Somebody to be told of one job.

    Attributes:
        job_id: Its id.
        rest: What follows the colon in it, as events have it.
    """

    job_id: str
    rest: bytes


class Followed:
    """One queue that is read.

    Args:
        entry: From which entry of its events on.
        now_s: The monotonic clock.

    Attributes:
        entry: The last one that was told of.
        left_at_s: When it was last asked for.
        ears: Who is to be told of each job, by the rest of its id; the first, who is mostly the only one.
        others: Those beside the first.
        wakes: What is called when events came.
    """

    __slots__ = ("ears", "entry", "left_at_s", "others", "wakes")

    def __init__(self, entry: str, now_s: float) -> None:
        self.entry = entry
        self.left_at_s = now_s
        self.ears: dict[bytes, Ear] = {}
        self.others: dict[bytes, dict[Ear, None]] = {}
        self.wakes: list[Wake] = []

    def add(self, ears: Iterable[Ear]) -> None:
        """Have them told."""
        for ear in ears:
            if self.ears.setdefault(ear.rest, ear) is not ear:
                self.others.setdefault(ear.rest, {})[ear] = None

    def drop(self, ears: Iterable[Ear]) -> None:
        """Have them told no more."""
        for ear in ears:
            rest = ear.rest
            others = self.others.get(rest)
            if self.ears.get(rest) is not ear:
                if others is not None:
                    others.pop(ear, None)
            elif others:
                self.ears[rest] = next(iter(others))
                del others[self.ears[rest]]
            else:
                del self.ears[rest]
            if others is not None and not others:
                del self.others[rest]

    def of(self, rest: bytes) -> list[Ear]:
        """Return who is to be told of a job."""
        return [self.ears[rest], *self.others.get(rest, ())] if rest in self.ears else []

    def pop(self, rest: bytes) -> list[Ear]:
        """Return who is to be told of a job, some there are, and have them told no more."""
        return [self.ears.pop(rest), *self.others.pop(rest, ())]

    def is_over(self, now_s: float) -> bool:
        """Return whether it is read for nobody, and was not asked for lately."""
        return not self.ears and not self.wakes and now_s - self.left_at_s > LINGER_S
