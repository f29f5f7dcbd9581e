"""Every key that headrace has in a server: its name, type, lifetime and who writes it; nothing else builds a key.

All keys of a queue carry its name in braces, so that they share a cluster slot and one script may touch them all.
Building bytes only: no I/O. One QueueKeys is made for each queue and kept, so that the way of a job formats nothing.
"""

from typing import Final

import msgspec

#: The consumer group of every work stream; one group, so that XACK and XDEL together end an entry.
GROUP: Final = b"headrace"
#: The consumer that holds what was given back; it never registers, so that every sweep finds its entries orphaned.
RETURNED: Final = b"returned"
#: What one interruption adds to an entry's delivery count, whose rest is starts that a crash may have cut short: the
#: server keeps one number for each pending entry, and the two mean different things.
INTERRUPTION: Final = 1_000_000
#: How long a sweep's token is kept: longer than anybody goes on resending.
TOKEN_TTL_S: Final = 600
#: How long a submission's token is kept. It is sent again at once, and given up some 20 s after it was first sent; what
#: the network still held then comes within seconds of that. Producers of single jobs leave a token each round trip:
#: at 2,000 a second these are some 50 MB of the server's memory, and would be 250 MB if they were kept for ten minutes.
SUBMIT_TOKEN_TTL_S: Final = 120
#: How long a unique key stands after its job was due, or was put off last: far longer than jobs wait. It is a backstop
#: only: what ends a job frees its key, and a key whose job is gone is taken over.
UNIQUE_TTL_MS: Final = 30 * 86_400_000


class KeyRule(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table of keys.

    Attributes:
        name: The name with `{namespace}`, `{Q}` for a queue and a capital word for what varies.
        type: What the server's TYPE says.
        expires: Whether it has a TTL; without one it ends with its last member, or never.
        holds: What is in it.
        writers: The scripts and verbs that write it.
    """

    name: str
    type: str
    expires: bool
    holds: str
    writers: str


#: The table; docs/keys.md shows it to those who read the server by hand, and a test compares a server with it.
TABLE: Final = (
    KeyRule(
        name="{namespace}:queues",
        type="set",
        expires=False,
        holds="the names of all queues",
        writers="publish, register",
    ),
    KeyRule(
        name="{namespace}:fleet",
        type="hash",
        expires=False,
        holds="worker -> 8 bytes of expiry in milliseconds, big-endian, and its report",
        writers="fleet_put.lua; each report is dropped an hour after its time, unless its worker takes it back",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:jobs",
        type="stream",
        expires=False,
        holds="the queue: field m is the envelope, field i the job's id where it had another entry first",
        writers="submit.lua, submit_later.lua, submit_keyed.lua, promote.lua, dead_retry.lua, anybody's XADD; "
        "settle.lua, settle_special.lua and cancel.lua delete",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:workers",
        type="zset",
        expires=False,
        holds="registration -> when its lease ends, milliseconds by the server's clock",
        writers="register.lua, renew.lua, unregister.lua; recover.lua removes what expired",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:meta",
        type="hash",
        expires=False,
        holds="delayed: how many jobs were delayed from the start; moved: entries that were no new job; lease: the "
        "longest lease seen, in milliseconds; paused: there while the queue is; bytes: of the envelopes that were "
        "submitted and have not ended; memory_at, memory: when the server's memory was looked at, and the share of its "
        "maxmemory in use; drain_at, drained, drain_rate: when the queue was last found full, entries deleted until "
        "then, and how many a second; exporter: until when which worker exports dead letters alone",
        writers="submit.lua, submit_later.lua, submit_keyed.lua, settle.lua, settle_special.lua, promote.lua, "
        "cancel.lua, dead_retry.lua, dead_beyond.lua, register.lua, pause.lua",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:delayed",
        type="zset",
        expires=False,
        holds="job id -> when it is due, milliseconds by the server's clock; delayed and retrying jobs",
        writers="submit_later.lua, submit_keyed.lua, settle_special.lua; promote.lua and cancel.lua remove",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:bodies",
        type="hash",
        expires=False,
        holds="job id -> envelope, for each member of :delayed",
        writers="submit_later.lua, submit_keyed.lua, settle_special.lua; promote.lua and cancel.lua remove",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:index",
        type="hash",
        expires=False,
        holds="job id -> its entry, or `later` while it waits for a retry; only jobs that left their first entry",
        writers="promote.lua, settle_special.lua, dead_retry.lua; settle_special.lua and cancel.lua remove",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:dead",
        type="zset",
        expires=False,
        holds="job id -> when it died, milliseconds by the server's clock",
        writers="settle_special.lua; it and dead_beyond.lua remove what expired, dead_retry.lua and dead_remove.lua "
        "what they take away",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:deadletter:ID",
        type="string",
        expires=True,
        holds="a packed dead letter",
        writers="settle_special.lua, dead_edit.lua; dead_retry.lua and dead_remove.lua remove",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:results:HEAD",
        type="hash",
        expires=True,
        holds="packed result records of jobs that are done under their first entry, up to a hundred neighbours "
        "together: HEAD is the entry without its last two characters, and these two are the field",
        writers="settle.lua",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:result:ID",
        type="string",
        expires=True,
        holds="the packed result record of any other job; a job has one or the other",
        writers="settle_special.lua, cancel.lua; dead_retry.lua removes",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:events",
        type="stream",
        expires=False,
        holds="what happened, field e a packed batch of events; capped, about 16 MiB and 10,000 batches at most",
        writers="settle.lua, settle_special.lua, cancel.lua, pause.lua, announce; each drops the oldest",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:token:TOKEN",
        type="string",
        expires=True,
        holds="what a batch was answered, so that the same batch sent again gets the same answer",
        writers="submit.lua, submit_later.lua, submit_keyed.lua, recover.lua",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:unique:KEY",
        type="string",
        expires=True,
        holds="the id of the job that has this unique key, until it ends",
        writers="submit_keyed.lua; settle_special.lua pushes its time on at a retry; it, settle.lua and cancel.lua "
        "remove it at the end",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:id:ID",
        type="string",
        expires=True,
        holds="the id of the job that was submitted under this id of its caller's, for as long as its record is kept",
        writers="submit_keyed.lua; settle_special.lua and cancel.lua shorten its time at the end, or remove it",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:cancelled",
        type="zset",
        expires=False,
        holds="job id -> when this mark ends, milliseconds by the server's clock; running jobs to be cancelled",
        writers="cancel.lua, which removes it when the job has ended; marks.lua removes what expired",
    ),
    KeyRule(
        name="{namespace}:{{Q}}:progress:ID",
        type="string",
        expires=True,
        holds="how far a job is: a packed array of two numbers, done and in all (nil where nobody knows)",
        writers="progress_put",
    ),
)


class QueueKeys(msgspec.Struct, frozen=True):
    """The keys of one queue, as bytes.

    Attributes:
        queue: The queue's name.
        name: The same as bytes.
        jobs, workers, meta, delayed, bodies, index, dead, events: The keys; see TABLE.
        result: What a result's key begins with; the job's id follows.
        results: What the key of neighbours' results begins with; `results_place` has what follows.
        letter: What a dead letter's key begins with; the job's id follows.
        token: What a token's key begins with.
        unique: What a unique key's key begins with.
        caller: What the key of a caller's id begins with.
        cancelled: The zset of marks; see TABLE.
        progress: What the key of a job's progress begins with; the job's id follows.
        control: The channel on which workers of the queue are told what cannot wait; no key.
    """

    queue: str
    name: bytes
    jobs: bytes
    workers: bytes
    meta: bytes
    delayed: bytes
    bodies: bytes
    index: bytes
    dead: bytes
    events: bytes
    result: bytes
    results: bytes
    letter: bytes
    token: bytes
    unique: bytes
    caller: bytes
    cancelled: bytes
    progress: bytes
    control: bytes


#: The fields that nearly all records have, encoded; all that a plain job's id can end with.
FIELDS: Final = {text: text.encode() for text in (*(f"{n:02}" for n in range(100)), *(f"-{n}" for n in range(10)))}


def results_place(entry: str) -> tuple[str, bytes]:
    """Return what follows `results` in the key of a plain job's record, and its field there.

    Two digits make a hundred neighbours at most, which servers keep as one packed list where their records are small.
    """
    return entry[:-2], FIELDS.get(entry[-2:]) or entry[-2:].encode()


class Keys:
    """All keys of one namespace; keeps the keys of each queue once they were asked for. Safe from any thread.

    Args:
        namespace: What every key begins with.
    """

    __slots__ = ("_of", "_prefix", "fleet", "queues")

    def __init__(self, namespace: str) -> None:
        self._prefix = namespace.encode()
        self._of: dict[str, QueueKeys] = {}
        self.queues = self._prefix + b":queues"
        self.fleet = self._prefix + b":fleet"

    def of(self, queue: str) -> QueueKeys:
        """Return the keys of a queue."""
        keys = self._of.get(queue)
        if keys is None:
            keys = self._of[queue] = self._make(queue)
        return keys

    def _make(self, queue: str) -> QueueKeys:
        name = queue.encode()
        head = b"%b:{%b}:" % (self._prefix, name)
        return QueueKeys(
            queue,
            name,
            head + b"jobs",
            head + b"workers",
            head + b"meta",
            head + b"delayed",
            head + b"bodies",
            head + b"index",
            head + b"dead",
            head + b"events",
            head + b"result:",
            head + b"results:",
            head + b"deadletter:",
            head + b"token:",
            head + b"unique:",
            head + b"id:",
            head + b"cancelled",
            head + b"progress:",
            head + b"control",
        )
