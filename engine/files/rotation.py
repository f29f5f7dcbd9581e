"""Rotation: when a file is full or old, it is renamed to PATH.000001, PATH.000002 and so on, higher being newer.

Numbers only go up, so a name never changes once given and nothing is ever overwritten. Only the oldest numbered files
are deleted, and only where `keep_files` says how many stay. All functions block; they run in the file's thread.
"""

import os
from pathlib import Path


def rotated_paths(path: Path) -> list[Path]:
    """Return the files that `path` was rotated to, oldest first."""
    prefix = path.name + "."
    found = [(int(tail), other) for other in path.parent.iterdir() if (tail := _number(other.name, prefix))]
    return [other for _, other in sorted(found)]


def set_aside(path: Path) -> Path:
    """Rename `path` to the next number and return the new name; either it is renamed or OSError is raised."""
    older = rotated_paths(path)
    number = int(older[-1].name.rpartition(".")[2]) + 1 if older else 1
    return path.rename(path.with_name(f"{path.name}.{number:06d}"))


def prune(path: Path, keep_files: int) -> None:
    """Delete the oldest numbered files beyond `keep_files`; 0 keeps all."""
    if keep_files:
        for old in rotated_paths(path)[:-keep_files]:
            old.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make a creation or a rename in the folder of `path` durable."""
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _number(name: str, prefix: str) -> str:
    """Return the digits behind the prefix, or "" where the name is another's."""
    tail = name.removeprefix(prefix)
    return tail if name.startswith(prefix) and len(tail) >= 6 and tail.isascii() and tail.isdigit() else ""
