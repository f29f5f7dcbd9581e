"""Lines from a file or a pipe, with bounded memory and a sign of life while none come.

Reads the descriptor itself, so that a pipe that pauses is noticed. Owns its buffer; the caller owns the descriptor.
"""

import os
import select
from collections.abc import Iterator
from typing import Final

_CHUNK_BYTES: Final = 1 << 16
#: A pipe that is silent for so long has paused: what is gathered is sent then.
QUIET_S: Final = 0.5


def lines(descriptor: int, longest_bytes: int) -> Iterator[bytes | None]:
    """Yield each line without its end, cut at `longest_bytes` + 1; None whenever nothing came for QUIET_S.

    Args:
        descriptor: An open file or pipe.
        longest_bytes: More than this of a line is thrown away, so the caller sees by its length that it is too long.
    """
    line = bytearray()
    while True:
        if not select.select([descriptor], [], [], QUIET_S)[0]:
            yield None
            continue
        chunk = os.read(descriptor, _CHUNK_BYTES)
        if not chunk:
            break
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            line += part[: longest_bytes + 1 - len(line)]
            yield bytes(line)
            line.clear()
        line += rest[: longest_bytes + 1 - len(line)]
    if line:
        yield bytes(line)
