"""Decide where the embedded server's data and socket lie, and whether there may be such a server at all.

Decisions from the arguments and the names that exist on disk; the only thing ever created is the private folder of
the socket. That folder is used only when it is ours and closed to everybody else. No mutable state.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from headrace.config.errors import ConfigError
from headrace.config.sources import project_folder

#: The kernel holds a socket's path in 104 bytes on macOS and 108 on Linux, the closing zero included.
SOCKET_PATH_MAX_BYTES = 100


def refuse_if_url_required(environ: Mapping[str, str], *, require_url: bool) -> None:
    """Refuse an embedded server that nobody asked for by path; call it when there is no URL.

    Args:
        environ: The environment.
        require_url: The setting of that name.

    Raises:
        ConfigError: a private server here would accept jobs that no other machine runs; the deployer must give a URL.
    """
    if require_url:
        why = "require_url (HEADRACE_REQUIRE_URL) is set"
    elif environ.get("KUBERNETES_SERVICE_HOST"):
        why = "this runs under Kubernetes (KUBERNETES_SERVICE_HOST is set)"
    else:
        return
    raise ConfigError(
        f"no server URL is given and {why}: a private server in here would acknowledge jobs that nobody else runs; "
        "set HEADRACE_URL=redis://host:6379/0, or embedded:///path/of/the/data if a private server is meant"
    )


def data_folder(path: Path | None, *, environ: Mapping[str, str], folder: Path) -> Path:
    """Decide where the data lie.

    Args:
        path: The path of an embedded:// URL; None to choose the project's or the user's folder.
        environ: The environment, for XDG_STATE_HOME and HOME.
        folder: Where the program runs; the project is looked for from here upward.

    Returns:
        The resolved path of the data folder, which need not exist.

    Raises:
        ConfigError: there is neither a project nor a home to keep data in.
    """
    if path is not None:
        return (folder / path.expanduser()).resolve()
    project = project_folder(folder)
    if project is not None:
        return project / ".headrace"
    state = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):  # the XDG specification has relative paths ignored
        return (Path(state) / "headrace").resolve()
    try:
        return ((Path(environ["HOME"]) if environ.get("HOME") else Path.home()) / ".local/state/headrace").resolve()
    except RuntimeError as error:
        raise ConfigError(
            f"{folder} lies in no project and you have no home folder, so there is no place for headrace's data: set "
            "XDG_STATE_HOME, or for an embedded server give one, as in HEADRACE_URL=embedded:///path/of/the/data"
        ) from error


def socket_paths(data: Path, *, environ: Mapping[str, str], uid: int) -> list[Path]:
    """List where the socket of a data folder may lie, best first; paths that the kernel would not take are left out.

    The last, in /tmp, is always short enough: a long TMPDIR costs nothing.
    """
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16] + ".sock"
    folders = []
    if os.path.isabs(environ.get("XDG_RUNTIME_DIR", "")):
        folders.append(Path(environ["XDG_RUNTIME_DIR"]) / "headrace")
    if os.path.isabs(environ.get("TMPDIR", "")):
        folders.append(Path(environ["TMPDIR"]) / f"headrace-{uid}")
    # Far below the bound, so the list is never empty; claim_socket sees to it that nobody else has a hand in it.
    folders.append(Path(f"/tmp/headrace-{uid}"))  # noqa: S108
    return [folder / name for folder in folders if len(os.fsencode(folder / name)) <= SOCKET_PATH_MAX_BYTES]


def claim_socket(paths: list[Path], *, uid: int) -> Path:
    """Make the private folder of the first path that can have one.

    Args:
        paths: Where the socket may lie, best first.
        uid: The user whom the folder must belong to.

    Returns:
        The path of the socket; its folder exists, belongs to `uid` and is closed to everybody else.

    Raises:
        ConfigError: the folder belongs to somebody else or is open to others, or none can be made.
    """
    reasons = []
    for path in paths:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            found = path.parent.lstat()
        except OSError as error:  # a runtime folder that is gone or closed to us: the next will do
            reasons.append(str(error))
            continue
        if not is_private(found, uid=uid):
            raise ConfigError(
                f"{path.parent}, where the embedded server's socket would lie, must be a folder of user {uid} with "
                f"mode 0700, but it belongs to user {found.st_uid} with mode {stat.filemode(found.st_mode)}: others "
                "could put a server of their own there. Remove it, or set XDG_RUNTIME_DIR to a folder of your own"
            )
        return path
    raise ConfigError(
        f"there is no folder for the embedded server's socket ({'; '.join(reasons) or 'none to try'}): "
        "set XDG_RUNTIME_DIR to a short path of your own that can be written"
    )


def is_private(found: os.stat_result, *, uid: int) -> bool:
    """Return whether an lstat shows a real folder that belongs to `uid` and that nobody else may enter."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and stat.S_IMODE(found.st_mode) & 0o077 == 0
