"""An operator's verbs: what changes jobs from outside their normal way. Blocking functions over a broker's second port.

Each says what it did; reading is in inspect. They decide nothing that the broker decides, and hold no state.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from .broker.views import BrokerViews

#: Dead letters in one page, and in one call of a verb.
PAGE_COUNT = 500


class Handled(msgspec.Struct, frozen=True):
    """What a verb did.

    Attributes:
        count: Dead letters that it was done to.
        missing: Ids of which there was none.
    """

    count: int
    missing: tuple[str, ...] = ()


def dead_retry(views: BrokerViews, job_ids: Sequence[str]) -> Handled:
    """Queue dead jobs again under their ids, with all their attempts."""
    return _each(views.dead_retry, job_ids)


def dead_drop(views: BrokerViews, job_ids: Sequence[str]) -> Handled:
    """Forget dead letters for good."""
    return _each(views.dead_drop, job_ids)


def dead_retry_all(views: BrokerViews, queue: str | None = None, reason: str | None = None) -> Handled:
    """Queue all dead jobs again that there are now.

    Args:
        views: The broker's second port.
        queue: Only those of this queue.
        reason: Only those with this reason, such as "timed_out".
    """
    return Handled(sum(map(views.dead_retry, _pages(views, queue, reason))))


def dead_drop_all(views: BrokerViews, queue: str | None = None, reason: str | None = None) -> Handled:
    """Forget all dead letters that there are now; arguments as for `dead_retry_all`."""
    return Handled(sum(map(views.dead_drop, _pages(views, queue, reason))))


def _each(verb: Callable[[Sequence[str]], int], job_ids: Sequence[str]) -> Handled:
    """Call a verb for each id alone, since only so it says which were not there."""
    wanted = list(dict.fromkeys(job_ids))
    missing = tuple(job_id for job_id in wanted if not verb([job_id]))
    return Handled(len(wanted) - len(missing), missing)


def _pages(views: BrokerViews, queue: str | None, reason: str | None) -> Iterator[list[str]]:
    """Yield ids page by page, from new to old: a job that dies again meanwhile is newer, and is not met twice."""
    for name in views.queue_names() if queue is None else [queue]:
        cursor = ""
        while True:
            letters, cursor = views.dead(name, cursor, PAGE_COUNT)
            ids = [letter.id for letter in letters if reason in (None, letter.reason)]
            if ids:
                yield ids
            if not cursor:
                break
