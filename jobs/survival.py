"""Which values come back from the wire as they went in: the rule by which `Arguments.pack` accepts or refuses.

Pure functions on a value and what became of it by packing and unpacking. They never raise what a user's own `__eq__` or
`__repr__` raises; only RecursionError, for what is nested too deeply to be read again where the stack is longer.
"""

import contextlib
import dataclasses
import reprlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec
import msgspec.inspect

#: Levels of lists and maps in an argument without a type that says how deep it goes. Python stops at about 1,000 calls,
#: a worker is some 50 deep when it unpacks, and nobody nests plain data by hand a hundred deep.
DEPTH_MAX: Final = 100
_ATOMS: Final = frozenset({str, bytes, int, bool, type(None)})
_SHOWN_MAX_CHARS: Final = 80

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _SHOWN_MAX_CHARS


def is_loose(hint: Any) -> bool:
    """Return whether a type leaves open, somewhere inside, of which class the unpacked value is."""
    try:
        return _has_open(msgspec.inspect.type_info(hint), set())
    except TypeError:
        return True  # msgspec cannot say, so each value is looked at


def survives(sent: Any, received: Any, *, loose: bool) -> bool:
    """Return whether a value came back as it went in.

    Where the type says all, equal is enough: an int for a float, a subclass of list for a list. Where it is loose,
    classes are compared too, all the way down.

    Raises:
        RecursionError: it is nested more than DEPTH_MAX levels deep.
    """
    if not loose:
        with contextlib.suppress(Exception):  # a user's __eq__, or a signalling NaN
            if sent == received:
                return True
    return _same(sent, received, DEPTH_MAX)


def short(value: Any) -> str:
    """Return a value's class and the beginning of its repr."""
    try:
        shown = _repr.repr(value)
    except Exception as error:  # noqa: BLE001 - the caller's class is broken, and the message must still be made
        shown = f"<its repr raises {type(error).__name__}>"
    return f"{type(value).__name__} {shown[:_SHOWN_MAX_CHARS]}{'...' if len(shown) > _SHOWN_MAX_CHARS else ''}"


def _same(sent: Any, received: Any, room: int) -> bool:
    """Return whether two values are alike in class and content, all the way down; NaN is like NaN."""
    kind = type(sent)
    if kind is not type(received):
        return False
    if kind in _ATOMS:
        return bool(sent == received)
    if kind is float or kind is Decimal:
        return repr(sent) == repr(received)
    if not room:
        raise RecursionError(f"it is nested more than {DEPTH_MAX} levels deep")
    if isinstance(sent, list | tuple):
        return len(sent) == len(received) and all(
            _same(one, other, room - 1) for one, other in zip(sent, received, strict=True)
        )
    if isinstance(sent, dict):
        keys = {key: key for key in received}
        return len(sent) == len(received) and all(
            key in keys and _same(key, keys[key], room - 1) and _same(item, received[key], room - 1)
            for key, item in sent.items()
        )
    if isinstance(sent, set | frozenset):
        return {(type(item), item) for item in sent} == {(type(item), item) for item in received}
    names = list(_fields_of(sent))
    if names:
        return all(_same(getattr(sent, name, None), getattr(received, name, None), room - 1) for name in names)
    try:
        return bool(sent == received)
    except Exception:  # noqa: BLE001 - a user's __eq__ may raise anything
        return False


def _fields_of(value: Any) -> Iterator[str]:
    if isinstance(value, msgspec.Struct):
        yield from value.__struct_fields__
    elif dataclasses.is_dataclass(value):
        yield from (field.name for field in dataclasses.fields(value))


def _has_open(part: Any, seen: set[int]) -> bool:
    """Walk msgspec's description of a type; it contains itself where the type does."""
    if isinstance(part, tuple):
        return any(_has_open(item, seen) for item in part)
    if not isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field) or id(part) in seen:
        return False
    seen.add(id(part))
    if isinstance(part, msgspec.inspect.AnyType | msgspec.inspect.CustomType | msgspec.inspect.RawType):
        return True
    return any(_has_open(getattr(part, name), seen) for name in part.__struct_fields__ if name != "default")
