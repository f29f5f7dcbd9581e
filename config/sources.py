"""Where settings come from, weakest first: defaults, a project's file, HEADRACE_* variables, code, flags.

`load` merges the sources, remembers which one won for each setting, and reports every problem in every source at once.
It reads the two project files and nothing else; variables and flags come in as arguments. It changes nothing.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .declaration import Value, read
from .errors import ConfigError
from .settings import SECTIONS, Settings, build, places

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "headrace.toml"
PYPROJECT_NAME: Final = "pyproject.toml"
VARIABLE_PREFIX: Final = "HEADRACE_"
#: Read by the API's clients; no settings of a process that works.
CLIENT_URL_VARIABLE: Final = "HEADRACE_API"
CLIENT_TOKEN_VARIABLE: Final = "HEADRACE_TOKEN"  # noqa: S105 - the name of a variable
_NO_SETTINGS: Final = frozenset({CLIENT_URL_VARIABLE, CLIENT_TOKEN_VARIABLE})
DEFAULT_ORIGIN: Final = "default"

#: What Kubernetes puts into every pod beside a Service named `headrace` or `headrace-anything`; not meant for us.
_SERVICE_VARIABLE: Final = re.compile(
    r"HEADRACE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)", re.ASCII
)
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


class Loaded(msgspec.Struct, frozen=True):
    """The settings in force, and where each came from.

    Attributes:
        settings: The record, checked.
        origins: Setting -> "default", "headrace.toml:/folder", "pyproject.toml:/folder", "HEADRACE_LEASE", "code" or
            "flag --slots"; every setting has one.
    """

    settings: Settings
    origins: Mapping[str, str]


class _Given(msgspec.Struct, frozen=True):
    """One value as a source holds it: the setting's name as far as it is one, the value, and who says so."""

    name: str
    raw: object
    origin: str


def load(flags: Mapping[str, object], code: Mapping[str, object], environ: Mapping[str, str], folder: "Path") -> Loaded:
    """Return the settings in force for a program in `folder`.

    Args:
        flags: Setting -> value from the command line; None is a flag that was not given.
        code: Setting -> value from arguments in code; None is an argument that was not given.
        environ: The process's environment; an empty variable counts as not set.
        folder: Where the search for a project's file begins, upward.

    Raises:
        ConfigError: names every problem in every source, with where it stands; nothing is in force.
    """
    problems: list[str] = []
    given = [
        *_from_file(folder, problems),
        *_from_variables(environ),
        *_flatten(code, "code"),
        *(_Given(item.name, item.raw, _flag(item.name)) for item in _flatten(flags, "flag")),
    ]
    values: dict[str, Value] = {}
    origins = dict.fromkeys(places(), DEFAULT_ORIGIN)
    for item in given:
        place = places().get(item.name)
        if place is None:
            problems.append(f"{item.origin}: {_unknown(item)}")
            continue
        try:
            values[item.name] = read(place.setting, item.raw)
        except ValueError as error:
            problems.append(f"{item.origin}: {error}")
        origins[item.name] = item.origin
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"the configuration has {count}; mend what is named here and start again:{lines}")
    return Loaded(build(values), origins)


def project_folder(folder: "Path") -> "Path | None":
    """Return the nearest folder, from `folder` upward, with a headrace.toml or pyproject.toml; None without one."""
    for candidate in _upward(folder):
        if _is_file(candidate / FILE_NAME) or _is_file(candidate / PYPROJECT_NAME):
            return candidate
    return None


def variable(name: str) -> str:
    """Return the environment variable of a setting: "http.port" -> "HEADRACE_HTTP__PORT"."""
    return VARIABLE_PREFIX + name.replace(".", "__").upper()


def _upward(folder: "Path") -> "Iterator[Path]":
    resolved = folder.resolve()
    yield resolved
    yield from resolved.parents


def _is_file(path: "Path") -> bool:
    # Not path.is_file(): that raises where a folder on the way up may not be looked into.
    return os.path.isfile(path)


def _from_file(folder: "Path", problems: list[str]) -> list[_Given]:
    """Return what the nearest file with settings holds; a broken file on the way is a problem, not the end."""
    for candidate in _upward(folder):
        for name in (FILE_NAME, PYPROJECT_NAME):
            path = candidate / name
            if not _is_file(path):
                continue
            origin = f"{name}:{candidate}"
            table = _read_toml(path, origin, problems)
            if name == PYPROJECT_NAME and table is not None:
                table = _tool_table(table)
            if table is None:
                continue
            if not isinstance(table, dict):
                problems.append(f"{origin}: tool.headrace must be a table, [tool.headrace]")
                continue
            return list(_flatten(table, origin))
    return []


def _read_toml(path: "Path", origin: str, problems: list[str]) -> dict[str, Any] | None:
    import tomllib  # only here: most commands find no file, and each import costs their start

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        problems.append(f"{origin}: cannot be read: {error.strerror}")
    except (ValueError, RecursionError) as error:
        problems.append(f"{origin}: is not valid TOML: {error}")
    return None


def _tool_table(pyproject: Mapping[str, Any]) -> Any:
    tool = pyproject.get("tool")
    return tool.get("headrace") if isinstance(tool, dict) else None


def _from_variables(environ: Mapping[str, str]) -> Iterator[_Given]:
    for key, text in sorted(environ.items()):
        if not key.startswith(VARIABLE_PREFIX) or not text.strip() or key in _NO_SETTINGS or _is_not_ours(key, text):
            continue
        yield _Given(key.removeprefix(VARIABLE_PREFIX).lower().replace("__", "."), text, key)


def _is_not_ours(key: str, text: str) -> bool:
    if key in _NO_SETTINGS:
        return True
    return bool(_SERVICE_VARIABLE.fullmatch(key) or (key.endswith("_PORT") and _SERVICE_ADDRESS.match(text)))


def _flatten(table: Mapping[str, object], origin: str) -> Iterator[_Given]:
    """Yield the values of a table and of the sections in it; "http.port" and {"http": {"port": ...}} are one."""
    for name, raw in table.items():
        if name in SECTIONS and isinstance(raw, Mapping):
            for inner, value in raw.items():
                if value is not None:
                    yield _Given(f"{name}.{inner}", value, origin)
        elif raw is not None:
            yield _Given(name, raw, origin)


def _flag(name: str) -> str:
    # A section has one flag for all its settings: --http HOST:PORT.
    return "flag --" + name.partition(".")[0].replace("_", "-")


def _unknown(item: _Given) -> str:
    if item.name in SECTIONS:
        inner = next(name for name, place in places().items() if place.section == item.name)
        return f"{item.name} is a section; write its settings, such as {inner}"
    meant = _closest(item.name)
    spelling = variable if item.origin.startswith(VARIABLE_PREFIX) else str
    hint = f"did you mean {spelling(meant)}?" if meant else "`headrace config show` lists all settings"
    subject = "no setting has this name" if spelling is variable else f"{item.name} is no setting"
    return f"{subject}; {hint}"


def _closest(name: str) -> str | None:
    import difflib  # only here: it is for mistakes

    for known, place in places().items():
        if name in (place.field, known.rpartition(".")[2], known.replace(".", "_")):
            return known
    return next(iter(difflib.get_close_matches(name.replace("-", "_"), places(), n=1)), None)
