"""A part of a batch, published: as much of it as its queues have room for, and of each job what became of it.

Blocks as a broker does, so it runs in a thread where the broker waits for a server. No state.
"""

from collections.abc import Sequence

from headrace.jobs.errors import BrokerUnavailable, HeadraceError, QueueFull

from ..broker.port import Bound, Broker, Submission
from ..client import batches, new_token
from ..packing import duplicate

#: What became of a job: its id, or why it has none.
Fate = str | HeadraceError


def publish_part(broker: Broker, jobs: Sequence[tuple[str, Submission]], bound: Bound) -> list[Fate]:
    """Publish jobs queue by queue, and return the fate of each, in their order.

    Args:
        broker: Where to.
        jobs: Each with the name of its queue.
        bound: How full a queue may become.
    """
    first = jobs[0][0]
    if all(queue == first for queue, _ in jobs):
        return publish(broker, first, [submission for _, submission in jobs], bound)
    places: dict[str, list[int]] = {}
    for place, (queue, _) in enumerate(jobs):
        places.setdefault(queue, []).append(place)
    fates: dict[int, Fate] = {}
    away: BrokerUnavailable | None = None
    for queue, found in places.items():
        if away is not None:  # each further try may wait until it times out
            fates.update(dict.fromkeys(found, away))
            continue
        ended = publish(broker, queue, [jobs[place][1] for place in found], bound)
        fates.update(zip(found, ended, strict=True))
        away = ended[-1] if isinstance(ended[-1], BrokerUnavailable) else None
    return [fates[place] for place in range(len(jobs))]


def publish(broker: Broker, queue: str, jobs: Sequence[Submission], bound: Bound) -> list[Fate]:
    """Publish jobs of one queue, as many as it has room for."""
    fates: list[Fate] = []
    for part in batches(jobs, bound):
        if fates and isinstance(fates[-1], BrokerUnavailable):
            fates += [fates[-1]] * len(part)
        else:
            fates += _publish(broker, queue, part, bound)
    return fates


def _publish(broker: Broker, queue: str, jobs: Sequence[Submission], bound: Bound) -> list[Fate]:
    try:
        ids = broker.publish(queue, jobs, new_token(), bound)
    except QueueFull as error:
        if len(jobs) == 1:
            return [error]
        if any(job.caller_id for job in jobs):
            # Those that an earlier request added need no room, wherever they stand.
            half = len(jobs) // 2
            return [*_publish(broker, queue, jobs[:half], bound), *_publish(broker, queue, jobs[half:], bound)]
        room = _room(error, len(jobs))
        fits = _publish(broker, queue, jobs[:room], bound) if room else []
        return [*fits, *[error] * (len(jobs) - room)]
    except BrokerUnavailable as error:
        return [error] * len(jobs)
    if {str}.issuperset(map(type, ids)):
        return list(ids)
    return [duplicate(job, job_id) or str(job_id) for job, job_id in zip(jobs, ids, strict=True)]


def _room(error: QueueFull, count: int) -> int:
    """Return how many of a batch of `count` jobs may still fit, fewer than all; 0 where none does."""
    if error.reason == "length":
        return min(max(0, error.bound - error.depth), count - 1)
    return count // 2 if error.reason == "bytes" else 0
