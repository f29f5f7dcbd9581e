"""CRC32C (Castagnoli), the check sum of framed records.

A table of our own and no library: google-crc32c falls back to pure Python wherever it has no wheel (musl, new Python
versions), and zlib has only the other polynomial. One byte costs about 60 ns on CPython 3.11 (16 MB/s measured), so a
submission of 300 bytes costs about 20 us; records that matter more than that belong in a database.
"""

from typing import Final

#: The Castagnoli polynomial 0x1EDC6F41, bits reversed.
_POLYNOMIAL: Final = 0x82F63B78


def _row(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(_row(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """Return the CRC32C of `data` as an unsigned 32-bit number."""
    table = _TABLE
    register = 0xFFFFFFFF
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF
