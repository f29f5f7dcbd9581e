"""Batches of submissions into script calls, and what the scripts answer into ids or the error of a refusal.

Pure functions: nothing is sent here. A batch without delays and keys takes the shortest script; what each script checks
and writes is in redisio/lua/.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import OutOfMemoryError

from headrace.jobs import ids
from headrace.jobs.errors import QueueFull

from ..redisio.address import Address
from ..redisio.connections import Command
from ..redisio.faults import unavailable
from ..redisio.keys import GROUP, SUBMIT_TOKEN_TTL_S, UNIQUE_TTL_MS, Keys
from ..redisio.scripts import script
from .port import Bound, FirstId, HolderId, Submission
from .refusals import full

#: What the scripts answer instead of milliseconds while a queue is paused; see include/admission.lua.
_PAUSED: Final = -2
#: How the words begin that submit_keyed.lua answers, and what follows.
_WORDS: Final[Mapping[str, Callable[[str], str]]] = {"+": str, "=": FirstId, "~": HolderId}
#: The kinds of batches, each with a script of its own.
_AT_ONCE, _LATER, _KEYED = range(3)


def command_for(keys: Keys, queue: str, jobs: Sequence[Submission], token: str, bound: Bound) -> Command:
    """Return the call that adds a batch."""
    of = keys.of(queue)
    three = (of.jobs, of.delayed, of.token + token.encode())
    same = (GROUP, bound.length, bound.size_bytes, str(bound.memory), SUBMIT_TOKEN_TTL_S if token else 0)
    kind = _kind(jobs)
    if kind == _KEYED:
        letters, columns = _columns(jobs)
        eight = (*three, of.bodies, of.meta, of.index, of.unique, of.caller)
        bodies = [job.body for job in jobs]
        return script("submit_keyed").call(eight, *same, queue, UNIQUE_TTL_MS, len(jobs), letters, *bodies, *columns)
    if kind == _LATER:
        pairs = [part for job in jobs for part in (_due(job), job.body)]
        return script("submit_later").call((*three, of.bodies, of.meta), *same, queue, *pairs)
    return script("submit").call((*three, of.meta), *same, *[job.body for job in jobs])


def ids_in(answer: str, queue: str, count: int) -> list[str]:
    """Return the ids of a batch of `count` jobs that was added, in its order; the answer's form is its script's."""
    if answer[0] in _WORDS:
        return [_WORDS[word[0]](word[1:]) for word in answer.split(" ")]
    if " " not in answer:
        return ids.numbered(queue, answer, count)
    entry, delayed, marks = answer.split(" ")
    at_once = iter(ids.numbered(queue, entry, marks.count("q")) if entry != "-" else ())
    later = iter(ids.numbered(queue, delayed, marks.count("d")) if delayed != "-" else ())
    return [next(later) if mark == "d" else next(at_once) for mark in marks]


def refusal(answer: Any, address: Address, queue: str, jobs: Sequence[Submission], bound: Bound) -> Exception:
    """Return the error for a batch that was not added."""
    if isinstance(answer, list):
        reason, depth, held_bytes, drain_ms = answer
        return full(
            queue,
            reason.decode(),
            jobs,
            bound,
            depth=depth,
            held_bytes=held_bytes,
            drain_s=math.inf if drain_ms == _PAUSED else None if drain_ms < 0 else drain_ms / 1000,
        )
    if isinstance(answer, OutOfMemoryError):
        return QueueFull(
            f"queue {queue!r} takes no more: the server at {address.url} is at its maxmemory; let workers catch up, "
            f"or raise its maxmemory",
            queue=queue,
            reason="memory",
        )
    return unavailable(answer, address)


def _kind(jobs: Sequence[Submission]) -> int:
    later = False
    for job in jobs:
        if job.unique or job.caller_id:
            return _KEYED
        if job.delay_ms or job.due_at_ms:
            later = True
    return _LATER if later else _AT_ONCE


def _columns(jobs: Sequence[Submission]) -> tuple[str, list[str | int]]:
    """Return a letter for each column that says anything of jobs beside their envelopes, and these columns."""
    letters, columns = "", list[str | int]()
    for letter, column in (("u", [job.unique for job in jobs]), ("i", [job.caller_id for job in jobs])):
        if any(column):
            letters += letter
            columns += column
    if any(job.delay_ms or job.due_at_ms for job in jobs):
        letters += "d"
        columns += [_due(job) for job in jobs]
    return letters, columns


def _due(job: Submission) -> int | str:
    return job.due_at_ms or f"+{job.delay_ms}"
