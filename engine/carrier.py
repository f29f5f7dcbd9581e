"""The carrier: a thread that takes single submissions to the broker, as many at a time as have come meanwhile.

It promises that each passenger is told its id or its error exactly once, whatever becomes of the coroutine that put it
in: the journey belongs to this thread, so a cancelled submitter holds nobody up. What waits is bounded by how many
coroutines submit at once. The thread is started by the first passenger and ends when the carrier is closed.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from headrace.config import limits
from headrace.jobs.errors import QueueFull
from headrace.workers import native
from headrace.workers.runners.portal import Portal

from .broker.port import Submission

Publish = Callable[[str, Sequence[Submission]], list[str]]


class Passenger:
    """A submission that waits for its id; made in an event loop, filled by the carrier's thread.

    Attributes:
        queue: Where it goes.
        submission: What goes.
        place: Where it is waited for; woken, in the loop, when `job_id` or `error` is there.
        job_id: The id, once it is added.
        error: Why it was not.
        abandoned: Set when nobody waits any more; one that has not left then stays behind.
    """

    __slots__ = ("abandoned", "error", "job_id", "place", "queue", "submission")

    def __init__(self, queue: str, submission: Submission, place: Any) -> None:
        self.queue = queue
        self.submission = submission
        self.place = place
        self.job_id: str | None = None
        self.error: Exception | None = None
        self.abandoned = False


class Carrier:
    """Takes passengers to a broker; made in the event loop of those who put them in.

    Args:
        publish: Adds a batch to a queue, all or none, and returns the ids; blocks.
        portal: The way back into the passengers' event loop.
    """

    def __init__(self, publish: Publish, portal: Portal) -> None:
        self._publish = publish
        self._portal = portal
        self._parking = native.parking()
        self._waiting: SimpleQueue[Passenger | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def carry(self, queue: str, submission: Submission) -> str:
        """Have a submission carried, and return its id, or raise why it was not added."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headrace-submit", daemon=True)
            self._thread.start()
        passenger = Passenger(queue, submission, self._parking.place())
        self._waiting.put(passenger)
        try:
            await self._parking.park(passenger.place)
        finally:
            passenger.abandoned = True
        if passenger.error is not None:
            raise passenger.error
        assert passenger.job_id is not None
        return passenger.job_id

    def close(self) -> None:
        """End the thread once all that was put in has been carried; returns at once."""
        self._waiting.put(None)

    def _run(self) -> None:
        going_on = True
        while going_on:
            first = self._waiting.get()
            if first is None:
                return
            batch = [first]
            size_bytes = len(first.submission.body)
            while len(batch) < limits.SUBMIT_BATCH_COUNT and size_bytes < limits.SUBMIT_BATCH_BYTES:
                try:
                    following = self._waiting.get_nowait()
                except Empty:
                    break
                if following is None:
                    going_on = False
                    break
                batch.append(following)
                size_bytes += len(following.submission.body)
            self._carry(batch)

    def _carry(self, batch: Sequence[Passenger]) -> None:
        by_queue: dict[str, list[Passenger]] = {}
        for passenger in batch:
            if not passenger.abandoned:
                by_queue.setdefault(passenger.queue, []).append(passenger)
        for queue, passengers in by_queue.items():
            self._add(queue, passengers)
            self._portal.post(partial(self._tell, passengers))

    def _add(self, queue: str, passengers: Sequence[Passenger]) -> None:
        try:
            ids = self._publish(queue, [passenger.submission for passenger in passengers])
        except QueueFull as error:
            if len(passengers) == 1:
                passengers[0].error = error
                return
            # There may be room for some: each tries alone, in order, and the first refusal stands for those behind.
            for position, passenger in enumerate(passengers):
                self._add(queue, [passenger])
                if passenger.error is not None:
                    for other in passengers[position + 1 :]:
                        other.error = passenger.error
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the submitters' to see, and this thread's to survive
            for passenger in passengers:
                passenger.error = error
        else:
            for passenger, job_id in zip(passengers, ids, strict=True):
                passenger.job_id = job_id

    def _tell(self, passengers: Sequence[Passenger]) -> None:
        for passenger in passengers:
            self._parking.wake(passenger.place)
