"""Seldom: log lines that a lasting fault would repeat, a few in a minute instead of hundreds.

The first of each event is written at once, the next one not before EVERY_S have passed, with how often it came in
between. Nothing is stored but counts; for any thread, and a line more or less between two of them does no harm.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

#: A person who looks at a log sees that it goes on; ten workers under one dead server write two lines a second each.
EVERY_S: Final = 5.0


class Seldom:
    """Writes each event of one logger at most every EVERY_S.

    Args:
        log: The logger.
    """

    __slots__ = ("_log", "_seen", "_written_at_s")

    def __init__(self, log: "BoundLogger") -> None:
        self._log = log
        self._written_at_s: dict[str, float] = {}
        self._seen: dict[str, int] = {}

    def warning(self, event: str, **fields: Any) -> None:
        """Write a warning, or count it."""
        self._write(self._log.warning, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Write an error, or count it."""
        self._write(self._log.error, event, fields)

    def _write(self, write: Callable[..., Any], event: str, fields: dict[str, Any]) -> None:
        now_s = time.monotonic()
        written_at_s = self._written_at_s.get(event)
        if written_at_s is not None and now_s - written_at_s < EVERY_S:
            self._seen[event] = self._seen.get(event, 0) + 1
            return
        self._written_at_s[event] = now_s
        if more := self._seen.pop(event, 0):
            fields["times"] = more + 1
        write(event, **fields)
