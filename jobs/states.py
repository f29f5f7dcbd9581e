"""The states of a job: one table, and nothing else in the program names a state of its own.

Rule 1: all moves between states are in MOVES; docs/states.md holds the diagram that `diagram()` makes of it.
Rule 2: this file knows no server and no clock; it says what may happen, not when.
"""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a job is; the words users see in every surface."""

    DELAYED = "delayed"  #: submitted for a later time
    QUEUED = "queued"  #: waits for a worker
    RUNNING = "running"  #: a worker has it
    RETRYING = "retrying"  #: an attempt failed, the next is due later
    SUCCEEDED = "succeeded"
    DEAD = "dead"  #: given up on; in the dead letters
    CANCELLED = "cancelled"
    EXPIRED = "expired"


#: state -> {what happens: the state after it}. A state without moves is final.
MOVES: Final[dict[State, dict[str, State]]] = {
    State.DELAYED: {"due": State.QUEUED, "cancel": State.CANCELLED},
    State.QUEUED: {
        "deliver": State.RUNNING,
        "cancel": State.CANCELLED,
        "expire": State.EXPIRED,
        "malformed": State.DEAD,
    },
    State.RUNNING: {
        "succeed": State.SUCCEEDED,
        "fail, attempts left": State.RETRYING,
        "fail, none left": State.DEAD,
        "give back": State.QUEUED,
        "cancel": State.CANCELLED,
        "expire": State.EXPIRED,
    },
    State.RETRYING: {"due": State.QUEUED, "cancel": State.CANCELLED},
    State.SUCCEEDED: {},
    State.DEAD: {"retry": State.QUEUED},
    State.CANCELLED: {},
    State.EXPIRED: {},
}

#: States in which a result can be waited for no longer: there is one, or there never will be.
ENDED: Final = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED})


def after(state: State, event: str) -> State:
    """Return the state that `event` leads to.

    Raises:
        ValueError: the table has no such move; a defect of the caller.
    """
    try:
        return MOVES[state][event]
    except KeyError:
        raise ValueError(f"a job that is {state} cannot {event!r}; the moves are in headrace/jobs/states.py") from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> delayed: submit with delay", "    [*] --> queued: submit"]
    for state, moves in MOVES.items():
        lines += [f"    {state} --> {target}: {event}" for event, target in moves.items()]
        if state in ENDED:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)
