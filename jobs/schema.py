"""Arguments checked against the JSON schema that a worker publishes, for producers that lack the handler's code.

It finds what is plainly wrong: too many or missing arguments, unknown names, a text where a number is due. What it lets
pass is checked again, in full, where the handler runs; so in doubt it lets pass. Pure functions.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .errors import InvalidArguments

#: JSON schema's word -> the Python classes that JSON and msgpack give for it; True and False are no numbers.
_CLASSES: Final[Mapping[str, tuple[type, ...]]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str, bytes),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list, tuple),
    "object": (dict,),
}


def check_arguments(name: str, schema: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Check plain data against a handler's published schema.

    Args:
        name: The handler's name, for the message.
        schema: What `Arguments.schema` returned in the worker.
        args: Positional arguments.
        kwargs: Arguments by name.

    Raises:
        InvalidArguments: they do not fit; names the argument.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    parameters = list(properties)
    positional = schema.get("x-positional", len(parameters))
    takes = f"it takes ({', '.join(parameters)})"
    if positional is not None and len(args) > positional:
        raise InvalidArguments(f"{name}(): {len(args)} arguments by position, at most {positional} are taken; {takes}")
    given: dict[str, Any] = dict(zip(parameters[:positional], args, strict=False))
    for argument, value in kwargs.items():
        if argument in given:
            raise InvalidArguments(f"{name}(): argument {argument!r} is given twice, by position and by name; {takes}")
        if argument not in properties and not schema.get("additionalProperties", True):
            raise InvalidArguments(f"{name}(): there is no argument {argument!r}; {takes}")
        given[argument] = value
    missing = [parameter for parameter in schema.get("required", ()) if parameter not in given]
    if missing:
        shown = ", ".join(map(repr, missing))
        raise InvalidArguments(f"{name}(): missing: {shown}; {takes}")
    for argument, value in given.items():
        wanted = properties.get(argument, {})
        if not _fits(wanted, value):
            raise InvalidArguments(f"{name}(): argument {argument!r}: expected {_shown(wanted)}, got {_kind(value)}")


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    if "anyOf" in schema:
        return any(_fits(option, value) for option in schema["anyOf"])
    if "enum" in schema:
        return isinstance(value, (list, dict)) or any(
            type(value) is type(word) and value == word for word in schema["enum"]
        )
    kind = schema.get("type")
    # What has a format (a date, a decimal, bytes as base64) has several forms on the wire: the worker judges.
    if not isinstance(kind, str) or kind not in _CLASSES or "format" in schema or "contentEncoding" in schema:
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    # 1.0 is an integer to JSON Schema, and to no worker.
    return isinstance(value, _CLASSES[kind])


def _shown(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_shown(option) for option in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(repr, schema['enum']))}"
    return str(schema.get("type", "something else"))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    for kind, classes in _CLASSES.items():
        if isinstance(value, classes):
            return kind
    return type(value).__name__
