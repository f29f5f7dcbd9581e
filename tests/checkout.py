"""The checkout as tests about the checkout see it: its own text files and its modules, wherever the tests run.

It walks the folders instead of asking git, so that an unpacked archive passes too. It never writes.
"""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The folders that src/headrace links to; each is a subpackage of headrace.
FOLDERS = ("engine", "workers", "jobs", "config")
#: What tools leave behind; the same as in .gitignore. Hidden folders count too, except .ci.
LEFT_BEHIND = {"__pycache__", "build", "dist", "site", "out"}


def files(*tops: str) -> Iterator[Path]:
    """Yield every file of the project's own under the given folders, in order; links are not followed."""
    for top in tops:
        for folder, folders, names in os.walk(ROOT / top):
            folders[:] = sorted(name for name in folders if _ours(name))
            yield from (Path(folder, name) for name in sorted(names) if not name.endswith((".pyc", ".so")))


def modules() -> dict[str, Path]:
    """Return the file of every module of headrace by its dotted name, whether imported or not."""
    found = {}
    for path in files(*FOLDERS, "src/headrace"):
        if path.suffix == ".py":
            relative = path.relative_to(ROOT / "src" if path.is_relative_to(ROOT / "src") else ROOT).with_suffix("")
            parts = relative.parts if relative.parts[0] == "headrace" else ("headrace", *relative.parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def shown(path: Path) -> str:
    """Return the path as a message shows it: relative to the checkout."""
    return str(path.relative_to(ROOT))


def _ours(name: str) -> bool:
    return name not in LEFT_BEHIND and not name.endswith(".egg-info") and (name == ".ci" or not name.startswith("."))
