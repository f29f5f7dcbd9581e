"""The third port of the memory broker: pausing, cancelling, progress, and words to whoever listens.

Changes what memory_state.py holds, under its lock; words are said without the lock, in the thread of whoever caused
them. Owns no state.
"""

from collections.abc import Callable, Mapping, Sequence

from headrace.config import limits
from headrace.jobs.cancellation import unstarted_record
from headrace.jobs.events import pack_jobs, pack_notice

from .control import CANCEL, MARK_TTL_S, MARKS_COUNT, PAUSE, PROGRESS_TTL_S, RESUME, Hear
from .memory_state import MemoryQueue
from .memory_views import MemoryViews
from .views import JobView, Progress


class MemoryControl(MemoryViews):
    """BrokerControl on a MemoryState."""

    waits = False
    result_ttl_s: float = limits.RESULT_TTL_S

    def pause(self, queue: str, paused: bool) -> bool:
        """Have workers leave a queue alone, or take from it again; return whether it ever had a job or a worker."""
        with self._access.verb("pause") as (state, now_ms):
            there = state.queue(queue)
            there.paused = paused
            was_used = there.had_job or there.had_worker
            state.events.add(queue, pack_notice("queue.paused" if paused else "queue.resumed"), now_ms)
        self._say(queue, PAUSE if paused else RESUME)
        return was_used

    def cancel(self, jobs: Sequence[JobView], *, only_waiting: bool = False, why: str = "cancelled") -> list[bool]:
        """Cancel jobs: those that wait end here, those that run are marked and their workers told."""
        told: list[JobView] = []
        ended: dict[str, list[str]] = {}
        answers: list[bool] = []
        default_ttl_ms = round(self.result_ttl_s * 1000)
        with self._access.verb("cancel") as (state, now_ms):
            for view in jobs:
                queue = state.queue(view.queue)
                job = queue.jobs.get(view.id)
                if job is not None and job.source is not None and not only_waiting:
                    queue.marks.put(view.id, True, now_ms + MARK_TTL_S * 1000)
                    told.append(view)
                    answers.append(True)
                elif job is not None and job.source is None:
                    record, ttl_ms = unstarted_record(job.body, now_ms=now_ms, default_ttl_ms=default_ttl_ms, why=why)
                    queue.withdraw(job, now_ms, ttl_ms)
                    if record:
                        state.results.put(view.id, record, now_ms + ttl_ms)
                    ended.setdefault(view.queue, []).append(view.id)
                    answers.append(True)
                else:
                    answers.append(False)
                if job is None or job.source is None:
                    queue.marks.pop(view.id, now_ms)
            for name, job_ids in ended.items():
                state.events.add(name, pack_jobs("job.cancelled", job_ids), now_ms)
        for view in told:
            self._say(view.queue, f"{CANCEL} {view.id}")
        return answers

    def marks(self, queues: Sequence[str]) -> list[str]:
        """Return the ids of running jobs that are to be cancelled."""
        with self._access.verb("marks") as (state, now_ms):
            there = [state.queues[name] for name in queues if name in state.queues]
            return [job_id for queue in there for job_id in _first_marks(queue, now_ms)]

    def progress_put(self, values: Mapping[str, Progress]) -> None:
        """Keep how far jobs are."""
        with self._access.verb("progress_put") as (state, now_ms):
            for job_id, progress in values.items():
                state.progress.put(job_id, progress, now_ms + PROGRESS_TTL_S * 1000)

    def say(self, queues: Sequence[str], word: str) -> int:
        """Say a word to whoever listens."""
        return sum(self._say(queue, word) for queue in queues)

    def hear(self, queues: Sequence[str], hear: Hear) -> Callable[[], None]:
        """Have `hear` called with each word for these queues until what is returned is called."""
        ear = (tuple(queues), hear)
        with self._access.verb("hear") as (state, _):
            state.ears.append(ear)

        def stop() -> None:
            with self._access.verb("hear") as (state, _):
                if ear in state.ears:
                    state.ears.remove(ear)

        return stop

    def _say(self, queue: str, word: str) -> int:
        heard = [hear for queues, hear in tuple(self._access.state.ears) if queue in queues]
        for hear in heard:
            hear(queue, word)
        return len(heard)


def _first_marks(queue: MemoryQueue, now_ms: int) -> list[str]:
    queue.marks.purge(now_ms)
    return [job_id for job_id, _ in queue.marks.items(now_ms)][:MARKS_COUNT]
