"""Which commands bring the records of jobs.

A record lies in a hash beside its neighbours' or in a string of its own, never in both; see keys.py. Hundreds are asked
for at a time, so what they have in common is made once, and little is done for each. Pure: no I/O, no state.
"""

from collections.abc import Iterable, Sequence

from headrace.jobs import ids

from ..redisio.connections import Command
from ..redisio.keys import FIELDS, Keys


def beside(names: Keys, job_ids: Sequence[str]) -> tuple[list[Command], list[list[int]]]:
    """Return what asks for records beside their neighbours', and for each command whose, as places in `job_ids`.

    Those of whom there can be none are left out: delayed jobs, and what is no id of ours.
    """
    places: Iterable[int] = range(len(job_ids))
    if not ids.are_plain(job_ids):
        places = [i for i, each in enumerate(job_ids) if (parts := ids.parse(each)) and not parts.delayed]
    groups: dict[str, list[int]] = {}
    for i in places:
        head = job_ids[i][:-2]
        group = groups.get(head)
        if group is None:
            groups[head] = [i]
        else:
            group.append(i)
    commands: list[Command] = []
    for head, group in groups.items():
        queue, _, rest = head.partition(":")
        fields = [FIELDS[job_ids[i][-2:]] for i in group]
        commands.append((b"HMGET", names.of(queue).results + rest.encode(), *fields))
    return commands, list(groups.values())


def alone(names: Keys, job_ids: Sequence[str], places: Iterable[int]) -> tuple[list[Command], list[list[int]]]:
    """Return what asks for records of their own at these places in `job_ids`, and whose, as `beside` does."""
    queues: dict[str, list[int]] = {}
    for i in places:
        if (parts := ids.parse(job_ids[i])) is not None:
            queues.setdefault(parts.queue, []).append(i)
    commands: list[Command] = []
    for queue, some in queues.items():
        prefix = names.of(queue).result
        # Encoded together: an id of ours has no line break.
        own = "\n".join([job_ids[i] for i in some]).encode().split(b"\n")
        commands.append((b"MGET", *[prefix + name for name in own]))
    return commands, list(queues.values())
