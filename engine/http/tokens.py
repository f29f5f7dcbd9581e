"""Bearer tokens: made, and told apart. A token is known by its SHA-256; the token itself is in no file and in no log.

What a request carries is compared with every hash, in a time that does not depend on which one fits or how far, so
that nothing is learned from how long a refusal takes. No I/O; the clock is the caller's.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from headrace.config.tokens import Token

from .scopes import Need

#: By it people, and the scanners of code hosts, know one that lies about.
PREFIX: Final = "headrace_"
#: 256 bits: nobody guesses it, so a plain SHA-256 needs no salt and no slowness.
_RANDOM_BYTES: Final = 32
_SCHEME: Final = b"bearer "
#: Long enough to make another and to hand it to all who need it.
ENDS_SOON: Final = timedelta(days=7)


def new_token() -> str:
    """Return a token that nobody had before: the prefix and 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_of(token: str | bytes) -> str:
    """Return what the configuration keeps of a token."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).hexdigest()


class Ending(NamedTuple):
    """A token that has expired, or does so before long.

    Attributes:
        token: The token.
        expires: When.
        is_over: Whether it has.
    """

    token: Token
    expires: datetime
    is_over: bool


def endings(known: Sequence[Token], now_s: float) -> list[Ending]:
    """Return the tokens that have expired, and those that do so within ENDS_SOON.

    Args:
        known: As the configuration holds them.
        now_s: The wall clock.
    """
    now = datetime.fromtimestamp(now_s, UTC)
    return [
        Ending(token, token.expires, token.expires <= now)
        for token in known
        if token.expires is not None and token.expires <= now + ENDS_SOON
    ]


class Tokens:
    """The tokens that are known.

    Args:
        known: As the configuration holds them.
    """

    def __init__(self, known: Sequence[Token]) -> None:
        self._known = [(token, token.sha256.encode()) for token in known]

    def find(self, presented: bytes, now_s: float) -> Token | None:
        """Return which token this is; None for one that is unknown or has expired.

        Args:
            presented: The token.
            now_s: The wall clock.
        """
        digest = hash_of(presented).encode()
        found = None
        for token, known in self._known:
            if hmac.compare_digest(digest, known):
                found = token
        if found is None or (found.expires is not None and found.expires <= datetime.fromtimestamp(now_s, UTC)):
            return None
        return found


def presented(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """Return the bearer token of a request's headers; None where there is none, or more than one."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1 or values[0][: len(_SCHEME)].lower() != _SCHEME:
        return None
    return values[0][len(_SCHEME) :].strip() or None


def allows(token: Token, need: Need) -> bool:
    """Return whether a token may do what needs this scope; `admin` may do all."""
    return need == "open" or need in token.scopes or "admin" in token.scopes
