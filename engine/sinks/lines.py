"""Outcomes as JSON lines: the one form in which files and streams outside get them.

A value that JSON cannot hold is written as its repr with `"value_is_repr": true` beside it, so that one odd value never
costs a batch. Times of day are made from the monotonic clock by one offset a batch. Nothing here does I/O.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headrace.jobs.outcome import Outcome, Status

#: A repr is for reading by people; more of it than this is noise.
REPR_MAX_CHARS: Final = 1000


class OutcomeLine(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One outcome as `--log-outcomes` writes it.

    Attributes:
        id: The job's id; "" for work that has none.
        name: The handler's name.
        queue: The queue that it came from; "" for work given straight to a Dispatcher.
        status: How this run ended.
        attempt: Which try this was, from 1.
        started_at_ms: Unix milliseconds when it started; null when it never did.
        run_ms: How long it ran.
        error: Type and message of its exception, or why no handler could be run for it; null when it succeeded.
    """

    id: str
    name: str
    queue: str
    status: str
    attempt: int
    started_at_ms: int | None
    run_ms: float
    error: str | None


class ValueLine(OutcomeLine, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One outcome with what the handler returned.

    Attributes:
        value: What the handler returned, or its repr.
        value_is_repr: True where `value` is a repr, else left out.
    """

    value: Any
    value_is_repr: bool = False


class LineEncoder:
    """Encodes batches of outcomes; for one loop, as its encoder's buffer is reused.

    Args:
        with_values: Whether the lines hold what the handlers returned.
    """

    def __init__(self, *, with_values: bool) -> None:
        self._with_values = with_values
        self._encode = msgspec.json.Encoder().encode

    def encode(self, outcomes: Sequence[Outcome]) -> list[bytes]:
        """Return one line for each outcome, without its newline; none for a job that goes round again unstarted."""
        wall_offset_s = time.time() - time.monotonic()
        return [
            self._line(outcome, wall_offset_s)
            for outcome in outcomes
            if outcome.status is not Status.UNREADABLE or not getattr(outcome.work, "delay_ms", 0)
        ]

    def _line(self, outcome: Outcome, wall_offset_s: float) -> bytes:
        work = outcome.work
        fields: dict[str, Any] = {
            "id": getattr(work, "job_id", ""),
            "name": getattr(work, "label", ""),
            "queue": getattr(work, "queue", ""),
            "status": outcome.status.value,
            "attempt": getattr(work, "attempt", 1),
            "started_at_ms": round((outcome.started_at_s + wall_offset_s) * 1000) if outcome.started_at_s else None,
            "run_ms": round(outcome.run_s * 1000, 3),
            "error": getattr(work, "error", None) if outcome.failure is None else str(outcome.failure),
        }
        with contextlib.suppress(BaseException):  # what a value's own hooks raise is told by value_is_repr below
            if not self._with_values:
                return self._encode(OutcomeLine(**fields))
            line = self._encode(ValueLine(**fields, value=_plain(outcome.value)))
            if b"\n" not in line:  # only a msgspec.Raw inside the value can bring one in
                return line
        fields = {name: _printable(field) if isinstance(field, str) else field for name, field in fields.items()}
        if not self._with_values:
            return self._encode(OutcomeLine(**fields))
        if outcome.value is None:
            return self._encode(ValueLine(**fields, value=None))
        return self._encode(ValueLine(**fields, value=_repr(outcome.value), value_is_repr=True))


def _plain(value: Any) -> Any:
    """Unpack a value that stayed msgpack on its way here."""
    return msgspec.msgpack.decode(value) if type(value) is msgspec.Raw else value


def _repr(value: Any) -> str:
    try:
        return _printable(repr(value)[:REPR_MAX_CHARS])
    except BaseException as error:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def _printable(text: str) -> str:
    """Write lone surrogates, which UTF-8 cannot hold, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
