"""Reads the fenced examples of a Markdown page, with the mark in the comment before each.

A mark is an HTML comment right above a fence, which neither GitHub nor mkdocs shows:
`<!-- file: jobs.py -->` the block is that file, for the commands below it;
`<!-- not run: REASON -->` the block is only looked at.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checkout import ROOT

FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n\n?)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
#: What an example may say about itself.
MARKS = ("file: ", "not run: ")


@dataclass(frozen=True)
class Block:
    """One fenced block; `file` and `not_run` are empty where its mark does not say so."""

    page: Path
    line: int
    language: str
    text: str
    file: str = ""
    not_run: str = ""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One line behind a `$` and what is to be printed, line by line; `...` stands for anything."""

    place: str
    line: str
    expected: tuple[str, ...]


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [_block(page, text, found) for found in FENCE.finditer(text)]


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block; a backslash at a line's end joins it with the next."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, *expected = part.replace("\\\n", "").rstrip("\n").split("\n")
        yield Command(block.place, line, tuple(expected))


def _block(page: Path, text: str, found: re.Match[str]) -> Block:
    mark = found["mark"] or ""
    said = {prefix: mark.removeprefix(prefix) for prefix in MARKS if mark.startswith(prefix)}
    line = text.count("\n", 0, found.start("language")) + 1
    return Block(page, line, found["language"], found["text"], said.get("file: ", ""), said.get("not run: ", ""))
