"""What became of a batch: written piece by piece, and held in memory as little as its ids allow.

The ids of a part number on from its first, so a run of them is its first and a count; runs go to a temporary file once
they are many. Rejections are listed up to a bound, and counted beyond it. A Report belongs to one request.
"""

import tempfile
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from .records import Rejection
from .wording import in_http

#: Rejections that are listed: each has its reason, some 100 bytes, and a client that has so many has them all.
REJECTED_MAX_COUNT: Final = 10_000
#: An error's message may hold what was sent.
ERROR_MAX_CHARS: Final = 500
#: Runs held in memory, some 30 bytes each; one for each part of 500 jobs, or one a job where each has its own number.
_RUNS_MAX_BYTES: Final = 1024 * 1024
#: Ids of one piece of the answer.
_PIECE_IDS_COUNT: Final = 2_000
_encode: Final = msgspec.json.Encoder().encode


class Report:
    """Counts and keeps what became of each job, in the order of the request."""

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected_count = 0
        self._rejected: list[Rejection] = []
        self._runs = tempfile.SpooledTemporaryFile(_RUNS_MAX_BYTES)  # noqa: SIM115 - `close` ends it
        self._head, self._first, self._count = "", 0, 0

    def close(self) -> None:
        """Forget everything; safe to call twice."""
        self._runs.close()

    def accept(self, ids: Sequence[str]) -> None:
        """Note the ids of the next jobs that were accepted."""
        self.accepted += len(ids)
        if ids:
            head, number = _split(ids[0])
            if ids == [f"{head}{each}" for each in range(number, number + len(ids))]:  # as nearly all parts are
                self._extend(head, number, len(ids))
                return
        for job_id in ids:
            self._extend(*_split(job_id), 1)

    def _extend(self, head: str, number: int, count: int) -> None:
        """Note ids that number on, with the run before where they number on from it."""
        if head == self._head and number == self._first + self._count:
            self._count += count
        else:
            self._end_run()
            self._head, self._first, self._count = head, number, count

    def reject(self, index: int, why: str) -> None:
        """Note that a job was not submitted."""
        self.rejected_count += 1
        if len(self._rejected) < REJECTED_MAX_COUNT:
            why = in_http(why)
            shown = why if len(why) <= ERROR_MAX_CHARS else f"{why[:ERROR_MAX_CHARS]}..."
            self._rejected.append(Rejection(index, shown))

    def pieces(self) -> Iterator[bytes]:
        """Yield it as the JSON of a BatchReport, and close it."""
        try:
            self._end_run()
            yield b'{"accepted":%d,"ids":[' % self.accepted
            yield from self._ids()
            more = self.rejected_count - len(self._rejected)
            yield b'],"rejected":' + _encode(sorted(self._rejected, key=lambda each: each.index))
            yield b',"unlisted":%d}' % more if more else b"}"
        finally:
            self.close()

    def _ids(self) -> Iterator[bytes]:
        self._runs.seek(0)
        comma = b""
        for line in self._runs:
            head, first, count = line.decode().split(" ")
            for begin in range(int(first), int(first) + int(count), _PIECE_IDS_COUNT):
                end = min(begin + _PIECE_IDS_COUNT, int(first) + int(count))
                ids = ",".join([f'"{head}{number}"' for number in range(begin, end)])
                yield comma + ids.encode()
                comma = b","

    def _end_run(self) -> None:
        if self._count:
            self._runs.write(f"{self._head} {self._first} {self._count}\n".encode())
            self._count = 0


def _split(job_id: str) -> tuple[str, int]:
    """Return an id's last number and all before it; both kinds of ids, queued and delayed, end in one."""
    head, dash, number = job_id.rpartition("-")
    if number.startswith("d"):
        return f"{head}{dash}d", int(number[1:])
    return head + dash, int(number)
