"""Deadlines of many who wait: a timer of the loop for each span of time that they wait for, not for each of them.

Who waits for the same span is late in the order in which they began, so that one timer serves them all. It promises
that nobody is late early, nor later than the loop's own timers. Owned by one event loop, in which it calls.
"""

import weakref
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from headrace.workers import native

K = TypeVar("K")

#: Spans whose timer is left to run out when nobody waits any more, since somebody soon will again.
KEPT_COUNT: Final = 16


class _Line(Generic[K]):
    """Those who wait for one span, and the timer of the first."""

    __slots__ = ("call_off", "due_s")

    def __init__(self) -> None:
        self.due_s: dict[K, float] = {}
        self.call_off: Callable[[], object]


class Deadlines(Generic[K]):
    """Tells who is late.

    Args:
        be_late: Called with each who is.
    """

    def __init__(self, be_late: Callable[[K], None]) -> None:
        self._be_late = be_late
        self._clock = native.loop_clock()
        self._call_later = native.timers()
        self._lines: dict[float, _Line[K]] = {}

    def add(self, who: K, span_s: float) -> None:
        """Have somebody be late after so many seconds, once."""
        line = self._lines.get(span_s)
        if line is None:
            line = self._lines[span_s] = _Line()
            self._set_timer(line, span_s, span_s)
        line.due_s[who] = self._clock() + span_s

    def remove(self, who: K, span_s: float) -> None:
        """Have somebody not be late who was added with that span, or was late."""
        line = self._lines.get(span_s)
        if line is not None:
            line.due_s.pop(who, None)
            if not line.due_s and len(self._lines) > KEPT_COUNT:
                line.call_off()
                del self._lines[span_s]

    def _set_timer(self, line: _Line[K], span_s: float, after_s: float) -> None:
        # Weakly: an idle line's timer must not hold on to whatever its owner has.
        itself = weakref.ref(self)

        def ring() -> None:
            deadlines = itself()
            if deadlines is not None:
                deadlines.ring(span_s)

        line.call_off = self._call_later(after_s, ring)

    def ring(self, span_s: float) -> None:
        """See who is late, since the timer of a span has run out."""
        line = self._lines[span_s]
        now_s, late = self._clock(), []
        for who, due_s in line.due_s.items():
            if due_s > now_s:
                self._set_timer(line, span_s, due_s - now_s)
                break
            late.append(who)
        else:
            del self._lines[span_s]
        for who in late:
            line.due_s.pop(who, None)
            self._be_late(who)
