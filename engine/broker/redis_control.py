"""The third port of the broker on a server: pausing, cancelling, progress, and listening to the control channels.

What must be decided at one moment is decided in a script; a batch travels in one exchange. Safe from any thread. Owns
the listening threads that `hear` started, until they are told to end.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from redis.exceptions import OutOfMemoryError

from headrace.config import limits
from headrace.config.logs import logger
from headrace.jobs import codec, ids
from headrace.jobs.cancellation import unstarted_record
from headrace.jobs.events import pack_jobs, pack_notice, pieces_of_jobs

from ..observe.seldom import Seldom
from ..redisio.connections import Command, raise_first
from ..redisio.keys import GROUP, RETURNED
from ..redisio.listening import Listener
from ..redisio.scripts import run, script
from .control import LOOK, MARK_TTL_S, MARKS_COUNT, PAUSE, PROGRESS_TTL_S, RESUME, Hear
from .events import stream_max_count
from .redis_views import RedisViews
from .views import JobView, Progress, pack_progress

seldom = Seldom(logger("headrace.redis"))


class RedisControl(RedisViews):
    """BrokerControl on a server."""

    waits = True
    result_ttl_s: float = limits.RESULT_TTL_S

    def pause(self, queue: str, paused: bool) -> bool:
        """Have workers leave a queue alone, or take from it again; return whether it ever had a job or a worker."""
        keys = self._names.of(queue)
        word, told = (PAUSE, "queue.paused") if paused else (RESUME, "queue.resumed")
        data = pack_notice(told)
        four = (keys.meta, keys.control, keys.events, keys.jobs)
        call = script("pause").call(four, word, stream_max_count(data), data)
        # One that is only resumed is nothing to list: its name may be misspelt.
        listing: list[Command] = [(b"SADD", self._names.queues, queue)] if paused else []
        replies = run(self._wires, [call, *listing])
        # At maxmemory no name is added to the list; a queue that has jobs is in it.
        raise_first(replies[:1] if isinstance(replies[-1], OutOfMemoryError) else replies, self._where)
        return bool(replies[0])

    def cancel(self, jobs: Sequence[JobView], *, only_waiting: bool = False, why: str = "cancelled") -> list[bool]:
        """Cancel jobs: those that wait end here, those that run are marked and their workers told."""
        places: dict[str, list[int]] = {}
        for i, view in enumerate(jobs):
            places.setdefault(view.queue, []).append(i)
        mark_ms = 0 if only_waiting else MARK_TTL_S * 1000
        calls = [self._cancel_call(queue, [jobs[i] for i in each], mark_ms, why) for queue, each in places.items()]
        answers = [False] * len(jobs)
        for indexes, reply in zip(places.values(), self._run(calls), strict=True):
            for i, answer in zip(indexes, reply, strict=True):
                answers[i] = answer > 0
        return answers

    def _cancel_call(self, queue: str, jobs: Sequence[JobView], mark_ms: int, why: str) -> Command:
        """Return the command that cancels jobs of one queue, and tells of those that end by it."""
        keys, now_ms, ttl_ms = self._names.of(queue), time.time_ns() // 1_000_000, round(self.result_ttl_s * 1000)
        job_ids = [view.id for view in jobs]
        pieces = pieces_of_jobs("job.cancelled", job_ids)
        arguments: list[bytes | str | int] = []
        for view, packed_id in zip(jobs, pieces.ids, strict=True):
            parsed = ids.parse(view.id)
            entry = "" if parsed is None or parsed.delayed else parsed.entry
            record, kept_ms = unstarted_record(view.body, now_ms=now_ms, default_ttl_ms=ttl_ms, why=why)
            arguments += (view.id, entry, record, kept_ms, *codec.keys_in(view.body), packed_id)
        queue_keys = (keys.jobs, keys.delayed, keys.bodies, keys.index, keys.cancelled, keys.result)
        eleven = (*queue_keys, keys.control, keys.meta, keys.unique, keys.caller, keys.events)
        # By the size that the batch has when all of them end by this.
        kept_count = stream_max_count(pack_jobs("job.cancelled", job_ids))
        return script("cancel").call(eleven, GROUP, RETURNED, mark_ms, kept_count, pieces.head, pieces.tail, *arguments)

    def marks(self, queues: Sequence[str]) -> list[str]:
        """Return the ids of running jobs that are to be cancelled; marks that stood too long go."""
        look = script("marks")
        found = self._run([look.call((self._names.of(queue).cancelled,), MARKS_COUNT) for queue in queues])
        return [mark.decode() for marks in found for mark in marks]

    def progress_put(self, values: Mapping[str, Progress]) -> None:
        """Keep how far jobs are."""
        self._run(list(self._progress_commands(values)))

    def say(self, queues: Sequence[str], word: str) -> int:
        """Say a word on some control channels."""
        return sum(self._run([(b"PUBLISH", self._names.of(queue).control, word) for queue in queues]))

    def hear(self, queues: Sequence[str], hear: Hear) -> Callable[[], None]:
        """Listen in a thread with a connection of its own until what is returned is called."""
        channels = {self._names.of(queue).control: queue for queue in queues}

        def failed(error: Exception) -> None:
            seldom.warning("not listening", then="what is asked is obeyed up to a second later", error=str(error))

        def connected() -> None:
            for queue in queues:
                hear(queue, LOOK)

        listener = Listener(
            self._where, tuple(channels), lambda channel, word: hear(channels[channel], word), connected, failed
        )
        listener.start()
        return listener.stop

    def _progress_commands(self, values: Mapping[str, Progress]) -> Iterator[Command]:
        for job_id, progress in values.items():
            if (parsed := ids.parse(job_id)) is not None:
                key = self._names.of(parsed.queue).progress + job_id.encode()
                yield (b"SET", key, pack_progress(progress), b"EX", PROGRESS_TTL_S)
