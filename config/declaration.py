"""What a setting is: its name, kind, description and bounds in one record, and how its values are read and written.

The fields of headrace.config.settings carry one such record each; the sources, `config show` and the generated page
all work from it. Pure functions: a value that cannot be taken raises ValueError, and its message names the setting.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

import msgspec

from .origins import format_origins, parse_origins
from .tokens import Token, format_tokens, parse_tokens
from .units import format_duration, format_size, parse_duration, parse_size

Kind = Literal["duration", "size", "count", "bool", "choice", "string", "fraction", "tokens", "origins"]
#: What a setting may hold in the record: seconds, bytes, counts, words, tokens, origins, or None where it has a
#: `none_word`.
Value = float | str | tuple[Token, ...] | tuple[str, ...] | None


class Setting(msgspec.Struct, frozen=True):
    """The declaration of one setting.

    Attributes:
        name: As users write it: "lease", or "http.port" for one in a section.
        kind: How its values are read and written.
        about: One line for people.
        minimum: The least it may be, in seconds, bytes or as a count; None for no bound.
        maximum: The most it may be.
        choices: The words that a choice may be.
        pattern: The regular expression that the whole of a string must match; empty for any.
        none_word: How people write None; empty where None is no value.
    """

    name: str
    kind: Kind
    about: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    none_word: str = ""


def duration(name: str, about: str, minimum: float, maximum: float, none_word: str = "") -> Setting:
    """Declare a duration; the bounds are seconds."""
    return Setting(name, "duration", about, minimum, maximum, none_word=none_word)


def size(name: str, about: str, minimum: int, maximum: int) -> Setting:
    """Declare a size; the bounds are bytes."""
    return Setting(name, "size", about, minimum, maximum)


def count(name: str, about: str, minimum: int, maximum: int, none_word: str = "") -> Setting:
    """Declare a whole number."""
    return Setting(name, "count", about, minimum, maximum, none_word=none_word)


def choice(name: str, about: str, words: object) -> Setting:
    """Declare a choice; `words` is the Literal that its field is annotated with."""
    return Setting(name, "choice", about, choices=get_args(words))


def string(name: str, about: str, *, pattern: str = "", none_word: str = "") -> Setting:
    """Declare a text."""
    return Setting(name, "string", about, pattern=pattern, none_word=none_word)


def read(setting: Setting, raw: object) -> Value:
    """Return the value that was meant by what a file, a variable, code or a flag holds.

    Raises:
        ValueError: it cannot be read or is out of bounds; whoever wrote it has to mend it.
    """
    if setting.none_word and isinstance(raw, str) and raw.strip() == setting.none_word:
        return None
    try:
        value = _READERS[setting.kind](setting, raw)
    except ValueError as error:
        raise ValueError(f"{setting.name}: {error}") from None
    if isinstance(value, int | float):
        if setting.minimum is not None and value < setting.minimum:
            raise ValueError(f"{setting.name}: {write(setting, value)} is too little; {bounds(setting)}")
        if setting.maximum is not None and value > setting.maximum:
            raise ValueError(f"{setting.name}: {write(setting, value)} is too much; {bounds(setting)}")
    return value


def write(setting: Setting, value: Value) -> str:
    """Return a value as people write it; `read` takes it back, except for tokens, whose hashes are left out."""
    if value is None:
        return setting.none_word
    if isinstance(value, tuple):
        tokens = tuple(item for item in value if isinstance(item, Token))
        origins = tuple(item for item in value if isinstance(item, str))
        return format_tokens(tokens) if setting.kind == "tokens" else format_origins(origins)
    if setting.kind == "duration" and isinstance(value, int | float):
        return format_duration(value)
    if setting.kind == "size" and isinstance(value, int):
        return format_size(value)
    if setting.kind == "bool":
        return "yes" if value else "no"
    return str(value)


def bounds(setting: Setting) -> str:
    """Return what values a setting takes, in words, such as "at least 500ms, at most 1h"."""
    if setting.choices:
        return " or ".join([", ".join(setting.choices[:-1]), setting.choices[-1]])
    if setting.kind == "bool":
        return "yes or no"
    limits = []
    if setting.minimum is not None:
        limits.append(f"at least {write(setting, _plain(setting, setting.minimum))}")
    if setting.maximum is not None:
        limits.append(f"at most {write(setting, _plain(setting, setting.maximum))}")
    return ", ".join(limits)


def _plain(setting: Setting, bound: float) -> float:
    return int(bound) if setting.kind in ("count", "size") else bound


def _read_count(_setting: Setting, raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and re.fullmatch(r"-?[0-9][0-9_]{0,30}", raw.strip(), re.ASCII):
        return int(raw.strip().replace("_", ""))
    raise ValueError(f"{raw!r} is not a whole number")


def _read_fraction(_setting: Setting, raw: object) -> float:
    fraction = math.nan
    if isinstance(raw, int | float | str) and not isinstance(raw, bool):
        try:
            fraction = float(raw)
        except (ValueError, OverflowError):
            fraction = math.nan
    if not math.isfinite(fraction):
        raise ValueError(f"{raw!r} is not a number such as 0.8")
    return fraction


_WORDS: Final = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False} | {
    "1": True,
    "0": False,
}


def _read_bool(_setting: Setting, raw: object) -> bool:
    if isinstance(raw, bool | int | str) and (word := str(raw).strip().lower()) in _WORDS:
        return _WORDS[word]
    raise ValueError(f"{raw!r} is neither yes nor no; write yes, no, true, false, on, off, 1 or 0")


def _read_choice(setting: Setting, raw: object) -> str:
    if isinstance(raw, str) and raw.strip() in setting.choices:
        return raw.strip()
    raise ValueError(f"{raw!r} is not among the choices; write {bounds(setting)}")


def _read_string(setting: Setting, raw: object) -> str:
    text = os.fspath(raw) if isinstance(raw, os.PathLike) else raw
    # The value is not repeated here: a URL holds a password.
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"expected a text that is not empty, got {type(raw).__name__}")
    if setting.pattern and not re.fullmatch(setting.pattern, text):
        raise ValueError(f"{text!r} does not match {setting.pattern}")
    return text


_READERS: Final[Mapping[Kind, Callable[[Setting, object], Value]]] = {
    "duration": lambda _setting, raw: parse_duration(raw),
    "size": lambda _setting, raw: parse_size(raw),
    "count": _read_count,
    "bool": _read_bool,
    "choice": _read_choice,
    "string": _read_string,
    "fraction": _read_fraction,
    "tokens": lambda _setting, raw: parse_tokens(raw),
    "origins": lambda _setting, raw: parse_origins(raw),
}
