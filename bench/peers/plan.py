"""What a process of a measurement is told, and what a peer says of itself. No package but Python's own is needed here.

The plan travels as JSON in one environment variable, so that it reaches workers started by the peers' own commands,
and Node.
"""

import json
import os
from dataclasses import asdict, dataclass, field

VARIABLE = "BENCH_PLAN"
#: What every job carries beside its number.
OTHER, TEXT = 2, "0123456789abcdef"
#: How long the handlers take; "slow" is the one that a worker dies over.
SLEEP_S, SLOW_S = 0.001, 0.05
#: How long results are kept, where a peer lets one choose.
RESULT_TTL_S = 300


@dataclass(frozen=True)
class Plan:
    """One measurement.

    Args:
        socket: The server's Unix socket.
        handler: The handler that is measured: noop, sleep, stamp or slow.
        variant: The peer's variant.
        results: Whether results are stored.
        marks: The folder into which handlers count.
        redeliver_fast: Whether jobs of a dead worker are to come back as soon as the peer allows.
    """

    socket: str = "/nowhere"
    handler: str = "noop"
    variant: str = ""
    results: bool = False
    marks: str = ""
    redeliver_fast: bool = False

    def to_environment(self) -> dict[str, str]:
        """Return this process's environment with the plan in it."""
        return {**os.environ, VARIABLE: json.dumps(asdict(self))}


def read_plan() -> Plan:
    """Return the plan that this process was started with."""
    return Plan(**json.loads(os.environ.get(VARIABLE, "{}")))


@dataclass(frozen=True)
class Row:
    """A peer at certain settings: one row of the tables.

    Args:
        settings: The settings in words, for the tables.
        noop_count: Jobs for each worker, with handlers that do nothing: three to five seconds of work.
        sleep_count: Jobs for each worker, with handlers that sleep 1 ms.
    """

    settings: str
    noop_count: int
    sleep_count: int


@dataclass(frozen=True)
class About:
    """What a peer says of itself.

    Args:
        packages: Distributions whose versions are shown.
        rows: The peer's rows by variant; "" is the tuned one.
        promise: What becomes of a job whose worker dies, by the documentation.
        redelivery: The setting that brings such a job back: its default, and what the loss probe sets.
        redelivery_s: How long the loss probe waits for that, at most.
        source: Where its documentation speaks of the settings.
        pending: Commands for the server; the queue is empty when each answers 0 (of an array, the first element).
        without_results: Whether the peer can leave results out.
        loss_slots: How many slow jobs the probe's worker runs at once.
    """

    packages: tuple[str, ...]
    rows: dict[str, Row]
    promise: str
    redelivery: str
    redelivery_s: float
    source: str
    pending: tuple[tuple[str, ...], ...]
    without_results: bool = True
    loss_slots: int = 10
    versions: dict[str, str] = field(default_factory=dict)
