"""The third port of a broker: what operators and producers ask of queues and jobs that are there already.

Pausing, cancelling, progress, and the word that reaches every worker of a queue at once. Rare verbs, synchronous as the
others; none is on the way of a job. What is promised of them is in tests/conformance/test_broker_control.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from headrace.jobs.results import missing

from .events import EventStreams
from .port import Broker
from .views import BrokerViews, JobView, Progress

#: The words on a queue's control channel; `CANCEL` is followed by a space and the job's id, `QUIET` and `STOP` by a
#: space and the id of the worker that is meant.
CANCEL: Final = "cancel"
QUIET: Final = "quiet"
STOP: Final = "stop"
PAUSE: Final = "pause"
RESUME: Final = "resume"
#: Jobs were given back: whoever has room may sweep at once.
RETURNED: Final = "returned"
#: Words may have been missed, so look at marks and pauses; said of every queue after each connecting.
LOOK: Final = "look"

#: Called with a queue and a word, from any thread; must be short and must not raise.
Hear = Callable[[str, str], None]

#: How long a mark to cancel stands at most; it goes when its job ends, long before.
MARK_TTL_S: Final = 86_400
#: Marks of a queue that one look returns at most; the others come once these are gone.
MARKS_COUNT: Final = 500
#: How long the last progress of a job is kept.
PROGRESS_TTL_S: Final = 3600


class BrokerControl(BrokerViews, Protocol):
    """An operator's verbs for queues and jobs. Every verb raises BrokerUnavailable when the server is away.

    Attributes:
        waits: Whether verbs wait for a server; see Broker.
        result_ttl_s: Seconds for which the records are kept that `cancel` itself writes.
    """

    waits: bool
    result_ttl_s: float

    def pause(self, queue: str, paused: bool) -> bool:
        """Have the workers of a queue fetch no more from it, or again; what runs goes on, and so do submissions.

        Returns:
            Whether the queue ever had a job or a worker; pauses are none.
        """

    def cancel(self, jobs: Sequence[JobView], *, only_waiting: bool = False, why: str = "cancelled") -> list[bool]:
        """Cancel jobs, as `lookup` or `jobs` found them, at most 500.

        One that waits ends here and now, with a record, and its queue's stream tells so in the same step; one that runs
        is marked, and its worker is told.

        Args:
            jobs: What was found of them; where each is now is seen anew.
            only_waiting: Leave those alone that run; marks of those that have ended are taken away in any case.
            why: What the record says.

        Returns:
            For each, whether it was cancelled or told to stop; False when it has ended, or was left alone.
        """

    def marks(self, queues: Sequence[str]) -> list[str]:
        """Return the ids of jobs that run and are to be cancelled; a bounded number of each queue."""

    def progress_put(self, values: Mapping[str, Progress]) -> None:
        """Keep how far jobs are, by id, for PROGRESS_TTL_S."""

    def say(self, queues: Sequence[str], word: str) -> int:
        """Say a word on the control channels of some queues, where it may be lost; return how many listened."""

    def hear(self, queues: Sequence[str], hear: Hear) -> Callable[[], None]:
        """Have `hear` called with each word for these queues, until what is returned is called.

        Words are lost while the server is away; LOOK follows then.
        """


class OpenBroker(Broker, BrokerControl, Protocol):
    """A broker with all of its ports, as `open_broker` returns it."""

    @property
    def events(self) -> EventStreams:
        """Its streams of events, the fourth port."""


def cancel_one(control: BrokerControl, job_id: str) -> bool:
    """Cancel one job; return False when it has ended already.

    Raises:
        JobNotFound: there is no such job.
    """
    view = control.lookup([job_id])[0]
    if view is None:
        raise missing(job_id, existed=False)
    return control.cancel([view])[0]
