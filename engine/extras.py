"""Whether what the extra `server` brings is installed, asked before any of it is imported.

A plain installation has none of it, and one that was made for another Python may lack a part; asked for early, that is
one ConfigError that says what to install, and not an ImportError in the midst of a request. Holds no state.
"""

import importlib.util
import sys
from typing import Final

from headrace.jobs.errors import ConfigError

#: What the API imports, by name; compression.zstd is in the standard library from Python 3.14 on.
API_MODULES: Final = (
    "jinja2",
    "litestar",
    "prometheus_client",
    *(() if sys.version_info >= (3, 14) else ("backports.zstd",)),
)


def require_server(what: str, *further: str) -> None:
    """Return where the modules of the HTTP API are there.

    Args:
        what: What needs them, as the message is to name it.
        further: Modules that it needs beside them.

    Raises:
        ConfigError: some are not; the installation's fault.
    """
    missing = [name for name in (*further, *API_MODULES) if not _is_there(name)]
    if missing:
        raise ConfigError(f"{what} needs {' and '.join(missing)}: pip install 'headrace[server]'")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # nor the package that it would be in
        return False
