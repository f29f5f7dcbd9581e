"""How the memory broker takes a batch of jobs: duplicates first, then the bounds, then all that is new, or nothing.

Works on a queue whose lock the caller holds; owns nothing.
"""

import math
from collections.abc import Sequence

from headrace.jobs.errors import QueueFull

from .memory_state import MemoryQueue
from .port import Bound, Submission
from .refusals import full

#: Two refusals tell how fast the queue drains when they are at least, and at most, so far apart.
DRAIN_MIN_MS, DRAIN_MAX_MS = 1_000, 60_000


def add_all(queue: MemoryQueue, jobs: Sequence[Submission], bound: Bound, now_ms: int) -> list[str]:
    """Add what is new of a batch and return the ids in order, a FirstId or HolderId for each whose key another job has.

    Raises:
        QueueFull: the bound would be passed; nothing was added.
    """
    if any(job.unique or job.caller_id for job in jobs):
        return _add_keyed(queue, jobs, bound, now_ms)
    _refuse_if_full(queue, jobs, bound, now_ms)
    return [_add(queue, job, now_ms) for job in jobs]


def _add_keyed(queue: MemoryQueue, jobs: Sequence[Submission], bound: Bound, now_ms: int) -> list[str]:
    taken: set[tuple[str, str]] = set()
    new: list[Submission] = []
    for job in jobs:
        keys = {pair for pair in (("unique", job.unique), ("id", job.caller_id)) if pair[1]}
        if not taken & keys and queue.first_of(job.unique, job.caller_id, now_ms) is None:
            taken |= keys
            new.append(job)
    _refuse_if_full(queue, new, bound, now_ms)
    job_ids: list[str] = []
    for job in jobs:
        first = queue.first_of(job.unique, job.caller_id, now_ms)
        if first is not None:
            job_ids.append(first)
        else:
            job_ids.append(_add(queue, job, now_ms))
            queue.mark(job_ids[-1], job.unique, job.caller_id)
    return job_ids


def _add(queue: MemoryQueue, job: Submission, now_ms: int) -> str:
    due_at_ms = job.due_at_ms or now_ms + job.delay_ms
    return queue.add_later(job.body, due_at_ms, now_ms) if due_at_ms > now_ms else queue.add(job.body, now_ms)


def _refuse_if_full(queue: MemoryQueue, jobs: Sequence[Submission], bound: Bound, now_ms: int) -> None:
    depth = len(queue.waiting) + len(queue.later)
    if not jobs:
        return
    if bound.length and depth + len(jobs) > bound.length:
        raise _full(queue, "length", jobs, bound, now_ms)
    if bound.size_bytes and queue.held_bytes + sum([len(job.body) for job in jobs]) > bound.size_bytes:
        raise _full(queue, "bytes", jobs, bound, now_ms)


def _full(queue: MemoryQueue, reason: str, jobs: Sequence[Submission], bound: Bound, now_ms: int) -> QueueFull:
    seen_ms, ended_count, per_s = queue.drain
    age_ms = now_ms - seen_ms
    if not 0 <= age_ms < DRAIN_MIN_MS:
        per_s = (queue.ended_count - ended_count) * 1000 / age_ms if 0 < age_ms <= DRAIN_MAX_MS else 0.0
        queue.drain = (now_ms, queue.ended_count, per_s)
    depth = len(queue.waiting) + len(queue.later)
    return full(
        queue.name,
        reason,
        jobs,
        bound,
        depth=depth,
        held_bytes=queue.held_bytes,
        drain_s=math.inf if queue.paused else depth / per_s if per_s else None,
    )
