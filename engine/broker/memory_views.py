"""The views of the memory broker: lookups, depths, pages of jobs and dead letters, and the operator's verbs.

Reads what memory_state.py holds under its lock and hands out frozen records. Changes nothing but dead letters and
the reports of the fleet. Owns no state.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from headrace.config import limits
from headrace.jobs import codec, ids
from headrace.jobs.codec import ResultRecord
from headrace.jobs.disposition import DeadLetter, pack_letter, unpack_letter
from headrace.jobs.letters import is_letter, letter_of, record_of
from headrace.jobs.states import State

from .memory_access import Access
from .memory_state import Job, MemoryQueue, MemoryState
from .views import SILENT_KEPT_S, JobView, PackedLetter, Progress, QueueView, wrong_cursor


class MemoryViews:
    """BrokerViews on a MemoryState."""

    dead_ttl_s: float = limits.DEAD_TTL_S

    def __init__(self, access: Access) -> None:
        self._access = access

    def lookup(self, job_ids: Sequence[str]) -> list[JobView | None]:
        """Return what is known of each job; None for ids that never were."""
        with self._access.verb("lookup") as (state, now_ms):
            return [_find(state, job_id, now_ms) for job_id in job_ids]

    def records(self, job_ids: Sequence[str]) -> list[ResultRecord | None]:
        """Return the result records that are there."""
        with self._access.verb("records") as (state, now_ms):
            found = [state.results.get(_own_id(state, job_id, now_ms), now_ms) for job_id in job_ids]
        return codec.unpack_records(found)

    def alive(self, job_ids: Sequence[str]) -> list[bool]:
        """Return for each job whether it is there and has yet to end."""
        with self._access.verb("alive") as (state, _):
            pairs = [(_queue_of(state, job_id), job_id) for job_id in job_ids]
            return [queue is not None and job_id in queue.jobs for queue, job_id in pairs]

    def progress(self, job_ids: Sequence[str]) -> list[Progress | None]:
        """Return how far each job says that it is."""
        with self._access.verb("progress") as (state, now_ms):
            return [state.progress.get(job_id, now_ms) for job_id in job_ids]

    def queue_names(self) -> list[str]:
        """Return the queues that ever had a job, sorted."""
        with self._access.verb("queue_names") as (state, _):
            return sorted(name for name, queue in state.queues.items() if queue.had_job or queue.paused)

    def queues(self, names: Sequence[str]) -> list[QueueView]:
        """Return depths of the named queues."""
        with self._access.verb("queues") as (state, now_ms):
            return [_depths(state, name, now_ms) for name in names]

    def jobs(self, queue: str, state: State | None, cursor: str, limit: int) -> tuple[list[JobView], str]:
        """Return a page of jobs that have not ended, oldest first, and the cursor of the next; "" when there is none.

        Args:
            queue: Name of the queue.
            state: Only jobs in it; None for all.
            cursor: Where the page before ended; "" for the first.
            limit: The most that a page holds, at least 1.
        """
        if cursor and ids.parse(cursor) is None:  # so it has the form of an id, if not one that was given here
            raise wrong_cursor(cursor)
        after = _age_key(cursor) if cursor else (0, False, -1)
        with self._access.verb("jobs") as (memory, _):
            there = memory.queues.get(queue)
            fitting = [job for job in _jobs_in(there, state) if _age_of(job) > after] if there else []
            fitting.sort(key=_age_of)  # they lie nearly so, which makes it a matter of a few milliseconds
            page = fitting[: limit + 1]
            views = [_live(queue, job, job.id) for job in page[:limit]]
        return views, views[-1].id if len(page) > limit else ""

    def dead(self, queue: str, cursor: str, limit: int) -> tuple[list[DeadLetter], str]:
        """Return a page of dead letters, newest first, and the cursor of the next; "" when there is none."""
        if cursor and not (cursor.isascii() and cursor.isdigit()):
            raise wrong_cursor(cursor)
        with self._access.verb("dead") as (state, now_ms):
            there = state.queues.get(queue)
            page: list[tuple[int, str, bytes]] = []
            before = int(cursor) if cursor else float("inf")
            for job_id, (number, letter) in there.dead.items(now_ms) if there else ():
                if number < before:
                    page.append((number, job_id, letter))
                if len(page) > limit:
                    break
        found = [letter_of(queue, job_id, data) for _, job_id, data in page[:limit]]
        return found, str(page[limit - 1][0]) if page[limit:] else ""

    def dead_letter(self, job_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        with self._access.verb("dead_letter") as (state, now_ms):
            own = _own_id(state, job_id, now_ms)
            there = _queue_of(state, own)
            found = there.dead.get(own, now_ms) if there else None
        return letter_of(own.partition(":")[0], own, found[1]) if found else None

    def dead_edit(self, letter: DeadLetter) -> bool:
        """Put an edited letter in the place of the one that died at the same time; False when that is not there."""
        with self._access.verb("dead_edit") as (state, now_ms):
            there = _queue_of(state, letter.id)
            found = there.dead.get(letter.id, now_ms) if there else None
            if there is None or found is None or not is_letter(found[1]):
                return False
            if unpack_letter(found[1]).died_at_ms != letter.died_at_ms:
                return False
            there.dead.replace(letter.id, (found[0], pack_letter(letter)))
            return True

    def dead_retry(self, job_ids: Sequence[str]) -> int:
        """Queue dead jobs again under their ids, with all their attempts; return how many were there."""
        count = 0
        with self._access.verb("dead_retry") as (state, now_ms):
            for job_id in [_own_id(state, each, now_ms) for each in job_ids]:
                there = _queue_of(state, job_id)
                found = there.dead.get(job_id, now_ms) if there else None
                if there and found and is_letter(found[1]):
                    there.dead.pop(job_id, now_ms)
                    state.results.pop(job_id, now_ms)
                    there.append_again(job_id, codec.as_new(unpack_letter(found[1]).body), now_ms)
                    count += 1
            state.jobs_came = count > 0
        return count

    def dead_drop(self, job_ids: Sequence[str]) -> int:
        """Forget dead letters; return how many were there."""
        with self._access.verb("dead_drop") as (state, now_ms):
            own = [_own_id(state, job_id, now_ms) for job_id in job_ids]
            return sum(_remove(_queue_of(state, each), PackedLetter("", each, b""), now_ms) for each in own)

    def dead_beyond(self, queues: Sequence[str], keep: int, worker: str) -> list[PackedLetter]:
        """Return the oldest dead letters beyond the newest `keep` of each queue, for this worker to export."""
        found: list[PackedLetter] = []
        with self._access.verb("dead_beyond") as (state, now_ms):
            for name in queues:
                there = state.queues.get(name)
                found += _beyond(there, keep, worker, now_ms) if there is not None else ()
        return found

    def dead_remove(self, letters: Sequence[PackedLetter]) -> list[bool]:
        """Forget letters, each if it still is the same; return for each whether it was there and unchanged."""
        with self._access.verb("dead_remove") as (state, now_ms):
            return [_remove(state.queues.get(letter.queue), letter, now_ms) for letter in letters]

    def prepare(self) -> None:
        """Nothing is needed here but that it was not closed."""
        with self._access.verb("prepare"):
            pass

    def fleet_put(self, worker: str, report: bytes, ttl_s: float) -> None:
        """Publish what a worker says of itself, for `ttl_s` seconds; empty bytes take it back."""
        with self._access.verb("fleet_put") as (state, now_ms):
            if report:
                ends_ms = now_ms + round(ttl_s * 1000)
                state.fleet.put(worker, report, ends_ms)
                state.fleet_last.put(worker, report, ends_ms + round(SILENT_KEPT_S * 1000))
            else:
                state.fleet.pop(worker, now_ms)
                state.fleet_last.pop(worker, now_ms)

    def fleet(self) -> dict[str, bytes]:
        """Return what the workers that are there say of themselves."""
        with self._access.verb("fleet") as (state, now_ms):
            return dict(sorted(state.fleet.items(now_ms)))

    def silent(self) -> dict[str, bytes]:
        """Return the last words of workers that fell silent."""
        with self._access.verb("silent") as (state, now_ms):
            there = dict(state.fleet.items(now_ms))
            return dict(sorted(each for each in state.fleet_last.items(now_ms) if each[0] not in there))


def _queue_of(state: MemoryState, job_id: str) -> MemoryQueue | None:
    return state.queues.get(job_id.partition(":")[0])


def _beyond(queue: MemoryQueue, keep: int, worker: str, now_ms: int) -> list[PackedLetter]:
    queue.dead.purge(now_ms)
    if len(queue.dead) <= keep:
        return []
    standing = [PackedLetter(queue.name, job_id, data) for job_id, (_, data) in queue.dead.items(now_ms)]
    beyond = standing[keep:][::-1]  # they come the newest first
    exporter, until_ms = queue.exporter
    claim_ms = round(limits.DEAD_CLAIM_S * 1000)
    if not beyond or (exporter != worker and now_ms < until_ms <= now_ms + claim_ms):
        return []
    queue.exporter = (worker, now_ms + claim_ms)
    sizes = accumulate(len(letter.data) for letter in beyond[: limits.DEAD_EXPORT_COUNT])
    fitting = sum(size_bytes <= limits.DEAD_EXPORT_BYTES for size_bytes in sizes)
    return beyond[: max(1, fitting)]


def _remove(queue: MemoryQueue | None, letter: PackedLetter, now_ms: int) -> bool:
    found = queue.dead.get(letter.id, now_ms) if queue else None
    if queue is None or found is None or (letter.data and found[1] != letter.data):
        return False
    return queue.dead.pop(letter.id, now_ms) is not None


def _own_id(state: MemoryState, job_id: str, now_ms: int) -> str:
    """Return the id of the job that its caller gave this one; any other id as it is."""
    found = ids.caller_id(job_id)
    queue = state.queues.get(found[0]) if found else None
    return (queue.called(found[1], now_ms) if found and queue else None) or job_id


def _find(state: MemoryState, job_id: str, now_ms: int) -> JobView | None:
    job_id = _own_id(state, job_id, now_ms)
    parsed = ids.parse(job_id)
    queue = state.queues.get(parsed.queue) if parsed else None
    if parsed is None or queue is None:
        return None
    if job := queue.jobs.get(job_id):
        return _live(queue.name, job)
    if packed := state.results.get(job_id, now_ms):
        record = codec.unpack_record(packed)
        return JobView(id=job_id, queue=queue.name, state=State(record.status), record=record)
    if buried := queue.dead.get(job_id, now_ms):
        told = record_of(letter_of(queue.name, job_id, buried[1]))
        return JobView(id=job_id, queue=queue.name, state=State.DEAD, record=told)
    return JobView(id=job_id, queue=queue.name, state=None) if queue.existed(parsed) else None


def _live(queue: str, job: Job, place: str = "") -> JobView:
    return JobView(
        id=job.id,
        queue=queue,
        state=job.state,
        body=job.body,
        due_at_ms=job.due_at_ms,
        deliveries=job.deliveries + job.interruptions,
        interruptions=job.interruptions,
        worker=job.source.member if job.source else "",
        place=place,
    )


def _depths(state: MemoryState, name: str, now_ms: int) -> QueueView:
    workers = sum(name in member.queues and not member.is_over(now_ms) for member in state.members.values())
    queue = state.queues.get(name)
    if queue is None:
        return QueueView(name=name, workers=workers)
    queue.dead.purge(now_ms)
    oldest = next(iter(queue.waiting), None)
    return QueueView(
        name=name,
        delayed=len(queue.later),
        queued=len(queue.waiting),
        running=len(queue.held),
        dead=len(queue.dead),
        oldest_age_s=max(0, now_ms - int(oldest.partition(b"-")[0])) / 1000 if oldest else 0.0,
        workers=workers,
        submitted=queue.submitted_count,
        paused=queue.paused,
    )


def _jobs_in(queue: MemoryQueue, state: State | None) -> Iterable[Job]:
    """Return the queue's jobs in that state, looking only where they can be."""
    if state is None:
        return queue.jobs.values()
    if state is State.QUEUED:
        return queue.waiting.values()
    if state is State.RUNNING:
        return queue.held.values()
    return (job for job in queue.later.values() if job.state is state)


def _age_of(job: Job) -> tuple[int, bool, int]:
    """Return the age key of a job; its id is taken apart once, for a page looks at every job of the queue."""
    if job.age is None:
        job.age = _age_key(job.id)
    return job.age


def _age_key(job_id: str) -> tuple[int, bool, int]:
    """Return what sorts the jobs of a queue by when they were submitted; the id is one that was given here."""
    at_ms, _, number = job_id.rpartition(":")[2].partition("-")
    delayed = number.startswith("d")
    return int(at_ms), delayed, int(number[delayed:])
