"""The one way into a MemoryState: takes the lock and the time, wakes listeners afterwards, and breaks when told to.

A Fault makes a verb fail as a server that goes away would: "before" it was carried out (a reset connection), or "after"
it (the reply is lost, and the caller cannot know). Wake callbacks are called without the lock. Each broker has an
Access of its own; the faults in it are its own too.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from headrace.jobs.errors import BrokerUnavailable

from .memory_state import MemoryState

When = Literal["before", "after"]


class Fault(msgspec.Struct, frozen=True):
    """A failure to come.

    Attributes:
        verb: Name of the method that fails.
        when: "before": nothing was done; "after": all was done and the reply is lost.
        times: How many calls fail.
    """

    verb: str
    when: When
    times: int = 1


class Access:
    """Serves the verbs of one broker.

    Args:
        state: What they work on.
        now_ms: Returns milliseconds since the epoch.
    """

    def __init__(self, state: MemoryState, now_ms: Callable[[], int]) -> None:
        self.state = state
        self.now_ms = now_ms
        self.faults: list[Fault] = []

    @contextlib.contextmanager
    def verb(self, name: str) -> Iterator[tuple[MemoryState, int]]:
        """Hold the lock for a verb; yields the state and the time in milliseconds since the epoch.

        Raises:
            BrokerUnavailable: a fault said so.
        """
        state = self.state
        with state.lock:
            if self._struck(name, "before"):
                raise BrokerUnavailable(f"a fault set by the program stopped {name!r}; nothing was done, send it again")
            now_ms = self.now_ms()
            state.purge(now_ms)
            yield state, now_ms
            listeners = tuple(state.listeners) if state.jobs_came else ()
            state.jobs_came = False
            is_lost = self._struck(name, "after")
        for wake in listeners:
            wake()
        if is_lost:
            raise BrokerUnavailable(f"a fault set by the program lost the reply to {name!r}; send it again")

    def _struck(self, name: str, when: When) -> bool:
        for index, fault in enumerate(self.faults):
            if fault.verb == name and fault.when == when:
                if fault.times > 1:
                    self.faults[index] = msgspec.structs.replace(fault, times=fault.times - 1)
                else:
                    del self.faults[index]
                return True
        return False
