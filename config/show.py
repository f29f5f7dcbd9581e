"""The settings in force, row by row, for `headrace config show`, with passwords masked.

Pure functions: they return rows and print nothing.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from .declaration import write
from .settings import places
from .sources import Loaded

_MASK: Final = "***"
_QUERY_PASSWORD: Final = re.compile(r"([?&][^=&]*(?:password|token|secret)[^=&]*=)[^&]*", re.IGNORECASE)


class Row(msgspec.Struct, frozen=True):
    """One setting in force.

    Attributes:
        name: The setting's name.
        value: Its value as people write it.
        origin: Where it came from.
    """

    name: str
    value: str
    origin: str


def rows(loaded: Loaded) -> Iterator[Row]:
    """Yield every setting with its value and where it came from; passwords in URLs are masked, tokens lack hashes."""
    for name, place in places().items():
        value = write(place.setting, place.value(loaded.settings))
        yield Row(name, mask_url(value) if name == "url" else value, loaded.origins[name])


def mask_url(url: str) -> str:
    """Return the URL with its password replaced by ***, in doubt too much of it rather than too little.

    A password may hold any character, unescaped ones too, so the last @ ends it and the first : begins it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    if not rest.startswith("/"):  # else it is a path, as in unix:///run/redis.sock
        credentials, at, server = rest.rpartition("@")
        user, colon, _password = credentials.partition(":")
        if at and colon:
            rest = f"{user}:{_MASK}@{server}"
    return scheme + separator + _QUERY_PASSWORD.sub(rf"\g<1>{_MASK}", rest)
