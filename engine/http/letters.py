"""Dead letters over HTTP: their records, and what the routes call.

Decides nothing, for that is in inspect and admin; bounds what one request may ask for. No state.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from headrace.jobs.disposition import DeadLetter
from headrace.jobs.editing import arguments_of
from headrace.jobs.letters import REASONS, dead_item

from .. import admin, inspect
from ..broker.courier import Courier
from ..broker.views import BrokerViews
from ..observe.fleet import HandlerCard
from .listing import PAGE_BYTES, TURNS_MAX_COUNT, opened, sealed

#: Letters that one request retries at most: well within a second of the server's time; whoever wants more asks again.
RETRY_MAX_COUNT: Final = 10_000
#: Ids that one request names at most: each is a round trip, for only so the answer says which were not there.
IDS_MAX_COUNT: Final = 500
PAGE_MAX_COUNT: Final = 1_000


class DeadBefore(msgspec.Struct, frozen=True):
    """The arguments that an edited job died with.

    Attributes:
        at_ms: When they were changed last, milliseconds since the epoch.
        args: By position.
        kwargs: By name.
    """

    at_ms: int
    args: Any
    kwargs: Any


class DeadItem(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was given up on.

    Attributes:
        id: The job's id.
        queue: Its queue.
        name: Its handler; empty when the entry could not be read.
        reason: "failed", "timed_out", "crashed", "refused", "invalid_arguments", "unknown_handler", "too_large" or
            "malformed".
        error: What was raised, or what is wrong with the entry.
        traceback: Where it was raised.
        attempts: Tries that were made.
        deliveries: Starts in all.
        died_at_ms: Milliseconds since the epoch.
        args: Its positional arguments; null where the entry cannot be read.
        kwargs: Its arguments by name; null where the entry cannot be read.
        raw_base64: The entry's bytes.
        edited: What it died with, once it was edited; null before.
    """

    id: str
    queue: str
    name: str
    reason: str
    error: str
    traceback: str
    attempts: int
    deliveries: int
    died_at_ms: int
    args: Any
    kwargs: Any
    raw_base64: str
    edited: DeadBefore | None


class DeadPage(msgspec.Struct, frozen=True):
    """Some dead letters.

    Attributes:
        items: Those of this page, the newest first in each queue.
        cursor: Where the next page begins; empty when this is the last.
    """

    items: list[DeadItem]
    cursor: str


class DeadEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other arguments for a dead job; what is left out stays as it is.

    Attributes:
        args: Positional arguments.
        kwargs: Arguments by name.
    """

    args: list[Any] | msgspec.UnsetType = msgspec.UNSET
    kwargs: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class DeadRetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead jobs to queue again: those of `ids`, or with `all` those that the other fields choose.

    Attributes:
        ids: Jobs, at most 500.
        all: Every dead job, or all that queue, reason and name choose.
        queue: Only those of this queue.
        reason: Only those with this reason.
        name: Only those of this handler.
        limit: The most, the newest first.
    """

    ids: Annotated[list[str], Meta(max_length=IDS_MAX_COUNT)] = []
    all: bool = False
    queue: str | None = None
    reason: Annotated[str | None, Meta(extra_json_schema={"enum": [*REASONS, None]})] = None
    name: str | None = None
    limit: Annotated[int, Meta(ge=1, le=RETRY_MAX_COUNT)] = 1_000

    def __post_init__(self) -> None:
        """Refuse what chooses twice, or nothing."""
        if self.all == bool(self.ids):
            raise ValueError("give ids, or all: true")
        if self.ids and (self.queue or self.reason or self.name):
            raise ValueError("queue, reason and name choose among all; ids are exact already")


class DeadRetried(msgspec.Struct, frozen=True):
    """What a retry did.

    Attributes:
        retried: Jobs that are queued again.
        missing: Ids of which there was no dead letter.
    """

    retried: int
    missing: list[str]


class Letters:
    """One serving process's way to the dead letters; every method raises BrokerUnavailable when the server is away.

    Args:
        views: The broker's second port.
        courier: Carries blocking calls.
        max_payload_bytes: The setting.
        cards: Returns the handlers that workers publish.
    """

    def __init__(
        self,
        views: BrokerViews,
        courier: Courier,
        max_payload_bytes: int,
        cards: Callable[[], Awaitable[Mapping[str, HandlerCard]]],
    ) -> None:
        self._views = views
        self._courier = courier
        self._max_bytes = max_payload_bytes
        self._cards = cards

    async def page(self, queue: str | None, cursor: str, limit: int) -> DeadPage:
        """Return a page of dead letters."""
        effort = inspect.Effort(TURNS_MAX_COUNT, PAGE_BYTES)
        letters, after = await self._courier.call(inspect.dead, self._views, queue, opened(cursor), limit, effort)
        return DeadPage([_item(letter) for letter in letters], sealed(after))

    async def show(self, job_id: str) -> DeadItem:
        """Return one; raises JobNotFound."""
        return _item(await self._courier.call(inspect.dead_letter, self._views, job_id))

    async def edit(self, job_id: str, change: DeadEdit) -> DeadItem:
        """Give a dead job other arguments.

        Raises:
            JobNotFound: there is no such letter, or not any more.
            InvalidArguments: the arguments do not fit its handler, or the letter holds no job.
            PayloadTooLarge: they take more than `max_payload`.
        """
        letter = await self._courier.call(inspect.dead_letter, self._views, job_id)
        args, kwargs = arguments_of(letter)
        args = args if isinstance(change.args, msgspec.UnsetType) else change.args
        kwargs = kwargs if isinstance(change.kwargs, msgspec.UnsetType) else change.kwargs
        card = (await self._cards()).get(letter.name)
        if card is not None:
            inspect.check_arguments(letter.name, card, args, kwargs)
        now_ms, most = time.time_ns() // 1_000_000, self._max_bytes
        edit = partial(admin.dead_edit, now_ms=now_ms, max_payload_bytes=most)
        return _item(await self._courier.call(edit, self._views, letter, args, kwargs))

    async def drop(self, job_id: str) -> None:
        """Forget one for good; raises JobNotFound."""
        handled = await self._courier.call(admin.dead_drop, self._views, [job_id])
        if handled.missing:
            await self._courier.call(inspect.dead_letter, self._views, job_id)

    async def retry(self, asked: DeadRetry) -> DeadRetried:
        """Queue dead jobs again; raises InvalidArguments where no job can be dead for the reason, or no queue be so."""
        if asked.ids:
            handled = await self._courier.call(admin.dead_retry, self._views, asked.ids)
        else:
            choice = admin.Choice(queue=asked.queue, reason=asked.reason, name=asked.name, limit=asked.limit)
            handled = await self._courier.call(admin.dead_retry_all, self._views, choice)
        return DeadRetried(handled.count, list(handled.missing))


def _item(letter: DeadLetter) -> DeadItem:
    fields = dead_item(letter)
    if fields["edited"] is not None:
        fields["edited"] = DeadBefore(**fields["edited"])
    return DeadItem(**fields)
