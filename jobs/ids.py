"""Job ids: the queue and the stream entry that the job got first, such as `default:1795406593154-0`.

A job delayed from the start has no entry yet; its id is `QUEUE:MS-dN`. Knowing the queue from the id, a lookup needs no
index. This file makes and takes apart; it decides nothing.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec

from .errors import InvalidArguments

#: No braces (they are the hash tag's), no colon (it ends the queue's name in an id), nothing that a shell or a URL
#: quotes.
_QUEUE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,100}")
_ENTRY: Final = re.compile(r"([0-9]{1,20})-(d?)([0-9]{1,20})")
_ID: Final = re.compile(rf"({_QUEUE.pattern}):({_ENTRY.pattern})")
#: Many, each with a line break behind it; 19 digits are always less than _NUMBER_MAX. Possessive: one try for each.
_PLAIN_IDS: Final = re.compile(rf"(?:{_QUEUE.pattern}:[0-9]{{1,19}}-[0-9]{{1,19}}\n)*+")
#: As a queue's name, so that it needs no quoting where an id does not, and `QUEUE:ID` can be taken apart.
_CALLER: Final = re.compile(r"[A-Za-z0-9_.\-]{1,200}")
#: Both halves of a stream entry's id are numbers of 64 bits.
_NUMBER_MAX: Final = 2**64 - 1


class JobId(msgspec.Struct, frozen=True, gc=False):
    """A job id taken apart.

    Attributes:
        queue: Name of the queue.
        entry: The part behind the colon.
        at_ms: When it was submitted, by the server's clock, in milliseconds since the epoch.
        number: What tells it from others of the same millisecond.
        delayed: Whether it was delayed from the start, so that `entry` is no stream entry.
    """

    queue: str
    entry: str
    at_ms: int
    number: int
    delayed: bool


def are_plain(job_ids: Sequence[str]) -> bool:
    """Return whether all are ids that headrace gave to jobs that were not delayed; of many in one step of C."""
    text = "".join([f"{job_id}\n" for job_id in job_ids])
    return text.count("\n") == len(job_ids) and _PLAIN_IDS.fullmatch(text) is not None


@lru_cache(maxsize=2048)  # a batch of ids is taken apart several times on its way
def parse(job_id: str) -> JobId | None:
    """Take an id apart; None where it cannot be one."""
    match = _ID.fullmatch(job_id)
    if match is None:
        return None
    queue, entry, at, mark, count = match.groups()
    at_ms, number = int(at), int(count)
    if at_ms > _NUMBER_MAX or number > _NUMBER_MAX:
        return None
    return JobId(queue, entry, at_ms, number, mark == "d")


def caller_id(text: str) -> tuple[str, str] | None:
    """Take `QUEUE:ID` or `ID` apart, where ID is a caller's own and the queue is "default" without one.

    None where it cannot be such an id, as when it is one that headrace gave.
    """
    queue, _, found = text.rpartition(":")
    if not _CALLER.fullmatch(found) or _ENTRY.fullmatch(found) or (queue and not _QUEUE.fullmatch(queue)):
        return None
    return queue or "default", found


def check_caller_id(text: str) -> str:
    """Return a caller's own id for a job when it can be one.

    Raises:
        InvalidArguments: it cannot; the caller's fault.
    """
    if not isinstance(text, str) or not _CALLER.fullmatch(text) or _ENTRY.fullmatch(text):
        raise InvalidArguments(
            f"id={text!r}: use 1 to 200 letters, digits, dots, dashes and underscores, and not the form of headrace's "
            f"own ids, such as 1795406593154-0"
        )
    return text


def check_queue(name: str) -> str:
    """Return the name when it can be a queue's.

    Raises:
        InvalidArguments: it cannot; the caller's fault.
    """
    if not isinstance(name, str) or not _QUEUE.fullmatch(name):
        raise InvalidArguments(
            f"{name!r} cannot be a queue's name: use 1 to 100 letters, digits, dots, dashes and underscores"
        )
    return name


def numbered(queue: str, first_entry: str, count: int) -> list[str]:
    """Return the ids of a batch that was numbered from `first_entry` on."""
    at, _, number = first_entry.partition("-")
    mark = "d" if number.startswith("d") else ""
    start = int(number.removeprefix("d"))
    head = f"{queue}:{at}-{mark}"
    return [f"{head}{n}" for n in range(start, start + count)]
