"""The page docs/configuration.md, made of the settings' own declarations: `python -m headrace.config.page`.

A test compares the page with what this makes, so the two cannot drift apart. Prints to stdout and writes no file.
"""

import sys
from collections.abc import Iterator
from typing import Final

from .declaration import bounds, write
from .settings import SECTIONS, Place, Settings, places
from .sources import variable

_INTRODUCTION = """\
# Configuration

This page is made by `python -m headrace.config.page`; change the declarations in `config/settings.py` instead.

Every setting has one name. It can be given in five places; each one overrides those before it:

1. the defaults below
2. `headrace.toml`, or `[tool.headrace]` in `pyproject.toml`: the nearest one, from the working folder upward.
   In one folder `headrace.toml` wins, and a `pyproject.toml` without `[tool.headrace]` is passed over
3. environment variables: `lease` is `HEADRACE_LEASE`, `http.port` is `HEADRACE_HTTP__PORT`;
   an empty one counts as not set
4. arguments in code, such as `Engine(slots=20)`
5. flags of the command line

```toml
# headrace.toml
url = "redis://localhost:6379/0"
lease = "30s"
max_payload = "1MiB"

[http]
port = 8787
```

Every problem in every place is reported at once, and nothing starts until all are mended. An unknown name is a
problem too, so that a misspelt setting cannot go unnoticed; only the variables that Kubernetes adds for a Service
named `headrace` are passed over. `headrace config show` prints every setting, its value, and where it came from.

A duration is a number with `ms`, `s`, `m`, `h` or `d` behind it, or plain seconds. A size is a number with `KiB`,
`MiB`, `GiB`, `TiB` (powers of 1024) or `KB`, `MB`, `GB`, `TB` (powers of 1000) behind it, or plain bytes.
"""

_TOKENS = """\
`headrace token new` makes a token and prints it once, with the lines to paste; the file keeps its SHA-256 only. Scopes
are `submit`, `read` and `admin`, which includes the others; see [HTTP](http.md#who-may-call). In a variable, tokens are
the same as a JSON list, and origins have commas between them.

```toml
[[http.tokens]]
name = "ci"
sha256 = "the 64 hexadecimal digits"
scopes = ["submit", "read"]
expires = 2027-01-01T00:00:00Z     # may be left out
```
"""


_PLURAL: Final = {"fraction": "a number", "tokens": "tables", "origins": "a list of origins"}


def page() -> str:
    """Return the page as Markdown."""
    parts = [_INTRODUCTION, *(_part(section) for section in ("", *SECTIONS)), _TOKENS]
    return "\n".join(parts)


def _part(section: str) -> str:
    title = f"Section `{section}`" if section else "Settings"
    rows = [_row(place) for place in places().values() if place.section == section]
    head = ["| name | default | takes | what it is |", "|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *head, *rows, ""])


def _row(place: Place) -> str:
    setting = place.setting
    names = f"`{setting.name}`<br>`{variable(setting.name)}`"
    default = write(setting, place.value(Settings()))
    return f"| {names} | `{default}` | {', '.join(_takes(place))} | {setting.about} |"


def _takes(place: Place) -> Iterator[str]:
    setting = place.setting
    if setting.kind not in ("choice", "bool"):
        yield _PLURAL.get(setting.kind, f"a {setting.kind}")
    if said := bounds(setting):
        yield said
    if setting.pattern:
        yield f"matching `{setting.pattern}`"
    if setting.none_word:
        yield f"or `{setting.none_word}`"


if __name__ == "__main__":
    sys.stdout.write(page())
