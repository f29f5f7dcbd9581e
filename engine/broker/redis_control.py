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
from headrace.jobs.events import pack_notice

from ..observe.seldom import Seldom
from ..redisio.connections import Command, raise_first
from ..redisio.keys import GROUP, RETURNED
from ..redisio.listening import Listener
from ..redisio.scripts import run, script
from .control import LOOK, MARK_TTL_S, MARKS_COUNT, PAUSE, PROGRESS_TTL_S, RESUME, Hear
from .events import cancelled_batches
from .redis_events import RedisEvents
from .redis_views import RedisViews
from .views import JobView, Progress, pack_progress

seldom = Seldom(logger("headrace.redis"))


class RedisControl(RedisViews):
    """BrokerControl on a server.

    Attributes:
        events: Where it tells of what it did.
    """

    events: RedisEvents
    waits = True
    result_ttl_s: float = limits.RESULT_TTL_S

    def pause(self, queue: str, paused: bool) -> None:
        """Have workers leave a queue alone, or take from it again."""
        keys = self._names.of(queue)
        word = PAUSE if paused else RESUME
        replies = run(
            self._wires,
            [script("pause").call((keys.meta, keys.control), word), (b"SADD", self._names.queues, queue)],
        )
        self.events.announce((queue,), pack_notice("queue.paused" if paused else "queue.resumed"))
        # At maxmemory no name is added to the list; a queue that has jobs is in it.
        raise_first(replies[:1] if isinstance(replies[1], OutOfMemoryError) else replies, self._where)

    def cancel(self, jobs: Sequence[JobView], *, only_waiting: bool = False, why: str = "cancelled") -> list[bool]:
        """Cancel jobs: those that wait end here, those that run are marked and their workers told."""
        call, now_ms, ttl_ms = script("cancel").call, time.time_ns() // 1_000_000, round(self.result_ttl_s * 1000)
        commands: list[Command] = []
        for view in jobs:
            keys, job_id, parsed = self._names.of(view.queue), view.id.encode(), ids.parse(view.id)
            record, kept_ms = unstarted_record(view.body, now_ms=now_ms, default_ttl_ms=ttl_ms, why=why)
            entry = "" if parsed is None or parsed.delayed else parsed.entry
            six = (keys.jobs, keys.delayed, keys.bodies, keys.index, keys.cancelled, keys.result + job_id)
            mark_ms = 0 if only_waiting else MARK_TTL_S * 1000
            ten = (*six, keys.control, keys.meta, keys.unique, keys.caller)
            unique, caller_id = codec.keys_in(view.body)
            commands.append(
                call(ten, job_id, entry, GROUP, RETURNED, record, kept_ms, mark_ms, unique, caller_id),
            )
        replies = self._run(commands)
        ended = [(view.queue, view.id) for view, reply in zip(jobs, replies, strict=True) if reply == 1]
        for queue, told in cancelled_batches(ended).items():
            self.events.announce((queue,), told)
        return [reply > 0 for reply in replies]

    def marks(self, queues: Sequence[str]) -> list[str]:
        """Return the ids of running jobs that are to be cancelled; marks that stood too long go."""
        keys = [self._names.of(queue).cancelled for queue in queues]
        found = self._run([(b"ZRANGE", key, 0, MARKS_COUNT - 1) for key in keys])
        now_ms = time.time_ns() // 1_000_000
        self._run([
            (b"ZREMRANGEBYSCORE", key, b"-inf", now_ms) for key, marks in zip(keys, found, strict=True) if marks
        ])  # fmt: skip
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
