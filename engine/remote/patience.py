"""When a request is sent again, and when its failure is the caller's to see.

What was surely not carried out, or may be carried out twice without harm, is sent again until the call's time is over:
lost connections, and the answers 429, 502, 503 and 504, of which Retry-After is honoured. Anything else is an answer.
The dice and the clock are handed in. No state.
"""

import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from headrace.jobs.errors import HeadraceError

from .replies import error_in, unknown_fate, unreachable
from .wire import Call, Lost, Pause, Reply, Request, Send

PAUSE_FIRST_S: Final = 0.05
PAUSE_LONGEST_S: Final = 2.0
#: Beyond what the server was asked to wait: for the connection, and for each piece of an answer.
ANSWER_TIMEOUT_S: Final = 30.0
#: The server, or its way to the broker, is away for now.
_AWAY: Final = frozenset({502, 503, 504})
FULL: Final = 429


def patiently(
    request: Request,
    url: str,
    total_s: float | None,
    *,
    waits_for_room: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Call[Reply]:
    """Send a request until it is answered; the answer is a success.

    Args:
        request: It.
        url: Where to; for messages.
        total_s: Seconds for all tries together; None for as long as it takes.
        waits_for_room: Whether a full queue is tried again.
        clock: Seconds that only grow.

    Raises:
        HeadraceError: the error that the last answer means.
        BrokerUnavailable: there was no answer.
    """
    ends_s = None if total_s is None else clock() + total_s
    tries_count = 0
    while True:
        left_s = float("inf") if ends_s is None else max(0.0, ends_s - clock())
        heard = yield _asking(request, left_s)
        assert heard is not None
        pause_s = next_pause_s(tries_count)
        tries_count += 1
        if isinstance(heard, Lost):
            again = heard.unsent or request.repeatable
            error: HeadraceError = unreachable(url, heard.why, heard.advice) if again else unknown_fate(url, heard.why)
        elif heard.status < 300:
            return heard
        else:
            error = error_in(heard)
            again = waits_for_room if heard.status == FULL else heard.status in _AWAY and request.repeatable
            pause_s = max(pause_s, retry_after_s(heard))
        left_s = float("inf") if ends_s is None else ends_s - clock()
        if not again or pause_s >= left_s:
            raise error
        yield Pause(pause_s)


def _asking(request: Request, left_s: float) -> Send:
    """Return one try: a server that waits is asked to end before we do, else what it has to say would be lost."""
    if request.wait_s is None:
        return Send(request, min(ANSWER_TIMEOUT_S, max(left_s, 0.1)))
    wait_s = round(min(request.wait_s, left_s), 3)
    asking = msgspec.structs.replace(request, params={**request.params, "wait_s": wait_s})
    return Send(asking, max(wait_s + request.margin_s, min(left_s, wait_s + ANSWER_TIMEOUT_S)))


def retry_after_s(reply: Reply) -> float:
    """Return the seconds that a reply asks to wait, by number or by date; 0 where it does not say."""
    said = reply.headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        at_s: float = parsedate_to_datetime(said).timestamp()
        return max(0.0, at_s - time.time())
    except (ValueError, TypeError):
        return 0.0


def next_pause_s(tries_count: int) -> float:
    """Return the seconds to wait after so many tries."""
    return min(PAUSE_LONGEST_S, PAUSE_FIRST_S * 2.0 ** min(tries_count, 10)) * (0.5 + random.random() / 2)
