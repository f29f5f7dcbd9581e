"""The bearer tokens of the HTTP API as the configuration holds them: a name, a SHA-256, what it may do and how long.

The token itself is never in the configuration, only its hash; no message of this module repeats a hash.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

Scope = Literal["submit", "read", "admin"]
NAME_MAX_CHARS: Final = 100
_NO_HASH: Final = (
    "; sha256 takes the 64 lower-case hexadecimal digits that `headrace token new` prints beside the token, not the "
    "token itself"
)


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bearer token of the HTTP API.

    Attributes:
        name: What logs and `config show` call it.
        sha256: SHA-256 of the token, 64 lower-case hexadecimal digits.
        scopes: What it may do.
        expires: From when on it is refused (RFC 3339 with its offset); None for never.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX_CHARS)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1)]
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


def parse_tokens(value: object) -> tuple[Token, ...]:
    """Return the tokens of a list of tables, as TOML and code hold it, or of the same list written as JSON.

    Raises:
        ValueError: a token is not well formed, or two have one name; the message names the place, never a hash.
    """
    try:
        if isinstance(value, str):
            tokens = msgspec.json.decode(value, type=tuple[Token, ...])
        else:
            tokens = msgspec.convert(value, tuple[Token, ...])
    except (msgspec.DecodeError, UnicodeError) as error:
        hint = _NO_HASH if "sha256`" in str(error) and "regex" in str(error) else ""
        raise ValueError(f"the tokens are not a list of {{name, sha256, scopes, expires}}: {error}{hint}") from None
    names = [token.name for token in tokens]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two tokens have the name {twice[0]!r}; each needs its own")
    return tokens


def format_tokens(tokens: tuple[Token, ...]) -> str:
    """Return the tokens for people: names, scopes and expiry, no hashes."""
    return ", ".join(_format(token) for token in tokens) or "none"


def _format(token: Token) -> str:
    until = "" if token.expires is None else f", until {token.expires.isoformat()}"
    return f"{token.name} ({' '.join(token.scopes)}{until})"
