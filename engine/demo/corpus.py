"""Which files the demo indexes: the running Python's own standard library, or every Python source below a folder.

Lists names and opens nothing. What cannot be listed or named to a job is told in words, never left out in silence.
"""

import os
import sysconfig
from pathlib import Path
from typing import Final

import msgspec

from headrace.config.errors import ConfigError

#: Installed packages lie inside the library's folder and are no part of it.
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_COMPILED: Final = "__pycache__"


class Corpus(msgspec.Struct, frozen=True):
    """Files to index.

    Attributes:
        root: The folder that they are below.
        paths: The files, absolute, in order of their names.
        left_out: What there may be beside them and why it is left out, a sentence each.
    """

    root: Path
    paths: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def standard_library() -> Corpus:
    """Return the running Python's standard library, without the packages installed beside it.

    Raises:
        ConfigError: its sources are not on this machine, as where Python came in one compressed file.
    """
    root = Path(sysconfig.get_path("stdlib"))
    corpus = _collect(root, _INSTALLED | {_COMPILED})
    if not corpus.paths:
        raise ConfigError(
            f"the sources of this Python's standard library are not in {root}: "
            "give a folder of Python sources, as in `headrace demo --path DIR`"
        )
    return corpus


def folder(root: Path) -> Corpus:
    """Return every *.py below a folder.

    Raises:
        ConfigError: it is no folder, or there is none in it.
    """
    if not root.is_dir():
        raise ConfigError(f"--path {root} is not a folder; give one that holds Python sources")
    corpus = _collect(root, frozenset({_COMPILED}))
    if not corpus.paths:
        why = f" ({'; '.join(corpus.left_out)})" if corpus.left_out else ""
        raise ConfigError(f"--path {root} holds no *.py file, nor does any folder below it{why}; give one that does")
    return corpus


def _collect(root: Path, skipped: frozenset[str]) -> Corpus:
    root = root.absolute()
    paths: list[str] = []
    left_out: list[str] = []

    def note(error: OSError) -> None:
        left_out.append(f"{error.filename!r} cannot be listed: {error.strerror}")

    for where, folders, names in os.walk(root, onerror=note):
        folders[:] = sorted(name for name in folders if name not in skipped)
        for name in sorted(names):
            path = os.path.join(where, name)
            if name.endswith(".py") and os.path.isfile(path):  # not a pipe or a dead link of that name
                if is_text(path):
                    paths.append(path)
                else:
                    left_out.append(f"{path!r} has a name that is not UTF-8, which a job's arguments cannot hold")
    return Corpus(root, tuple(paths), tuple(left_out))


def is_text(path: str) -> bool:
    """Return whether a path can travel as text: False where its bytes are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
