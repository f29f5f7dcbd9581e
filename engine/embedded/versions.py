"""Tell whether a server is older than the one that wrote the data, before it is let near them.

Runs the binary with --version, which takes a few milliseconds and opens nothing. No mutable state.
"""

import re
import subprocess
from pathlib import Path

_SAID = re.compile(r"^(\w+) server v=(\d[\d.]*)", re.MULTILINE)
#: Generous: it only prints.
_WITHIN_S = 10.0


def version_of(binary: Path) -> str:
    """Return product and version of a server, as in "Valkey 9.1.2"; empty when it does not say."""
    try:
        ended = subprocess.run(
            [str(binary), "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=_WITHIN_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _SAID.search(ended.stdout)
    return f"{found[1]} {found[2]}" if found else ""


def is_older(version: str, than: str) -> bool:
    """Return whether a version is of the same product and an earlier release; one bug fix more or less is the same.

    The format of the data never changes between bug fixes. Of two products nothing can be said: the server tells.
    """
    ours, theirs = _release(version), _release(than)
    return None not in (ours, theirs) and ours[0] == theirs[0] and ours[1:] < theirs[1:]  # type: ignore[index]


def _release(version: str) -> tuple[str, int, int] | None:
    found = re.fullmatch(r"(\w+) (\d+)\.(\d+).*", version)
    return (found[1].lower(), int(found[2]), int(found[3])) if found else None
