"""What becomes of the jobs of a worker that dies? kill -9 amid 200 jobs of 50 ms, another worker, a count.

Redelivery is set to the lowest that the peer's documentation gives. Some peers look for a dead worker's jobs only when
new ones come; so a few more are submitted whenever nothing moves for some seconds.
"""

import signal
import time

from . import marks
from .environments import end
from .measuring import Failed, Peer, Place, place
from .plan import Plan

JOBS, KILL_AT, NUDGE_JOBS, QUIET_S = 200, 60, 5, 5.0
#: Variants for which dying differs from the peer's tuned row.
VARIANTS = frozenset({"", "late"})


def probe(peer: Peer, fsync: str) -> dict[str, float]:
    """Return how many jobs never ran to their end, and how many did more than once.

    Raises:
        Failed: the first worker did not begin to work.
    """
    plan = Plan(handler="slow", redeliver_fast=True)
    with place(peer, plan, fsync) as opened:
        peer.environment.ask(opened.plan, "fill", "0", str(JOBS))
        worker = opened.start_worker()
        began_s = time.monotonic()
        while sum(marks.runs(opened.plan.marks, JOBS)[0]) < KILL_AT:
            if worker.poll() is not None or time.monotonic() - began_s > 60:
                raise Failed(f"the worker did not come to {KILL_AT} jobs: {opened.complaint()}")
            time.sleep(0.005)
        end(worker, signal.SIGKILL)
        opened.workers.clear()
        killed_s = time.monotonic()
        begun, ended = marks.runs(opened.plan.marks, JOBS)
        busy = [number for number in range(JOBS) if begun[number] and not ended[number]]
        opened.start_worker()
        nudges, settled_s = wait(opened, peer.about.redelivery_s)
        begun, ended = marks.runs(opened.plan.marks, JOBS)
    return {
        "busy_when_killed": len(busy),
        "never_ran": sum(count == 0 for count in ended),
        "ran_twice": sum(count > 1 for count in ended),
        "waited_s": settled_s - killed_s,
        "new_jobs": nudges * NUDGE_JOBS,
        "patience_s": peer.about.redelivery_s,
    }


def wait(opened: Place, patience_s: float) -> tuple[int, float]:
    """Wait until all jobs ran, or nothing has moved for so long; returns how often new jobs came, and the last move."""
    nudges, missing = 0, JOBS
    moved_s = nudged_s = time.monotonic()
    while missing and time.monotonic() - moved_s < patience_s:
        time.sleep(0.05)
        now_missing = sum(count == 0 for count in marks.runs(opened.plan.marks, JOBS)[1])
        if now_missing < missing:
            missing, moved_s = now_missing, time.monotonic()
        if missing and time.monotonic() - max(moved_s, nudged_s) > QUIET_S * (1 + nudges):
            first = JOBS + nudges * NUDGE_JOBS
            opened.peer.environment.ask(opened.plan, "fill", "0", str(NUDGE_JOBS), str(first))
            nudges, nudged_s = nudges + 1, time.monotonic()
    return nudges, moved_s
