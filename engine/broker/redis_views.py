"""The views of the broker on a server: lookups, depths, pages of jobs and dead letters, and the operator's verbs.

What must be seen at one moment is read by one script; a batch of them travels in one exchange. Changes nothing but dead
letters and the reports of the fleet. Safe from any thread; owns no state.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from headrace.config import limits
from headrace.jobs import codec, ids
from headrace.jobs.codec import ResultRecord
from headrace.jobs.disposition import DeadLetter, pack_letter, unpack_letter
from headrace.jobs.letters import is_letter, letter_of, record_of
from headrace.jobs.states import State

from ..redisio.address import Address
from ..redisio.connections import Command, Wires, raise_first
from ..redisio.keys import GROUP, INTERRUPTION, RETURNED, Keys, results_place
from ..redisio.scripts import run, script, teach
from .redis_entries import read_fields
from .redis_records import alone, beside
from .views import SILENT_KEPT_S, JobView, PackedLetter, Progress, QueueView, unpack_progress, wrong_cursor

#: Jobs in one script that looks whether they are there: it reads their entries, which may be large.
_ALIVE_COUNT = 100
#: Bytes of jobs or letters in one page: some 10 ms of the server's time, in which it does nothing else.
PAGE_BYTES: Final = 4 * 1024 * 1024
#: Where the pages of `jobs` go on: among entries, or among jobs that wait for their time.
_ENTRIES, _LATER = "e", "l"
#: A place among members of a zset: a score, and a member; and the cursors of `jobs`.
_PLACE: Final = re.compile(r"\d[\d.e+]* .+", re.DOTALL)
_JOBS_CURSOR: Final = re.compile(rf"{_ENTRIES} \d+-\d+|{_LATER}(?: {_PLACE.pattern})?", re.DOTALL)


class RedisViews:
    """BrokerViews on a server.

    Args:
        wires: Connections for any thread.
        address: Where they lead, for messages.
        keys: The names of all keys.

    Attributes:
        dead_ttl_s: Seconds for which dead letters are kept.
    """

    dead_ttl_s: float = limits.DEAD_TTL_S

    def __init__(self, wires: Wires, address: Address, keys: Keys) -> None:
        self._wires = wires
        self._where = address
        self._names = keys

    def lookup(self, job_ids: Sequence[str]) -> list[JobView | None]:
        """Return what is known of each job; None for ids that never were."""
        job_ids = self._resolved(job_ids)
        look = script("lookup")
        parsed = [ids.parse(job_id) for job_id in job_ids]
        commands = []
        for job_id, parts in zip(job_ids, parsed, strict=True):
            if parts is not None:
                keys = self._names.of(parts.queue)
                each = (keys.jobs, keys.delayed, keys.bodies, keys.index, keys.meta)
                entry = "" if parts.delayed else parts.entry
                shared = keys.results + results_place(entry)[0].encode()
                named = (keys.result + job_id.encode(), keys.letter + job_id.encode(), shared)
                commands.append(look.call(each + named, job_id, entry, GROUP, RETURNED))
        replies = iter(self._run(commands))
        return [
            _view(job_id, parts, next(replies)) if parts else None
            for job_id, parts in zip(job_ids, parsed, strict=True)
        ]

    def records(self, job_ids: Sequence[str]) -> list[ResultRecord | None]:
        """Return the result records that are there.

        In one round trip those of plain jobs that are done; one more where others are among them, and one for callers'
        own ids.
        """
        job_ids = self._resolved(job_ids)
        packed: list[bytes | None] = [None] * len(job_ids)
        self._fill(packed, *beside(self._names, job_ids))
        if None in packed:
            rest = [i for i, data in enumerate(packed) if data is None]
            self._fill(packed, *alone(self._names, job_ids, rest))
        return codec.unpack_records(packed)

    def alive(self, job_ids: Sequence[str]) -> list[bool]:
        """Return for each job whether it is there and has yet to end, in one round trip, many in one script."""
        places: dict[str, list[tuple[int, str]]] = {}
        for i, job_id in enumerate(job_ids):
            if (parts := ids.parse(job_id)) is not None:
                places.setdefault(parts.queue, []).append((i, "" if parts.delayed else parts.entry))
        look, commands, asked = script("alive"), [], []
        for queue, every in places.items():
            keys = self._names.of(queue)
            for start in range(0, len(every), _ALIVE_COUNT):
                some = every[start : start + _ALIVE_COUNT]
                named = [text for i, entry in some for text in (job_ids[i], entry)]
                commands.append(look.call((keys.jobs, keys.delayed, keys.index), *named))
                asked.append(some)
        alive = [False] * len(job_ids)
        for some, reply in zip(asked, self._run(commands), strict=True):
            for (i, _), is_alive in zip(some, reply, strict=True):
                alive[i] = bool(is_alive)
        return alive

    def progress(self, job_ids: Sequence[str]) -> list[Progress | None]:
        """Return how far each job says that it is, in one round trip."""
        parsed = [ids.parse(job_id) for job_id in job_ids]
        keys = [
            self._names.of(parts.queue).progress + job_id.encode() if parts else b""
            for job_id, parts in zip(job_ids, parsed, strict=True)
        ]
        replies = iter(self._run([(b"GET", key) for key in keys if key]))
        return [unpack_progress(next(replies)) if key else None for key in keys]

    def queue_names(self) -> list[str]:
        """Return the queues that ever had a job or a worker, sorted."""
        return sorted(name.decode() for name in self._run([(b"SMEMBERS", self._names.queues)])[0])

    def queues(self, names: Sequence[str]) -> list[QueueView]:
        """Return depths of the named queues."""
        count, dead_ttl_ms = script("depths"), round(self.dead_ttl_s * 1000)
        every = [self._names.of(name) for name in names]
        replies = self._run([
            count.call((keys.jobs, keys.delayed, keys.dead, keys.workers, keys.meta), GROUP, RETURNED, dead_ttl_ms)
            for keys in every
        ])  # fmt: skip
        return [
            QueueView(
                name=name,
                delayed=delayed,
                queued=queued,
                running=running,
                dead=dead,
                oldest_age_s=max(0, age_ms) / 1000,
                workers=workers,
                submitted=submitted,
                paused=bool(paused),
            )
            for name, (delayed, queued, running, dead, age_ms, workers, submitted, paused) in zip(
                names, replies, strict=True
            )
        ]

    def jobs(self, queue: str, state: State | None, cursor: str, limit: int) -> tuple[list[JobView], str]:
        """Return a page of jobs that have not ended, and the cursor of the next; "" when there is none.

        Jobs with an entry come first, oldest first, then those that wait for their time, by due time.

        Args:
            queue: Name of the queue.
            state: Only jobs in it; None for all.
            cursor: Where the page before ended; "" for the first.
            limit: The most that a page holds, at least 1.
        """
        if cursor and not _JOBS_CURSOR.fullmatch(cursor):
            raise wrong_cursor(cursor)
        has_entry = state in {None, State.QUEUED, State.RUNNING}
        if not has_entry and state not in {State.DELAYED, State.RETRYING}:
            return [], ""
        where, _, after = cursor.partition(" ") if cursor else (_ENTRIES if has_entry else _LATER, "", "")
        views: list[JobView] = []
        if where == _ENTRIES:
            views, after = self._entries(queue, state, after, limit)
            if after or state is not None:
                return views, f"{_ENTRIES} {after}" if after else ""
            if len(views) == limit:
                return views, _LATER
        later, after = self._later(queue, state, after, limit - len(views))
        return views + later, f"{_LATER} {after}" if after else ""

    def dead(self, queue: str, cursor: str, limit: int) -> tuple[list[DeadLetter], str]:
        """Return a page of dead letters, newest first, and the cursor of the next; "" when there is none."""
        if cursor and not _PLACE.fullmatch(cursor):
            raise wrong_cursor(cursor)
        keys = self._names.of(queue)
        died, _, job_id = cursor.partition(" ")
        command = script("page_dead").call((keys.dead, keys.letter), job_id, died, limit, PAGE_BYTES)
        flat, last_id, last_died = self._run([command])[0]
        found = [letter_of(queue, each.decode(), data) for each, data in zip(flat[::2], flat[1::2], strict=True)]
        return found, _cursor(last_died, last_id)

    def dead_letter(self, job_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        ((job_id, data),) = self._letters([job_id])
        return letter_of(job_id.partition(":")[0], job_id, data) if data is not None else None

    def dead_edit(self, letter: DeadLetter) -> bool:
        """Put an edited letter in the place of the one that died at the same time; False when that is not there."""
        parts = ids.parse(letter.id)
        if parts is None:
            return False
        key = self._names.of(parts.queue).letter + letter.id.encode()
        before: bytes | None = self._run([(b"GET", key)])[0]
        if before is None or not is_letter(before) or unpack_letter(before).died_at_ms != letter.died_at_ms:
            return False
        return bool(self._run([script("dead_edit").call((key,), before, pack_letter(letter))])[0])

    def dead_retry(self, job_ids: Sequence[str]) -> int:
        """Queue dead jobs again under their ids, with all their attempts; return how many were there."""
        count = 0
        while job_ids:
            letters = [(job_id, data) for job_id, data in self._letters(job_ids) if data and is_letter(data)]
            replies = self._run([self._retry(job_id, data) for job_id, data in letters])
            count += replies.count(1)
            # What was edited in between is read again, so that it runs as it was edited.
            job_ids = [job_id for (job_id, _), reply in zip(letters, replies, strict=True) if reply < 0]
        return count

    def dead_drop(self, job_ids: Sequence[str]) -> int:
        """Forget dead letters; return how many were there."""
        letters = [PackedLetter(parts.queue, job_id, b"") for job_id, parts in self._parsed(self._resolved(job_ids))]
        return sum(self.dead_remove(letters))

    def dead_beyond(self, queues: Sequence[str], keep: int, worker: str) -> list[PackedLetter]:
        """Return the oldest dead letters beyond the newest `keep` of each queue, for this worker to export."""
        beyond, ttl_ms, claim_ms = script("dead_beyond"), round(self.dead_ttl_s * 1000), limits.DEAD_CLAIM_S * 1000
        most = (limits.DEAD_EXPORT_COUNT, limits.DEAD_EXPORT_BYTES)
        every = [self._names.of(queue) for queue in queues]
        replies = self._run([
            beyond.call((keys.dead, keys.letter, keys.meta), keep, *most, ttl_ms, worker, round(claim_ms))
            for keys in every
        ])  # fmt: skip
        return [
            PackedLetter(keys.queue, job_id.decode(), data)
            for keys, flat in zip(every, replies, strict=True)
            for job_id, data in zip(flat[::2], flat[1::2], strict=True)
        ]

    def dead_remove(self, letters: Sequence[PackedLetter]) -> list[bool]:
        """Forget letters, each if it still is the same; return for each whether it was there and unchanged."""
        places: dict[str, list[int]] = {}
        for i, letter in enumerate(letters):
            places.setdefault(letter.queue, []).append(i)
        commands: list[Command] = []
        for queue, indexes in places.items():
            keys = self._names.of(queue)
            pairs = [
                part for i in indexes for part in (letters[i].id, _sha1(letters[i].data) if letters[i].data else "")
            ]
            commands.append(script("dead_remove").call((keys.dead, keys.letter), *pairs))
        removed = [False] * len(letters)
        for indexes, reply in zip(places.values(), self._run(commands), strict=True):
            for i, done in zip(indexes, reply, strict=True):
                removed[i] = done == 1
        return removed

    def prepare(self) -> None:
        """See that the server has every script."""
        teach(self._wires, self._where)

    def fleet_put(self, worker: str, report: bytes, ttl_s: float) -> None:
        """Publish what a worker says of itself, for `ttl_s` seconds; empty bytes take it back."""
        args = (worker, round(ttl_s * 1000), report, round(SILENT_KEPT_S * 1000))
        self._run([script("fleet_put").call((self._names.fleet,), *args)])

    def fleet(self) -> dict[str, bytes]:
        """Return what the workers that are there say of themselves."""
        return {worker: report for worker, over_ms, report in self._reports() if over_ms <= 0}

    def silent(self) -> dict[str, bytes]:
        """Return the last words of workers that fell silent."""
        kept_ms = SILENT_KEPT_S * 1000
        return {worker: report for worker, over_ms, report in self._reports() if 0 < over_ms <= kept_ms}

    def _reports(self) -> list[tuple[str, int, bytes]]:
        """Return each worker, for how many milliseconds its report's time has been over, and the report."""
        flat, (seconds, microseconds) = self._run([(b"HGETALL", self._names.fleet), (b"TIME",)])
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        return [
            (worker.decode(), now_ms - int.from_bytes(packed[:8], "big"), packed[8:])
            for worker, packed in sorted(zip(flat[::2], flat[1::2], strict=True))
        ]

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one exchange."""
        if not commands:
            return []
        replies = run(self._wires, commands)
        raise_first(replies, self._where)
        return replies

    def _fill(self, packed: list[bytes | None], commands: Sequence[Command], whose: Sequence[Sequence[int]]) -> None:
        """Ask, and put what came where it belongs."""
        for places, reply in zip(whose, self._run(commands), strict=True):
            if any(reply):
                for i, data in zip(places, reply, strict=True):
                    packed[i] = data

    def _resolved(self, job_ids: Sequence[str]) -> Sequence[str]:
        """Return the ids, callers' own replaced by those of their jobs; unknown ones stay as they are."""
        if ids.are_plain(job_ids):
            return job_ids
        others = [i for i, job_id in enumerate(job_ids) if ids.parse(job_id) is None]
        callers = {i: found for i in others if (found := ids.caller_id(job_ids[i]))}
        if not callers:
            return job_ids
        replies = self._run([(b"GET", self._names.of(q).caller + name.encode()) for q, name in callers.values()])
        known = {i: found.decode() for i, found in zip(callers, replies, strict=True) if found}
        return [known.get(i, job_id) for i, job_id in enumerate(job_ids)]

    def _letters(self, job_ids: Sequence[str]) -> list[tuple[str, bytes | None]]:
        """Return each job's own id, and its letter where there is one."""
        own = self._resolved(job_ids)
        parsed = self._parsed(own)
        replies = self._run([(b"GET", self._names.of(parts.queue).letter + each.encode()) for each, parts in parsed])
        found = {job_id: data for (job_id, _), data in zip(parsed, replies, strict=True)}
        return [(job_id, found.get(job_id)) for job_id in own]

    def _parsed(self, job_ids: Sequence[str]) -> list[tuple[str, ids.JobId]]:
        return [(job_id, parts) for job_id in job_ids if (parts := ids.parse(job_id))]

    def _retry(self, job_id: str, data: bytes) -> Command:
        keys, packed_id = self._names.of(job_id.partition(":")[0]), job_id.encode()
        six = (keys.jobs, keys.index, keys.dead, keys.letter + packed_id, keys.result + packed_id, keys.meta)
        return script("dead_retry").call(six, job_id, codec.as_new(unpack_letter(data).body), _sha1(data))

    def _entries(self, queue: str, state: State | None, after: str, limit: int) -> tuple[list[JobView], str]:
        keys = self._names.of(queue)
        which = state.value if state else ""
        command = script("page").call((keys.jobs,), GROUP, RETURNED, after, limit, which, PAGE_BYTES)
        rows, last = self._run([command])[0]
        return [_entry_view(queue, *row) for row in rows], last.decode()

    def _later(self, queue: str, state: State | None, after: str, limit: int) -> tuple[list[JobView], str]:
        keys = self._names.of(queue)
        due, _, job_id = after.partition(" ")
        three = (keys.delayed, keys.bodies, keys.index)
        command = script("page_later").call(three, job_id, due, limit, state.value if state else "", PAGE_BYTES)
        rows, last_id, last_due = self._run([command])[0]
        views = [
            JobView(
                id=each.decode(),
                queue=queue,
                state=State(kind.decode()),
                body=body,
                due_at_ms=int(float(due_at)),
                place=f"{_LATER} {_cursor(due_at, each)}",
            )
            for each, due_at, body, kind in rows
        ]
        return views, _cursor(last_due, last_id)


