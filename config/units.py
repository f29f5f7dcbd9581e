"""Durations and sizes as people write them: "250ms" and "16MiB" into plain seconds and bytes, and back.

Pure functions. A plain number is seconds, or bytes. What cannot be read raises ValueError with the forms that can be.
KB, MB, GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024. What is formatted reads back as itself.
"""

import math
import re
from datetime import timedelta
from typing import Final

#: unit -> seconds; largest first, so that formatting finds the shortest form. Milliseconds are divided, not multiplied:
#: 250 / 1000 is the nearest float to 0.25, while 250 * 0.001 need not be.
_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_MS_PER_S: Final = 1000

#: unit in lower case -> bytes.
_BYTES: Final = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
#: What a size is written in: binary units before decimal ones, largest first.
_SIZE_UNITS: Final = ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "KB")

# At most 18 digits before the point: more is no number that a person means, and int() of endless digits is slow.
# Behind it are up to 21 in what Python writes: 17 that count, behind zeros down to 0.0001.
_NUMBER: Final = r"([0-9]{1,18}(?:\.[0-9]{1,21})?(?:e[+-]?[0-9]{1,3})?)"
_DURATION: Final = re.compile(rf"{_NUMBER} ?(ms|s|m|h|d)?", re.ASCII)
_SIZE: Final = re.compile(rf"{_NUMBER} ?([kmgt]?i?b)?", re.ASCII | re.IGNORECASE)

_DURATION_FORMS: Final = "write a number of seconds, or a number with ms, s, m, h or d behind it, such as 250ms or 30s"
_SIZE_FORMS: Final = "write a number of bytes, or a number with KiB, MiB, GiB, KB, MB or GB behind it, such as 16MiB"


def parse_duration(value: object) -> float:
    """Return a duration in seconds.

    Args:
        value: "250ms", "30s", "5m", "1h", "30d", a plain number of seconds (also as text), or a timedelta.

    Raises:
        ValueError: it is none of these, negative, or not finite; the message says what can be written.
    """
    if type(value) is float and 0.0 <= value < math.inf:  # first, since it is asked for each wait
        return value
    duration_s = math.nan
    if isinstance(value, bool):
        pass
    elif isinstance(value, (int, float)):
        duration_s = _as_float(value)
    elif isinstance(value, timedelta):
        duration_s = value.total_seconds()
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        number, unit = float(match[1]), match[2] or "s"
        duration_s = number / _MS_PER_S if unit == "ms" else number * _SECONDS[unit]
    if not math.isfinite(duration_s) or duration_s < 0:
        raise ValueError(f"{value!r} is not a duration; {_DURATION_FORMS}")
    return duration_s


def parse_size(value: object) -> int:
    """Return a size in bytes; a fraction such as "1.5MiB" is rounded down to whole bytes.

    Args:
        value: "16MiB", "1GiB", "64KB" (upper or lower case), or a plain whole number of bytes (also as text).

    Raises:
        ValueError: it is none of these, or negative; the message says what can be written.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        unit_bytes = _BYTES.get((match[2] or "b").lower(), 0)
        number = int(match[1]) if match[1].isdigit() else float(match[1])
        size_bytes = number * unit_bytes
        if unit_bytes and math.isfinite(size_bytes):
            return int(size_bytes)
    raise ValueError(f"{value!r} is not a size; {_SIZE_FORMS}")


def format_duration(duration_s: float) -> str:
    """Return a duration as people write it, in the largest unit that leaves a whole number: 5400 -> "90m".

    Args:
        duration_s: Seconds, zero or more.
    """
    if duration_s == 0:
        return "0s"
    for unit, unit_s in _SECONDS.items():
        if duration_s % unit_s == 0 and duration_s < 1e15:
            return f"{int(duration_s // unit_s)}{unit}"
    whole_ms = round(duration_s * _MS_PER_S) if duration_s < 1e12 else 0
    return f"{whole_ms}ms" if whole_ms / _MS_PER_S == duration_s else f"{duration_s!r}s"


def format_size(size_bytes: int) -> str:
    """Return a size as people write it, in the largest unit that leaves a whole number: 16777216 -> "16MiB".

    Args:
        size_bytes: Bytes, zero or more.
    """
    for unit in _SIZE_UNITS:
        unit_bytes = _BYTES[unit.lower()]
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{unit}"
    return f"{size_bytes}B"


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
