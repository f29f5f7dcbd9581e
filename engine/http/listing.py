"""Listing jobs that have not ended, page by page: by queue, state and handler's name.

The server cannot choose by name, so large pages are read and sifted, a look at a time: between two of them a loop whose
broker is in its own process serves others. One request takes a bounded number of looks, and of bytes: a page may hold
fewer than were asked for, even none, and still be followed by another. A cursor is opaque to clients.
"""

import base64
import binascii
import math
from typing import Final

import msgspec

from headrace.jobs.ids import check_queue
from headrace.jobs.states import State

from .. import inspect
from ..broker.views import BrokerViews, JobView, wrong_cursor
from .records import JobRecord

PAGE_MAX_COUNT: Final = 1_000
#: Jobs that one look takes where a name is sought: few looks, each some 10 ms of the server's time.
SIFT_PAGE_COUNT: Final = 1_000
#: Looks that one request takes, which bounds what it sifts: some 100 ms of the server's and of this process's time.
TURNS_MAX_COUNT: Final = 10
#: What jobs or letters of one page may take: they are read whole, and letters go out as JSON of several times the size.
PAGE_BYTES: Final = 4 * 1024 * 1024


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


class Search:
    """One request's way through the jobs: a page in one look, or in several where a name is sought. Owned by it.

    Args:
        sought: Which jobs.
        cursor: As a page gave it; empty for the first.

    Raises:
        InvalidArguments: the cursor is none that a page gave, or no queue has such a name.
    """

    def __init__(self, sought: Sought, cursor: str) -> None:
        if sought.queue is not None:
            check_queue(sought.queue)
        self._sought = sought
        self._cursor = opened(cursor)
        self._fitting: list[JobView] = []
        self._effort = inspect.Effort(TURNS_MAX_COUNT, PAGE_BYTES if sought.name is None else math.inf)

    def look(self, views: BrokerViews) -> JobPage | None:
        """Return the page; None where it takes another look. Blocks for one look.

        Raises:
            InvalidArguments: as for the search.
            BrokerUnavailable: the server is away.
        """
        is_over = self._sift(views) if self._sought.name is not None else self._take(views)
        return self._page(views) if is_over else None

    def _take(self, views: BrokerViews) -> bool:
        self._fitting, self._cursor = self._next(views, self._sought.limit)
        return True

    def _sift(self, views: BrokerViews) -> bool:
        """Look at some jobs, keep those with the name, and return whether that was the last look."""
        found, self._cursor = self._next(views, SIFT_PAGE_COUNT)
        for position, view in enumerate(found, 1):
            if inspect.name_of(view) == self._sought.name:
                self._fitting.append(view)
                if len(self._fitting) == self._sought.limit:
                    if position < len(found):
                        self._cursor = inspect.cursor_after(view)
                    return True
        return not self._cursor or self._effort.is_spent

    def _next(self, views: BrokerViews, count: int) -> tuple[list[JobView], str]:
        return inspect.jobs(views, self._sought.queue, self._sought.status, self._cursor, count, self._effort)

    def _page(self, views: BrokerViews) -> JobPage:
        records = [inspect.job_record(view) for view in self._fitting]
        progress = views.progress([record["id"] for record in records])
        items = [JobRecord(**record, progress=said) for record, said in zip(records, progress, strict=True)]
        return JobPage(items, sealed(self._cursor))


def sealed(inner: str) -> str:
    """Return a cursor as clients get it: opaque, and as it is in an URL."""
    return base64.urlsafe_b64encode(inner.encode()).decode().rstrip("=")


def opened(cursor: str) -> str:
    """Return the cursor inside; raises InvalidArguments where no page gave it."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise wrong_cursor(cursor) from None
