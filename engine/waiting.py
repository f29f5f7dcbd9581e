"""How long to wait before asking again: rising, jittered pauses with an end.

Arithmetic only: the dice are handed in, and the caller sleeps.
"""

import time
from collections.abc import Callable, Iterator
from itertools import count

#: First and longest pause while a queue is full: a worker frees thousands of places in that time.
FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0


def backoffs_s(total_s: float, dice: Callable[[], float]) -> Iterator[float | None]:
    """Yield pauses in seconds until `total_s` have passed since the first; then None, once, for the last try."""
    ends_s = time.monotonic() + total_s
    for step in count():
        left_s = ends_s - time.monotonic()
        if left_s <= 0:
            break
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(step, 10)) * (0.5 + dice() / 2)
        yield min(pause_s, left_s)
    yield None
