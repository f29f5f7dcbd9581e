"""What a supervisor does about a child that ended: decided here, carried out in keeping.py. Pure functions and records.

A child that dies young is started again after a pause that doubles; one that lived is started again at once. Nobody
starts again what ends at once with a wrong configuration.
"""

from typing import Final

import msgspec

#: A child that lived for so long had started well.
YOUNG_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 30.0
#: Exit codes of `headrace run`: usage or configuration, broker unavailable.
CONFIG_EXIT_CODE: Final = 2
UNAVAILABLE_EXIT_CODE: Final = 3


class ChildPlan(msgspec.Struct, frozen=True):
    """One child to keep.

    Attributes:
        name: For the log: "worker 1", "http".
        role: "worker" or "http".
        command: What starts it, without its leash.
    """

    name: str
    role: str
    command: tuple[str, ...]


class Ended(msgspec.Struct, frozen=True):
    """How a child ended.

    Attributes:
        code: Its exit code; negative for the signal that ended it.
        lived_s: Seconds from its start.
        starts: How often it was started so far.
    """

    code: int
    lived_s: float
    starts: int


def pause_s(young_deaths: int) -> float:
    """Return how long to wait before the next start.

    Args:
        young_deaths: How often in a row it died young.
    """
    if young_deaths == 0:
        return 0.0
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(young_deaths - 1, 16))


def is_young(ended: Ended) -> bool:
    """Return whether it ended before it had started well."""
    return ended.lived_s < YOUNG_S


def giving_up(last: list[Ended | None]) -> int | None:
    """Return the exit code to give up with, or None to go on.

    Args:
        last: How each child of one role ended last; None for one that never did, or has started well since.
    """
    ends = [ended for ended in last if ended is not None]
    if not ends or len(ends) < len(last):
        return None
    if all(ended.code == CONFIG_EXIT_CODE and is_young(ended) for ended in ends):
        return CONFIG_EXIT_CODE
    # A server that is away at the first start is a wrong address as often as not; later it is waited for.
    if all(ended.code == UNAVAILABLE_EXIT_CODE and ended.starts == 1 for ended in ends):
        return UNAVAILABLE_EXIT_CODE
    return None
