"""Keeps the data folder to its user: jobs, results and tracebacks may hold what nobody else should read.

A folder of ours that is open to others is closed; one that somebody else owns is refused. Changes modes, nothing else.
"""

import os
import stat
from pathlib import Path

from headrace.config.errors import ConfigError


def private(path: str, flags: int) -> int:
    """Open a file that nobody else may read, made so if it is new; the `opener` of `open`."""
    return os.open(path, flags, 0o600)


def keep_private(data: Path, *, uid: int) -> None:
    """Close an existing data folder to everybody else.

    Args:
        data: The folder, its links resolved.
        uid: The user whom it must belong to.

    Raises:
        ConfigError: it belongs to somebody else, who could read or replace what is in it.
        OSError: its mode cannot be changed.
    """
    found = data.stat()
    if not stat.S_ISDIR(found.st_mode):
        return  # whoever uses it is told that a file is in the way
    if found.st_uid != uid:
        raise ConfigError(
            f"{data}, where the embedded server's data lie, belongs to user {found.st_uid} and not to user {uid}, who "
            "runs this: its owner could read and replace the jobs in it. Run this as its owner, or keep the data "
            "elsewhere (HEADRACE_URL=embedded:///path/of/the/data)"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        data.chmod(0o700)