def _sha1(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def _cursor(score: bytes, job_id: bytes) -> str:
    return f"{score.decode()} {job_id.decode()}" if job_id else ""


def _entry_view(queue: str, entry: bytes, fields: Sequence[bytes], consumer: bytes, count: int) -> JobView:
    body, moved_id, _ = read_fields(fields)
    interruptions, starts = divmod(count, INTERRUPTION)
    return JobView(
        id=moved_id or f"{queue}:{entry.decode()}",
        queue=queue,
        state=State.RUNNING if consumer else State.QUEUED,
        body=body,
        deliveries=starts + interruptions,
        interruptions=interruptions,
        worker=consumer.decode(),
        place=f"{_ENTRIES} {entry.decode()}" if entry else "",
    )


def _view(job_id: str, parts: ids.JobId, reply: Sequence[Any]) -> JobView | None:
    """Return what lookup.lua answered, as a view."""
    kind: bytes = reply[0]
    queue = parts.queue
    if kind == b"ended":
        record = codec.unpack_record(reply[1])
        return JobView(id=job_id, queue=queue, state=State(record.status), record=record)
    if kind in {b"delayed", b"retrying"}:
        return JobView(id=job_id, queue=queue, state=State(kind.decode()), body=reply[2], due_at_ms=int(reply[1]))
    if kind in {b"queued", b"running"}:
        consumer, count = reply[2:] or (b"", 0)
        view = _entry_view(queue, b"", reply[1], consumer, count)
        return msgspec.structs.replace(view, id=job_id)
    if kind == b"dead":
        return JobView(id=job_id, queue=queue, state=State.DEAD, record=record_of(letter_of(queue, job_id, reply[1])))
    last_ms, last_number = _numbers(reply[1].split(b"-"))
    was = 1 <= parts.number <= reply[2] if parts.delayed else (parts.at_ms, parts.number) <= (last_ms, last_number)
    return JobView(id=job_id, queue=queue, state=None) if was else None


def _numbers(texts: Iterable[bytes]) -> tuple[int, ...]:
    return tuple(int(text) for text in texts)
