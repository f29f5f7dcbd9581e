"""Editing a dead letter: other arguments for the job, while what died stays readable beside them.

Pure functions: the letter that takes the old one's place is returned, and a broker puts it there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from . import codec
from .disposition import DeadLetter
from .errors import InvalidArguments


def arguments_of(letter: DeadLetter) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of the job in a letter, as plain data.

    Raises:
        InvalidArguments: the letter holds no job, only bytes that could not be read.
    """
    try:
        envelope = codec.unpack_envelope(letter.body)
        args, kwargs = codec.plain_value(envelope.args), codec.plain_value(envelope.kwargs)
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise codec.Malformed("its arguments are no array and map")
    except (codec.Malformed, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidArguments(
            f"dead letter {letter.id} holds no job that could be read ({error}), so it has no arguments to edit; "
            f"submit the job anew and drop the letter"
        ) from None
    return args, kwargs


def edited(letter: DeadLetter, args: Sequence[Any], kwargs: Mapping[str, Any], *, now_ms: int) -> DeadLetter:
    """Return the letter with other arguments; options and history stay, and so does the job as it died.

    Args:
        letter: What is edited.
        args: The new positional arguments.
        kwargs: The new arguments by name.
        now_ms: Milliseconds since the epoch.

    Raises:
        InvalidArguments: the letter holds no job, or the arguments are no plain data.
    """
    arguments_of(letter)
    envelope = codec.unpack_envelope(letter.body)
    body = codec.pack_foreign(envelope.name, args, kwargs, envelope.options)
    original = letter.original if isinstance(letter.original, bytes) else bytes(letter.body)
    return msgspec.structs.replace(letter, body=body, edited_at_ms=now_ms, original=original)
