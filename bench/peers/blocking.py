"""What jobs do on peers that run plain functions, written once, so that it is the same for all of them.

dramatiq has its own, since its handlers return nothing where no results are kept.
"""

import time

from .marks import marks
from .plan import SLEEP_S, SLOW_S


def noop(number: int, other: int, text: str) -> int:
    marks.done()
    return number


def sleep(number: int, other: int, text: str) -> int:
    time.sleep(SLEEP_S)
    marks.done()
    return number


def stamp(number: int, other: int, text: str) -> int:
    marks.stamp(number)
    return number


def slow(number: int, other: int, text: str) -> int:
    marks.begin(number)
    time.sleep(SLOW_S)
    marks.end(number)
    return number


HANDLERS = {"noop": noop, "sleep": sleep, "stamp": stamp, "slow": slow}
