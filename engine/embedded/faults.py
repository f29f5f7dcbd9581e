"""Say in words why the embedded server cannot be had: what happened, where, and what to do next.

Turns errors of the operating system and the server's own log into one ConfigError. Reads the log, changes nothing.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.config.errors import ConfigError

#: As much of the log as helps and still fits a terminal.
LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 4096

_ELSEWHERE = "or keep the data elsewhere (HEADRACE_URL=embedded:///path/of/the/data)"
_REMEDIES = {
    errno.ENOSPC: f"the disk is full: free some space, {_ELSEWHERE}",
    errno.EDQUOT: f"your quota is used up: free some space, {_ELSEWHERE}",
    errno.EROFS: f"the file system is read-only: make it writable, {_ELSEWHERE}",
    errno.EACCES: f"you may not write there: change its owner or its mode, {_ELSEWHERE}",
    errno.EPERM: f"you may not write there: change its owner or its mode, {_ELSEWHERE}",
    errno.ENOTDIR: f"a file is in the way of the folder: move it, {_ELSEWHERE}",
    errno.EEXIST: f"a file is in the way of the folder: move it, {_ELSEWHERE}",
    errno.ENOLCK: f"its file system has no locks: use a local disk, {_ELSEWHERE}",
}
#: What the servers say of a data file whose format they do not know: too new, or of the other product.
_FOREIGN_FORMAT = ("Can't handle RDB format version", "Wrong signature trying to load DB", "Unknown command '")
#: What the servers advise for a damaged file; on data of a newer server it would cut off all that the old cannot read.
_RUINOUS_ADVICE = re.compile(r"[:.,;]? *(?:make a backup|[^:.,;]*check-aof).*--fix.*", re.IGNORECASE)


@contextmanager
def explained(data: Path) -> Iterator[None]:
    """Turn an error of the operating system into a ConfigError that names the data folder and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"make it a folder that you can write to, {_ELSEWHERE}")
        raise ConfigError(f"the embedded server's data folder {data} cannot be used ({error}); {remedy}") from error


def failed_start(data: Path, *, binary: Path, why: str, last_version: str, log: Path, log_from: int) -> ConfigError:
    """Make the error of a server that did not come up.

    Args:
        data: The data folder.
        binary: The program that was run.
        why: What it did, as in "ended with status 1".
        last_version: Product and version that wrote the data last; empty when unknown.
        log: Its log.
        log_from: Where in the log this start begins, in bytes.
    """
    tail = read_tail(log, start=log_from)
    if any(sign in tail for sign in _FOREIGN_FORMAT):
        remedy = _written_by_another(last_version, str(binary))
    elif "No space left on device" in tail:
        remedy = _REMEDIES[errno.ENOSPC]
    elif "Read-only file system" in tail:
        remedy = _REMEDIES[errno.EROFS]
    else:
        remedy = f"mend what its log complains of, {_ELSEWHERE}"
    said = f"; the end of {log}:\n{tail}" if tail else f"; {log} says nothing"
    return ConfigError(f"the embedded server {binary} {why} with the data in {data}: {remedy}{said}")


def too_old(data: Path, *, binary: Path, version: str, last_version: str) -> ConfigError:
    """Make the error of a server that is older than the one that wrote the data last; it was not started.

    Args:
        data: The data folder.
        binary: The program.
        version: Its product and version.
        last_version: Product and version that wrote the data.
    """
    remedy = _written_by_another(last_version, f"{binary} ({version})")
    return ConfigError(f"the embedded server was not started on the data in {data}: {remedy}")


def _written_by_another(last_version: str, binary: str) -> str:
    writer = f"a newer or another server ({last_version})" if last_version else "a newer or another server"
    return (
        f"the data were written by {writer} than {binary}: they are safe, and that server reads them; use it again "
        f"(pip install --upgrade 'headrace[embedded]'), {_ELSEWHERE}"
    )


def read_tail(log: Path, *, start: int) -> str:
    """Return the last lines of a log, none from before `start` bytes, without the advice to cut the data."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start, size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(_RUINOUS_ADVICE.sub("", line) for line in lines[-LOG_TAIL_LINES:])
