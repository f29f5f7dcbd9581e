"""Dead letters as people see them: one record for the command line, the API and the files of exported letters.

Pure functions that take any letter, also one whose job or whose own bytes cannot be read: nothing is kept from whoever
looks, and its bytes are always there.
"""

import base64
from typing import Any, Final

import msgspec

from . import codec
from .codec import Malformed, ResultRecord
from .disposition import DeadLetter, unpack_letter
from .errors import InvalidArguments
from .outcome import Failure
from .plain import plain
from .states import State

_encode = msgspec.json.Encoder(enc_hook=repr).encode
#: Why a job may be dead; what each means is in `DeadLetter`.
REASONS: Final = (
    "failed", "timed_out", "crashed", "refused", "invalid_arguments", "unknown_handler", "too_large", "malformed",
)  # fmt: skip


def check_reason(word: str) -> str:
    """Return the word when jobs can be dead for that reason.

    Raises:
        InvalidArguments: they cannot, so that it would choose none; the caller's fault.
    """
    if word not in REASONS:
        import difflib

        near = difflib.get_close_matches(word, REASONS, n=1)
        listed = f"did you mean {near[0]!r}? There are" if near else "there are"
        raise InvalidArguments(f"reason {word!r}: no job is dead for that; {listed}: {', '.join(REASONS)}")
    return word


def dead_item(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as people see it; args and kwargs are null where the entry cannot be read.

    It is {id, queue, name, reason, error, traceback, attempts, deliveries, died_at_ms, args, kwargs, raw_base64,
    edited}; `edited` is null, or {at_ms, args, kwargs}: when the arguments were changed last, and those that died.
    """
    args, kwargs = arguments_in(letter.body)
    was: dict[str, Any] | None = None
    if not isinstance(letter.edited_at_ms, msgspec.UnsetType):
        args_before, kwargs_before = arguments_in(letter.original or b"")
        was = {"at_ms": letter.edited_at_ms, "args": args_before, "kwargs": kwargs_before}
    return {
        "id": letter.id,
        "queue": letter.queue,
        "name": letter.name,
        "reason": letter.reason,
        "error": letter.error,
        "traceback": letter.traceback,
        "attempts": letter.attempts,
        "deliveries": letter.deliveries,
        "died_at_ms": letter.died_at_ms,
        "args": args,
        "kwargs": kwargs,
        "raw_base64": base64.b64encode(letter.body).decode(),
        "edited": was,
    }


def arguments_in(body: bytes) -> tuple[Any, Any]:
    """Return args and kwargs of an envelope as JSON can say them; both None where it cannot be read."""
    try:
        envelope = codec.unpack_envelope(body)
        return plain(codec.plain_value(envelope.args)), plain(codec.plain_value(envelope.kwargs))
    except (Malformed, msgspec.DecodeError, ValueError, RecursionError):
        return None, None


def letter_of(queue: str, job_id: str, data: bytes) -> DeadLetter:
    """Return a kept letter; of bytes that are none, one that says so and holds them.

    Args:
        queue: Its queue.
        job_id: The job's id.
        data: The letter's bytes.
    """
    try:
        return unpack_letter(data)
    except Malformed as error:
        return DeadLetter(
            id=job_id, queue=queue, name="", reason="malformed", error=f"unreadable: {error}", traceback="",
            attempts=0, deliveries=0, died_at_ms=0, body=data,
        )  # fmt: skip


def is_letter(data: bytes) -> bool:
    """Return whether bytes are a letter that can be read, so that its job can be run again."""
    try:
        unpack_letter(data)
    except Malformed:
        return False
    return True


def record_of(letter: DeadLetter, failure: Failure | None = None) -> ResultRecord:
    """Return a dead job's record as it was before it expired, or would have been had it been kept.

    Args:
        letter: Its letter.
        failure: What it failed with; read off the letter's error by default.
    """
    if failure is None:
        kind, _, message = letter.error.partition(": ")
        failure = Failure(kind, message, letter.traceback)
    return ResultRecord(
        codec.VERSION, State.DEAD, codec.NIL, failure, letter.name, letter.attempts,
        letter.deliveries, 0, letter.died_at_ms, letter.reason,
    )  # fmt: skip


def line_of(letter: DeadLetter) -> bytes:
    """Return its record as one line of JSON, without the newline."""
    return _encode(dead_item(letter))
