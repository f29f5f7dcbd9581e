"""Listing jobs that have not ended, page by page: by queue, state and handler's name.

The server cannot choose by name, so large pages are read and sifted. One request takes a bounded number of looks at the
server, and of bytes: a page may hold fewer than were asked for, even none, and still be followed by another. A cursor
is opaque to clients. No state.
"""

import base64
import binascii
from typing import Any, Final

import msgspec

from headrace.jobs.ids import check_queue
from headrace.jobs.states import State

from .. import inspect
from ..broker.views import BrokerViews, wrong_cursor
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


def page_of(views: BrokerViews, sought: Sought, cursor: str) -> JobPage:
    """Return a page; blocks.

    Raises:
        InvalidArguments: the cursor is none that a page gave, or no queue has such a name.
        BrokerUnavailable: the server is away.
    """
    if sought.queue is not None:
        check_queue(sought.queue)
    inner = opened(cursor)
    if sought.name is None:
        effort = inspect.Effort(TURNS_MAX_COUNT, PAGE_BYTES)
        found, inner = inspect.jobs(views, sought.queue, sought.status, inner, sought.limit, effort)
        shown = [inspect.job_record(view) for view in found]
    else:
        shown, inner = _sifted(views, sought, inner)
    progress = views.progress([record["id"] for record in shown])
    return JobPage(
        [JobRecord(**record, progress=said) for record, said in zip(shown, progress, strict=True)], sealed(inner)
    )


def _sifted(views: BrokerViews, sought: Sought, cursor: str) -> tuple[list[dict[str, Any]], str]:
    """Return records with the name that is sought, and where to go on."""
    effort = inspect.Effort(TURNS_MAX_COUNT)
    fitting: list[dict[str, Any]] = []
    while True:
        found, cursor = inspect.jobs(views, sought.queue, sought.status, cursor, SIFT_PAGE_COUNT, effort)
        for position, view in enumerate(found, 1):
            record = inspect.job_record(view)
            if record["name"] == sought.name:
                fitting.append(record)
                if len(fitting) == sought.limit:
                    return fitting, cursor if position == len(found) else inspect.cursor_after(view)
        if not cursor or effort.is_spent:
            return fitting, cursor


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
