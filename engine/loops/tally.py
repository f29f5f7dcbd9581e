"""Counts what was settled, once for each batch: by handler for the figures, by queue for how fast they drain.

It reads outcomes and what was decided about them, and writes to a Recorder; nothing waits here. Owns no state.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Final

from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.outcome import Outcome, Status

from ..observe.metrics import Recorder

#: Under what name entries that no handler's name could be read from are counted; no handler can be called so.
MALFORMED: Final = "(malformed)"


def record_settled(
    recorder: Recorder,
    now_s: float,
    outcomes: Sequence[Outcome],
    dispositions: Sequence[Disposition],
    only_queue: str | None,
    *,
    ordinary: bool,
) -> None:
    """Count a settled batch.

    Args:
        recorder: Where.
        now_s: Monotonic seconds.
        outcomes: What the slots gave.
        dispositions: What was decided about each, in the same order.
        only_queue: The one queue that all are of; None where they may be of several.
        ordinary: Whether all are done: none was retried, given up on or handed back.
    """
    every = dispositions
    retried: list[str] = []
    dead: list[str] = []
    if not ordinary:
        for outcome, disposition in zip(outcomes, dispositions, strict=True):
            if disposition.kind is Kind.DEAD:
                dead.append(outcome.work.label or MALFORMED)
            elif disposition.kind is Kind.RETRY and outcome.status is not Status.UNREADABLE:
                retried.append(outcome.work.label)
        read = [outcome.status is not Status.UNREADABLE for outcome in outcomes]
        outcomes, dispositions = list(compress(outcomes, read)), list(compress(dispositions, read))
    waits_s = [outcome.started_at_s - outcome.work.offered_at_s for outcome in outcomes]
    recorder.record_batch(now_s, outcomes, waits_s, retried, dead)
    if only_queue is not None and ordinary:
        recorder.record_drained(now_s, only_queue, len(outcomes))
        return
    drained = Counter(each.lease.source.queue for each in every if each.kind in (Kind.DONE, Kind.DEAD))
    for queue, count in drained.items():
        recorder.record_drained(now_s, queue, count)


def died_in(dispositions: Sequence[Disposition]) -> Counter[str]:
    """Return how many jobs of each queue were given up on."""
    return Counter(each.lease.source.queue for each in dispositions if each.kind is Kind.DEAD)
