"""Content codings: which one a client takes, and what packs an answer in it.

zstd where the client takes it as gladly as gzip: of a list of jobs it leaves an eighth less, in a fifth of the time.
What is packed has no time or name in it, so the same document is always the same bytes. Each answer owns its packer.
"""

import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: zlib's level: 6 is 3 % smaller than 4 for lists of jobs, and takes twice as long.
GZIP_LEVEL: Final = 4
#: zstd's own default; 6 is 2 % smaller for lists of jobs, and takes five times as long.
ZSTD_LEVEL: Final = 3
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS


class Packer(Protocol):
    """Packs a document piece by piece."""

    def compress(self, content: bytes, /) -> bytes:
        """Take a piece, and return what is ready to be sent, perhaps nothing yet."""

    def flush(self) -> bytes:
        """Return the rest."""


def _gzip() -> Packer:
    return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)


def _zstd() -> Packer:
    return zstd.ZstdCompressor(ZSTD_LEVEL)


#: The codings there are, the best first: the name in Content-Encoding, and what makes a packer.
CODINGS: Final[Mapping[bytes, Callable[[], Packer]]] = {b"zstd": _zstd, b"gzip": _gzip}
#: Other names that a client may give one (RFC 9110).
_ALIASES: Final = {b"x-gzip": b"gzip"}


def coding_for(accepted: Sequence[bytes]) -> bytes | None:
    """Return the name of the coding that Accept-Encoding headers prefer; None for none.

    One is allowed by its name, or by "*", and not with a weight of 0; of those with the same weight it is ours to
    choose.
    """
    weights: dict[bytes, float] = {}
    for part in b",".join(accepted).lower().split(b","):
        named, _, parameters = part.partition(b";")
        name = named.strip()
        weights[_ALIASES.get(name, name)] = _weight(parameters)
    unnamed = weights.get(b"*", 0.0)
    best = max(CODINGS, key=lambda coding: weights.get(coding, unnamed))  # the first of equals
    return best if weights.get(best, unnamed) > 0 else None


def compress(content: bytes, coding: bytes) -> bytes:
    """Return the bytes in a coding of ours."""
    packer = CODINGS[coding]()
    return packer.compress(content) + packer.flush()


def _weight(parameters: bytes) -> float:
    name, _, value = parameters.strip().partition(b"=")
    if name.strip() != b"q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
