"""Arguments of jobs as options give them: JSON of the one shape that is due.

What is wrong with the text is told with the option's name and an example of what to write. No state.
"""

from typing import Any

import msgspec

from headrace.jobs.errors import InvalidArguments


def json_of(option: str, text: str | None, shape: type) -> Any:
    """Return what an option's JSON says.

    Raises:
        InvalidArguments: it is no JSON, or of another shape; says where.
    """
    if text is None:
        return shape()
    example = "'[1, 2]'" if shape is list else """'{"width": 100}'"""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidArguments(f"{option} {text[:80]!r} is no JSON: {error}; write it as {option} {example}") from None
    if not isinstance(value, shape):
        kind = "array" if shape is list else "object"
        raise InvalidArguments(f"{option} {text[:80]!r}: expected a JSON {kind}, such as {example}")
    return value
