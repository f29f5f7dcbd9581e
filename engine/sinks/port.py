"""The port that every sink fills: where outcomes are written.

A sink takes outcomes in batches. It may make its caller wait (that is how a slow disk slows the fetch) and it may raise
(that is how a fault becomes visible); it never drops an outcome in silence. Sinks are opened once, written to by one
caller at a time, and closed once; the conformance suite in tests/conformance/ says the rest.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headrace.jobs.outcome import Outcome


class SinkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one sink since it was opened.

    Attributes:
        name: The sink's name, unique in its dispatcher.
        written: Outcomes accepted and written as durably as the sink promises.
        pending: Outcomes accepted, not yet written.
        pending_max: The bound of `pending`; at it, `write` waits.
        dropped: Outcomes dropped because the sink's own rule says so; always counted, 0 for sinks that wait.
        errors: Faults met so far, whether or not they were overcome.
        flushes: Batches handed to the outside.
        bytes: Bytes handed to the outside.
    """

    name: str
    written: int = 0
    pending: int = 0
    pending_max: int = 0
    dropped: int = 0
    errors: int = 0
    flushes: int = 0
    bytes: int = 0


class Sink(Protocol):
    """A place where outcomes are written."""

    name: str

    async def open(self) -> None:
        """Acquire what is needed; raises ConfigError or OSError with a message that names the path or address."""

    async def write(self, outcomes: Sequence[Outcome]) -> None:
        """Take a batch in order; waits while full; raises when the outcomes could not be taken."""

    async def close(self) -> None:
        """Write out all that was taken, durably, then let go; safe to call twice."""

    def statistics(self) -> SinkStatistics:
        """Return the counters; never waits."""
