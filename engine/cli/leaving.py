"""How the command line's process ends: as Python does, unless a thread keeps it from ending.

Handlers in threads cannot be stopped, and a process that was told to stop must go: then what is buffered is written out
and the process ends without waiting. Only the command line does this; a library must not.
"""

import logging
import os
import re
import sys
import threading
import time
from typing import Final, NoReturn

#: How long a handler's thread that is about to end may take to do so.
GRACE_S: Final = 0.2
#: How long other threads, such as those of libraries, may keep the process after its work is done.
LONGEST_S: Final = 5.0
#: The names that the thread runner gives.
_HANDLER: Final = re.compile(r"headrace-\d+")


def leave(code: int) -> NoReturn:
    """End the process with an exit code."""
    ends_s = time.monotonic() + GRACE_S
    while _handlers_run() and time.monotonic() < ends_s:
        time.sleep(0.01)
    if _handlers_run():
        _leave_now(code)
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        timer = threading.Timer(LONGEST_S, _leave_now, (code,))
        timer.daemon = True
        timer.start()
    sys.exit(code)


def _handlers_run() -> bool:
    return any(_HANDLER.fullmatch(thread.name) for thread in threading.enumerate())


def _leave_now(code: int) -> NoReturn:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more
            continue
    os._exit(code)
