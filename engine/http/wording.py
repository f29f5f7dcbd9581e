"""The engine's messages as HTTP has them: fields of a job for options of Python's, remedies that a request can take.

Only the front and the end of a message are looked at, where the engine itself speaks; what it quotes of a request stays
as it came. No state.
"""

import re
from typing import Final

from headrace.jobs.submission import DELAY_AND_AT

from ..packing import DUPLICATE_REMEDY
from .records import JobRequest

#: An option of Python's -> the field of a job.
_FIELDS: Final = {"delay": "delay_s", "timeout": "timeout_s", "expires": "expires_s", "retry": "attempts"}
_OPTION: Final = re.compile(rf"({'|'.join(_FIELDS)})=")
_UNKNOWN_FIELD: Final = re.compile(r"(?:the job: )?Object contains unknown field `([^`]*)`\Z")
_DUPLICATE_REMEDY: Final = "wait for it, or submit with another unique key"
_ORDER: Final = JobRequest.__struct_fields__


def in_http(text: str) -> str:
    """Return a message of the engine's as one of the API's."""
    if text == DELAY_AND_AT:
        return "give delay_s or at, not both"
    if text.endswith(DUPLICATE_REMEDY):
        return text.removesuffix(DUPLICATE_REMEDY) + _DUPLICATE_REMEDY
    if option := _OPTION.match(text):
        return f"{_FIELDS[option[1]]}={text[option.end() :]}"
    if unknown := _UNKNOWN_FIELD.match(text):
        return f"{text}; {_meant(unknown[1])}"
    return text


def _meant(name: str) -> str:
    import difflib  # only where somebody misspelt a field

    near = difflib.get_close_matches(name, _ORDER, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}a job has {', '.join(_ORDER)}"
