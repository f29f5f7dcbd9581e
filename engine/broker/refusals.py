"""Why a queue takes no more, in words: one QueueFull for each reason, the same from every broker.

Pure; the broker measures, this says it: how full the queue is, what its bound is, and how long it takes to drain.
"""

import math
from collections.abc import Sequence
from typing import Final

from headrace.jobs.errors import QueueFull

from .port import Bound, Submission

#: What is shown of less: a queue with jobs in it is never said to be empty at once.
_SHOWN_MIN_S: Final = 0.1


def full(
    queue: str,
    reason: str,
    jobs: Sequence[Submission],
    bound: Bound,
    *,
    depth: int,
    held_bytes: int = 0,
    drain_s: float | None = None,
) -> QueueFull:
    """Return the error of a refusal.

    Args:
        queue: Name of the queue.
        reason: "length", "bytes" or "memory".
        jobs: What was refused.
        bound: What would have been passed.
        depth: Jobs queued and delayed.
        held_bytes: Bytes of envelopes that the queue holds.
        drain_s: Seconds in which it drains at its present speed; None where that is not known, infinite while
            it is paused.
    """
    more_bytes = sum([len(job.body) for job in jobs])
    what, most, remedy = {
        "length": (
            f"{depth:,} jobs are queued or delayed, and {len(jobs):,} more would pass its bound of {bound.length:,}",
            bound.length,
            "raise max_queue_length",
        ),
        "bytes": (
            f"its jobs hold {held_bytes:,} bytes, and {more_bytes:,} more would pass its bound of {bound.size_bytes:,}",
            bound.size_bytes,
            "raise max_queue_bytes",
        ),
        "memory": (
            f"the server uses more than {bound.memory:.0%} of its maxmemory; {depth:,} jobs are queued or delayed",
            0,
            "raise the server's maxmemory, or memory_high",
        ),
    }[reason]
    return QueueFull(
        f"queue {queue!r} is full: {what}; {_outlook(depth, drain_s)}, or {remedy}",
        queue=queue,
        depth=depth,
        bound=most,
        reason=reason,
        drain_s=drain_s,
    )


def _outlook(depth: int, drain_s: float | None) -> str:
    """Say how the queue drains, and what helps."""
    if drain_s == math.inf:
        return (
            "the queue is paused, so no worker takes from it: resume it (`headrace queues resume`), submit again later"
        )
    if depth == 0:  # the batch is larger than the bound, or running jobs hold the bytes
        return "nothing waits in it: submit less at a time, submit again later"
    if drain_s is None:
        speed = "how fast it drains is not known yet"
    else:
        speed = f"at its present speed it is empty in {max(drain_s, _SHOWN_MIN_S):.1f} s"
    return f"{speed}; workers are slower than producers: submit again later, add workers"
