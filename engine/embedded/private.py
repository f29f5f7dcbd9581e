"""Keeps the data folder to its user: jobs, results and tracebacks may hold what nobody else should read.

A folder of ours that is open to others is closed; one that somebody else owns is refused. It makes a folder that is
missing, and changes modes, nothing else.
"""

import os
import stat
from pathlib import Path

from headrace.config.errors import ConfigError


def private(path: str, flags: int) -> int:
    """Open a file that nobody else may read, made so if it is new; the `opener` of `open`."""
    return os.open(path, flags, 0o600)


def make_private(data: Path) -> None:
    """Have a data folder that is closed to everybody else; make it where it is missing.

    Raises:
        ConfigError: it belongs to somebody else.
        OSError: it cannot be made.
    """
    if data.is_dir():
        keep_private(data, uid=os.geteuid())
        return
    data.parent.mkdir(parents=True, exist_ok=True)
    data.mkdir(mode=0o700, exist_ok=True)
    with open(data / ".gitignore", "w", opener=private) as ignored:
        ignored.write("*\n")  # the folder is made beside people's sources


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
            f"{data}, where headrace keeps its data, belongs to user {found.st_uid} and not to user {uid}, who "
            "runs this: its owner could read and replace the jobs in it. Run this as its owner, or keep the data "
            "elsewhere (HEADRACE_URL=embedded:///path/of/the/data)"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        data.chmod(0o700)
