"""Unique keys: what makes two submissions the same job, and what the second one gets.

Pure. A key holds within one queue, from the submission of a job until that job ends; a broker keeps it.
"""

import hashlib
from typing import Final, Literal

import msgspec

OnDuplicate = Literal["reject", "return"]
#: Room for an address or a path; longer keys belong into a digest.
KEY_MAX_CHARS: Final = 500


class Unique(msgspec.Struct, frozen=True):
    """A unique key, and what a second submission gets while the first job has not ended.

    Attributes:
        key: The key; True makes one of the handler's name and the arguments.
        on_duplicate: "reject" raises DuplicateJob, "return" gives the first job's handle.
    """

    key: str | Literal[True] = True
    on_duplicate: OnDuplicate = "reject"

    def text(self, name: str, packed: bytes) -> str:
        """Return the key of one submission.

        Args:
            name: The handler's name.
            packed: Its packed arguments; equal arguments are equal bytes where they are given in the same way.
        """
        return self.key if self.key is not True else f"{name}:{hashlib.blake2b(packed, digest_size=16).hexdigest()}"


def unique_from(value: "Unique | str | bool | None") -> Unique | None:
    """Return what `unique=` says; None where it says nothing.

    Raises:
        ValueError: it cannot be a key.
    """
    if value is None or value is False:
        return None
    unique = value if isinstance(value, Unique) else Unique(value)
    if unique.on_duplicate not in ("reject", "return"):
        raise ValueError(f'on_duplicate={unique.on_duplicate!r}: use "reject" or "return"')
    key = unique.key
    if key is True:
        return unique
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_MAX_CHARS:
        raise ValueError(f"unique={key!r}: use True, or a text of 1 to {KEY_MAX_CHARS} characters")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"unique={key!r} is no valid Unicode, so it cannot be sent") from None
    return unique
