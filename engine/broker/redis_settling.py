"""Dispositions into script calls: one call for each group that shares queue, registration and record time.

Pure functions: nothing is sent here. The common disposition, a job that is done under its first entry, costs one look
and one append; what every script checks and writes is in redisio/lua/.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from headrace.config import limits
from headrace.jobs.disposition import Disposition, Kind
from headrace.jobs.events import pack_plain, pack_settled

from ..redisio.connections import Command
from ..redisio.keys import GROUP, INTERRUPTION, RETURNED, UNIQUE_TTL_MS, Keys, QueueKeys
from ..redisio.scripts import script
from .events import stream_max_count
from .port import Source

#: A call and how many jobs it settles.
Call = tuple[Command, int]

_CHUNK: Final = limits.SETTLE_BATCH_MAX_COUNT
#: Jobs that are settled one by one take a server ten times as long as those of a plain batch: a few milliseconds a
#: call, between which others have their turn.
_SPECIAL_CHUNK: Final = 200
_KINDS: Final = {Kind.DONE: b"done", Kind.RETRY: b"retry", Kind.DEAD: b"dead"}


def calls_for(keys: Keys, dispositions: Sequence[Disposition], dead_ttl_ms: int) -> list[Call]:
    """Return the script calls that carry out dispositions, each with the number of jobs in it."""
    plain: dict[tuple[Source, int, bool], list[Disposition]] = {}
    special: dict[Source, list[Disposition]] = {}
    back: dict[tuple[Source, int], list[bytes]] = {}
    done = Kind.DONE
    for disposition in dispositions:
        lease = disposition.lease
        if disposition.kind is done and lease.moved_id is None and not disposition.caller_id:
            key = (lease.source, disposition.ttl_ms, not disposition.unique)
            group = plain.get(key)
            if group is None:
                plain[key] = group = []
            group.append(disposition)
        elif disposition.kind is Kind.RETURN:
            count = lease.starts + INTERRUPTION * (lease.interruptions + disposition.was_started)
            back.setdefault((lease.source, count), []).append(lease.entry)
        else:
            special.setdefault(lease.source, []).append(disposition)

    calls: list[Call] = []
    for (source, ttl_ms, _), group in plain.items():
        for i in range(0, len(group), _CHUNK):
            calls += _done(keys.of(source.queue), source, ttl_ms, group[i : i + _CHUNK])
    for source, group in special.items():
        for i in range(0, len(group), _SPECIAL_CHUNK):
            calls += _special(keys.of(source.queue), source, group[i : i + _SPECIAL_CHUNK], dead_ttl_ms)
    for (source, count), entries in back.items():
        for i in range(0, len(entries), _CHUNK):
            calls.append(_give_back(keys.of(source.queue), source, count, entries[i : i + _CHUNK]))
    return calls


def exchanges_of(calls: Sequence[Call]) -> Iterator[list[Command]]:
    """Yield the commands of each exchange: a server answers nobody else before it has done all of one.

    Jobs that end one by one cost it some ten times as much as others, so such calls go by themselves.
    """
    slow, part = script("settle_special").sha1, list[Command]()
    for command, _ in calls:
        part.append(command)
        if command[1] == slow:
            yield part
            part = []
    if part:
        yield part


def entries_of(source: Source, dispositions: Sequence[Disposition]) -> tuple[list[bytes], list[bytes]]:
    """Return the entries of one source that end or go round, and those that go back."""
    ended: list[bytes] = []
    back: list[bytes] = []
    for each in dispositions:
        if each.lease.source is source:
            (back if each.kind is Kind.RETURN else ended).append(each.lease.entry)
    return ended, back


def _done(keys: QueueKeys, source: Source, ttl_ms: int, group: list[Disposition]) -> list[Call]:
    entries = [disposition.lease.entry for disposition in group]
    # Redis refuses a TTL of 0, and a record that is kept for no time is none. One that all share is sent once.
    records = [disposition.record for disposition in group] if ttl_ms > 0 else []
    if records and records.count(records[0]) == len(records):
        del records[1:]
    if len(group) > 1 and sum(map(len, records)) > limits.MESSAGE_MAX_BYTES:
        half = len(group) // 2
        return _done(keys, source, ttl_ms, group[:half]) + _done(keys, source, ttl_ms, group[half:])
    size_bytes = sum([len(each.lease.body) for each in group if each.lease.counted])
    uniques = [disposition.unique for disposition in group] if group[0].unique else []
    own = keys.result + source.queue.encode() + b":"
    named = (keys.workers, keys.jobs, keys.results, keys.delayed, keys.meta, keys.events, keys.unique, own)
    told = pack_plain(source.member, entries, group)
    command = script("settle").call(
        named,
        source.member,
        GROUP,
        ttl_ms,
        size_bytes,
        len(entries),
        stream_max_count(told),
        told,
        f"{source.queue}:" if uniques else "",
        *entries,
        *uniques,
        *records,
    )
    return [(command, len(group))]


def _special(keys: QueueKeys, source: Source, group: list[Disposition], dead_ttl_ms: int) -> list[Call]:
    size_bytes = sum(len(each.record) + len(each.body) + len(each.letter) for each in group)
    if len(group) > 1 and size_bytes > limits.MESSAGE_MAX_BYTES:
        half = len(group) // 2
        first = _special(keys, source, group[:half], dead_ttl_ms)
        return first + _special(keys, source, group[half:], dead_ttl_ms)
    args: list[bytes | str | int] = []
    for each in group:
        args += (each.lease.entry, each.lease.job_id, _KINDS[each.kind])
        if each.kind is Kind.RETRY:
            args += (max(0, each.delay_ms), each.body, b"")
        else:
            args += (each.ttl_ms, each.record if each.ttl_ms > 0 else b"", each.letter)
        # What retries is counted from now on, whoever added it.
        shrunk_bytes = (len(each.lease.body) if each.lease.counted else 0) - len(each.body)
        args += (shrunk_bytes, each.unique, each.caller_id)
    told = pack_settled(source.queue, source.member, group)
    command = script("settle_special").call(
        (keys.workers, keys.jobs, keys.index, keys.delayed, keys.bodies, keys.dead, keys.letter, keys.result, keys.meta,
         keys.unique, keys.caller, keys.events),
        source.member, GROUP, dead_ttl_ms, UNIQUE_TTL_MS, *args, stream_max_count(told), told,
    )  # fmt: skip
    return [(command, len(group))]


def _give_back(keys: QueueKeys, source: Source, count: int, entries: list[bytes]) -> Call:
    three = (keys.workers, keys.jobs, keys.control)
    command = script("give_back").call(three, source.member, GROUP, RETURNED, count, *entries)
    return command, len(entries)
