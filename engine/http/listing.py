"""Listing jobs that have not ended, page by page: by queue, state and handler's name.

The server cannot choose by name, so pages are read and sifted, a bounded number of jobs a request: a page may hold
fewer than were asked for, even none, and still be followed by another. A cursor is opaque to clients. No state.
"""

import base64
import binascii
from typing import Final

import msgspec

from headrace.jobs.ids import check_queue
from headrace.jobs.states import State

from .. import inspect
from ..broker.views import BrokerViews, JobView, wrong_cursor
from .records import JobRecord

PAGE_MAX_COUNT: Final = 1_000
#: Jobs that one request looks at, where it looks for a name: some 100 ms of the server's and of this process's time.
SIFT_MAX_COUNT: Final = 10_000


class JobPage(msgspec.Struct, frozen=True):
    """Some jobs that have not ended.

    Attributes:
        items: Those of this page, the oldest first in each queue.
        cursor: Where the next page begins; empty when this is the last.
    """

    items: list[JobRecord]
    cursor: str


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs.

    Attributes:
        queue: Only those of this queue; None for all.
        status: Only those in this state; None for all.
        name: Only those of this handler; None for all.
        limit: The most.
    """

    queue: str | None
    status: State | None
    name: str | None
    limit: int


def page_of(views: BrokerViews, sought: Sought, cursor: str) -> JobPage:
    """Return a page; blocks.

    Raises:
        InvalidArguments: the cursor is none that a page gave, or no queue has such a name.
        BrokerUnavailable: the server is away.
    """
    if sought.queue is not None:
        check_queue(sought.queue)
    inner = _opened(cursor)
    found: list[JobView] = []
    records: list[JobRecord] = []
    seen_count = 0
    while True:
        found, inner = inspect.jobs(views, sought.queue, sought.status, inner, sought.limit - len(records))
        records += [record for record in _records(views, found) if sought.name in (None, record.name)]
        seen_count += len(found)
        if not inner or len(records) >= sought.limit or sought.name is None or seen_count >= SIFT_MAX_COUNT:
            return JobPage(records, _sealed(inner))


def _records(views: BrokerViews, found: list[JobView]) -> list[JobRecord]:
    progress = views.progress([view.id for view in found])
    shown = [inspect.job_record(view) for view in found]
    return [JobRecord(**record, progress=said) for record, said in zip(shown, progress, strict=True)]


def _sealed(inner: str) -> str:
    return base64.urlsafe_b64encode(inner.encode()).decode().rstrip("=")


def _opened(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise wrong_cursor(cursor) from None
