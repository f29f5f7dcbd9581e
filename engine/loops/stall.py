"""Stall: notices an event loop that has stopped turning for good, from outside of it.

The loop counts its turns, the heartbeat's thread looks whether the count grows. A worker whose loop stands still keeps
its registration, so that a handler which blocks for a while costs nobody a job; past `stall_limit` it is a deadlock,
which would keep its jobs for ever: the process ends, and others take them over. Time in which this process itself stood
still, frozen or suspended, does not count: then the looks come late, and each counts for one pause between looks only.
The count belongs to the loop, all else to the thread that looks.
"""

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Final

import anyio

from headrace.config.logs import logger

log = logger("headrace.stall")

#: How often the loop counts; far below the shortest limit that the setting allows, one second.
TURN_S: Final = 0.1
#: Looks in one limit: so many have to find the loop where it was, whatever the clock says.
LOOKS: Final = 8
#: The longest pause between looks.
LOOK_LONGEST_S: Final = 5.0
#: How long saying so may take.
SAY_WITHIN_S: Final = 2.0
#: EX_SOFTWARE of sysexits.h: the fault is inside the program. A supervisor starts the worker again.
STALLED_EXIT_CODE: Final = 70


class Stall:
    """Watches one loop.

    Args:
        limit_s: Seconds for which it may stand still.
        end: What to do then; ends the process by default.
    """

    def __init__(self, limit_s: float, end: Callable[[float], None] | None = None) -> None:
        self.look_every_s = min(LOOK_LONGEST_S, limit_s / LOOKS)
        self._limit_s = limit_s
        self._end = end or end_process
        self._scope = anyio.CancelScope(shield=True)
        self._turns = 0
        self._seen = -1
        self._still_s = 0.0

    async def turn(self) -> None:
        """Count the loop's turns until `rest`; whoever is cancelled around it may still take long to end, and turns."""
        with self._scope:
            while True:
                self._turns += 1
                await anyio.sleep(TURN_S)

    def rest(self) -> None:
        """Count no more; in the loop. Whoever looks is to be stopped first or soon."""
        self._scope.cancel()

    def look(self) -> None:
        """Look at the count, one `look_every_s` after the last time; act when it has not grown for too long."""
        if self._turns != self._seen:
            self._seen, self._still_s = self._turns, 0.0
            return
        self._still_s += self.look_every_s
        if self._still_s >= self._limit_s:
            self._end(self._still_s)


def end_process(still_s: float) -> None:
    """Say where all threads are, and end this process as a crash does: nothing in it can be trusted to end in order.

    Not even its log: whoever reads that may be what the loop waits for. So the end comes whether or not it was said.
    """
    end = threading.Timer(SAY_WITHIN_S, os._exit, (STALLED_EXIT_CODE,))
    end.daemon = True
    end.start()
    try:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - there is no other way
        log.critical(
            "stalled",
            still_s=round(still_s, 1),
            why="a handler or a callback has held up the event loop for longer than stall_limit",
            then="this worker ends; others take its jobs over when its lease ends",
            where="".join(traceback.format_stack(frame)) if frame is not None else "",
        )
        faulthandler.dump_traceback()
    finally:
        os._exit(STALLED_EXIT_CODE)
