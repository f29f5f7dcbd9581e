"""Which commands bring the records of jobs, and whose their replies are.

A record lies in a hash beside its neighbours' or in a string of its own, and both are asked for; see keys.py. Hundreds
are asked for at a time, so that what they have in common is made once. Pure: no I/O, no state.
"""

from collections.abc import Sequence
from typing import Any

from headrace.jobs import ids

from ..redisio.connections import Command
from ..redisio.keys import Keys, results_place


def asking(names: Keys, job_ids: Sequence[str]) -> tuple[list[Command], list[list[int]]]:
    """Return the commands, and for each the places in `job_ids` of those whom its reply is about; ids of ours only.

    Records of their own come last.
    """
    queues: dict[str, tuple[list[int], list[int]]] = {}
    for i, job_id in enumerate(job_ids):
        if (parts := ids.parse(job_id)) is not None:
            every, with_entry = queues.setdefault(parts.queue, ([], []))
            every.append(i)
            if not parts.delayed:
                with_entry.append(i)
    commands: list[Command] = []
    whose: list[list[int]] = []
    for queue, (_, with_entry) in queues.items():
        prefix, start = names.of(queue).results, len(queue) + 1
        groups: dict[str, tuple[list[int], list[bytes]]] = {}
        for i in with_entry:
            head, field = results_place(job_ids[i][start:])
            places, fields = groups.setdefault(head, ([], []))
            places.append(i)
            fields.append(field)
        commands += [(b"HMGET", prefix + head.encode(), *fields) for head, (_, fields) in groups.items()]
        whose += [places for places, _ in groups.values()]
    for queue, (every, _) in queues.items():
        prefix = names.of(queue).result
        # Encoded together: an id of ours has no line break.
        own = "\n".join([job_ids[i] for i in every]).encode().split(b"\n")
        commands.append((b"MGET", *[prefix + name for name in own]))
        whose.append(every)
    return commands, whose


def answered(count: int, whose: Sequence[Sequence[int]], replies: Sequence[Sequence[Any]]) -> list[bytes | None]:
    """Return for each of so many ids its packed record, where there is one; a later reply counts."""
    packed: list[bytes | None] = [None] * count
    for places, reply in zip(whose, replies, strict=True):
        if any(reply):
            for i, data in zip(places, reply, strict=True):
                if data is not None:
                    packed[i] = data
    return packed
