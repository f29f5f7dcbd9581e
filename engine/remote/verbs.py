"""The verbs of `headrace.Client` for whoever looks and operates: one line each, over the calls.

No state beside the client's options; `call` is the client's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..broker.views import QueueView
from ..http.letters import DeadItem, DeadPage, DeadRetried
from ..http.listing import JobPage
from ..http.records import JobRecord
from ..observe.fleet import WorkerView
from ..observe.statistics import Statistics
from . import calls
from .options import ClientOptions
from .wire import Call

T = TypeVar("T")


class Verbs:
    """What a client asks and tells beside submitting; all raise BrokerUnavailable when the API or its server is away.

    Attributes:
        options: The client's.
    """

    options: ClientOptions

    def job(self, job_id: str) -> JobRecord:
        """Return what is known of a job; raises JobNotFound, and ResultUnavailable where its record is gone."""
        return self.call(calls.job(self.options, job_id))

    def jobs(
        self,
        queue: str | None = None,
        status: str | None = None,
        name: str | None = None,
        *,
        cursor: str = "",
        limit: int = 100,
    ) -> JobPage:
        """Return a page of the jobs that have not ended; its `cursor` leads to the next, "" where there is none."""
        return self.call(calls.jobs(self.options, queue=queue, status=status, name=name, cursor=cursor, limit=limit))

    def retry(self, job_id: str) -> bool:
        """Queue a dead job again; False when it is not dead. Raises JobNotFound."""
        return self.call(calls.retry(self.options, job_id))

    def queues(self) -> list[QueueView]:
        """Return every queue: how full it is, how many workers read it, whether it is paused."""
        return self.call(calls.queues(self.options))

    def pause(self, queue: str) -> QueueView:
        """Have workers leave a queue alone; what runs goes on."""
        return self.call(calls.queue_verb(self.options, queue, "pause"))

    def resume(self, queue: str) -> QueueView:
        """Have workers take jobs of a queue again."""
        return self.call(calls.queue_verb(self.options, queue, "resume"))

    def purge(self, queue: str) -> int:
        """End the jobs of a queue that wait, as cancelled; return how many."""
        return self.call(calls.purge(self.options, queue))

    def workers(self) -> list[WorkerView]:
        """Return the workers that are there."""
        return self.call(calls.workers(self.options))

    def stats(self) -> Statistics:
        """Return the statistics of all workers and queues."""
        return self.call(calls.stats(self.options))

    def dead(self, queue: str | None = None, *, cursor: str = "", limit: int = 100) -> DeadPage:
        """Return a page of dead jobs, the newest first in each queue."""
        return self.call(calls.dead(self.options, queue=queue, cursor=cursor, limit=limit))

    def dead_letter(self, job_id: str) -> DeadItem:
        """Return one dead job: its reason, traceback and arguments. Raises JobNotFound."""
        return self.call(calls.dead_letter(self.options, job_id))

    def dead_edit(
        self, job_id: str, *, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> DeadItem:
        """Give a dead job other arguments; what is None stays. Raises JobNotFound and InvalidArguments."""
        return self.call(calls.dead_edit(self.options, job_id, args, kwargs))

    def dead_retry(
        self,
        ids: Sequence[str] | None = None,
        *,
        queue: str | None = None,
        reason: str | None = None,
        name: str | None = None,
        limit: int = 1000,
    ) -> DeadRetried:
        """Queue dead jobs again: those of `ids`, or without, what the other arguments choose of all."""
        return self.call(calls.dead_retry(self.options, ids, queue=queue, reason=reason, name=name, limit=limit))

    def dead_drop(self, job_id: str) -> None:
        """Forget a dead job for good. Raises JobNotFound."""
        self.call(calls.dead_drop(self.options, job_id))

    def call(self, steps: Call[T]) -> T:
        """Carry out a call."""
        raise NotImplementedError
