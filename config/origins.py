"""The origins of the HTTP API's CORS rules as the configuration holds them: a scheme, a host and a port, exactly.

Pure functions. "*" and "null" are refused: either would let pages in that nobody named.
"""

import re
from typing import Final

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?", re.ASCII)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_FORM: Final = "write it as browsers do, such as https://jobs.example.org or http://localhost:3000"


def parse_origins(value: object) -> tuple[str, ...]:
    """Return the origins of a list of texts, as TOML and code hold it, or of one text with commas between them.

    Raises:
        ValueError: one is no exact origin in the form that browsers send.
    """
    items = value.split(",") if isinstance(value, str) else value
    if value == "none":
        return ()
    if isinstance(items, list | tuple):
        return tuple(dict.fromkeys(_origin(item) for item in items))
    raise ValueError(f"expected a list of origins, got {type(value).__name__}")


def format_origins(origins: tuple[str, ...]) -> str:
    """Return the origins as people write them in a variable."""
    return ",".join(origins) or "none"


def _origin(item: object) -> str:
    origin = item.strip() if isinstance(item, str) else repr(item)
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise ValueError(f"{origin!r} is no origin; {_FORM}, without a path, a * or upper case")
    if found[1] == _DEFAULT_PORTS[origin.partition(":")[0]]:
        raise ValueError(f"{origin!r} names its scheme's own port, which browsers leave out; leave it out")
    return origin
