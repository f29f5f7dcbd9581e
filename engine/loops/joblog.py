"""The job log: what the worker's log says of jobs that fail, so many lines a second at most.

A line for each job that is given up on, with its reason and error, and one for each retry; above the bound they are
counted, and the next line says how many were left out. Jobs that succeed leave no line. Owned by one worker's loop.
"""

from collections.abc import Sequence
from typing import Any, Final

from headrace.config.logs import logger
from headrace.jobs.disposition import Disposition, Kind, unpack_letter
from headrace.jobs.outcome import Outcome, Status

from ..observe.seldom import Seldom

log = logger("headrace.jobs")
seldom = Seldom(log)

#: As fast as lines can scroll and still be noticed; 20 lines of 200 bytes are 350 MB a day at the worst.
LINES_PER_S: Final = 20
#: An error's first words tell what it is; the dead letter has all of them.
ERROR_MAX_CHARS: Final = 500


class JobLog:
    """Writes the lines of one worker."""

    __slots__ = ("_began_s", "_left_out", "_written")

    def __init__(self) -> None:
        self._began_s = float("-inf")
        self._written = 0
        self._left_out = 0

    def tell(self, now_s: float, outcomes: Sequence[Outcome], dispositions: Sequence[Disposition]) -> None:
        """Write what there is to say of a settled batch; `now_s` is monotonic."""
        for outcome, disposition in zip(outcomes, dispositions, strict=True):
            if disposition.kind is Kind.DEAD:
                if self._may(now_s):
                    self._dead(disposition)
            elif disposition.kind is Kind.RETRY:
                if outcome.status is Status.UNREADABLE:
                    if outcome.work.reason == "unknown_handler":
                        seldom.warning("unknown handler", handler=outcome.work.label, error=outcome.work.error)
                elif self._may(now_s):
                    self._retry(outcome, disposition)

    def _dead(self, disposition: Disposition) -> None:
        letter = unpack_letter(disposition.letter)
        fields = {"job": letter.id, "handler": letter.name, "reason": letter.reason, "error": _short(letter.error)}
        log.warning("job is dead", **self._with_left_out(fields))

    def _retry(self, outcome: Outcome, disposition: Disposition) -> None:
        work, retry_in_s = outcome.work, disposition.delay_ms / 1000
        fields = {"job": disposition.lease.job_id, "handler": work.label, "attempt": work.attempt}
        fields |= {"retry_in_s": retry_in_s, "error": _short(str(outcome.failure or outcome.status))}
        log.info("job failed", **self._with_left_out(fields))

    def _may(self, now_s: float) -> bool:
        """Return whether one more line may be written in this second; count it if not."""
        if now_s - self._began_s >= 1.0:
            self._began_s, self._written = now_s, 0
        if self._written >= LINES_PER_S:
            self._left_out += 1
            return False
        self._written += 1
        return True

    def _with_left_out(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self._left_out:
            fields["lines_left_out"], self._left_out = self._left_out, 0
        return fields


def _short(text: str) -> str:
    return text if len(text) <= ERROR_MAX_CHARS else f"{text[:ERROR_MAX_CHARS]}..."
