"""Configuration: the settings in force and where they came from, units, limits, errors, and the logging set-up.

The lowest layer: it imports nothing else of headrace. It reads the project's configuration file and what it is handed,
and never opens a connection. Importing it loads neither structlog nor a TOML parser; their first use does.
"""

from .declaration import Setting
from .errors import ConfigError, HeadraceError
from .logs import configure, logger
from .settings import FileSettings, HttpSettings, Settings, cores, places
from .show import Row, mask_url, rows
from .sources import Loaded, load, project_folder
from .tokens import Token
from .units import format_duration, format_size, parse_duration, parse_size

__all__ = [
    "ConfigError",
    "FileSettings",
    "HeadraceError",
    "HttpSettings",
    "Loaded",
    "Row",
    "Setting",
    "Settings",
    "Token",
    "configure",
    "cores",
    "format_duration",
    "format_size",
    "load",
    "logger",
    "mask_url",
    "parse_duration",
    "parse_size",
    "places",
    "project_folder",
    "rows",
]
