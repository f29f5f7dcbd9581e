"""The examples in README.md, CONTRIBUTING.md and docs/ do what the pages say, and the pages name what there is.

The unnamed python blocks of a page are one program, run first; then its console blocks are typed from the top, beside
the files that its named blocks are. pages.py has the marks, session.py what the commands do.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import MARKS, Block, blocks, commands, pages
from session import Session

from checkout import ROOT, files
from headrace.config.settings import places
from headrace.config.sources import CLIENT_TOKEN_VARIABLE, CLIENT_URL_VARIABLE, variable

#: Languages that nothing here can run.
FOREIGN = {"javascript"}
#: In these nothing is run: what they hold is data, a diagram, or lines for a shell outside a project.
PLAIN = {"text", "toml", "yaml", "json", "sh", "mermaid", "ini", "dockerfile"}
WITH_EXAMPLES = [page for page in pages() if any(block.language in {"python", "console"} for block in blocks(page))]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A reader's terminal."""
    session = Session(tmp_path)
    yield session
    session.close()


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run_as_shown(page: Path, session: Session) -> None:
    """Every example of the page runs, and prints what the page says it prints."""
    shown = [block for block in blocks(page) if not block.not_run]
    program = [block for block in shown if block.language == "python" and not block.file]
    if program:
        session.run_python("\n\n".join(block.text for block in program), program[0].place)
    for block in shown:
        if block.file:
            session.write(block)
    for block in shown:
        if block.language == "console":
            for command in commands(block):
                session.run(command)


def test_every_block_says_what_it_is() -> None:
    """Every fence has a language, every mark is known, and few examples are not run, each for a reason."""
    every = [block for page in pages() for block in blocks(page)]
    known = PLAIN | FOREIGN | {"python", "console"}
    assert [] == [f"{block.place}: {block.language!r}" for block in every if block.language not in known]
    mark = re.compile(r"^<!-- (.*) -->\n\n?```", re.MULTILINE)
    marks = [(page, said) for page in pages() for said in mark.findall(page.read_text(encoding="utf-8"))]
    assert [] == [f"{page.name}: {said}" for page, said in marks if not said.startswith(MARKS)]
    fences = sum(len(re.findall(r"^```\S", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in pages())
    assert len(every) == fences
    assert [] == [block.place for block in every if block.language in FOREIGN and not block.not_run]
    typed = [block for block in every if block.language == "console"]
    assert [] == [block.place for block in typed if not block.text.startswith("$ ")]
    not_run = [block for block in every if block.not_run]
    assert all(len(block.not_run) > 10 for block in not_run)
    assert len(not_run) <= len(every) / 10


def test_the_first_example_is_short() -> None:
    """The first example of the README has at most 30 lines."""
    first: Block = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    assert len(first.text.splitlines()) <= 30


def test_pages_name_verbs_that_there_are() -> None:
    """Every `make VERB` is a verb of the Makefile, and every `headrace[EXTRA]` an extra of the package."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set() == set(re.findall(r"(?:`|^|\$ )make ([a-z][a-z-]*)", text, re.MULTILINE)) - verbs
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {extra for extras in re.findall(r"headrace\[([\w,]+)\]", text) for extra in extras.split(",")}
    assert set() == named - set(project["optional-dependencies"])


def test_pages_name_settings_that_there_are() -> None:
    """Every HEADRACE_ variable that a page names is a setting's, or the clients'."""
    named = {
        (page.name, name)
        for page in pages()
        for name in re.findall(r"\bHEADRACE_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))
    }
    variables = {CLIENT_TOKEN_VARIABLE, CLIENT_URL_VARIABLE, *(variable(name) for name in places())}
    assert [] == sorted((page, name) for page, name in named if name not in variables)


def test_the_page_lists_the_settings_that_nothing_obeys() -> None:
    """docs/running.md lists exactly those settings as without effect that no code reads."""
    readers = [path for path in files("engine", "workers", "config") if path.suffix == ".py"]
    code = "\n".join(path.read_text(encoding="utf-8") for path in readers)
    unread = {
        name
        for name, place in places().items()
        if not re.search(rf"\.{place.section + '.' if place.section else ''}{place.field}\b", code)
    }
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    table = page.partition("## Settings without effect yet")[2].partition("\n\n`")[0]
    listed = [
        name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)
    ]
    assert sorted(unread) == sorted(listed)


def test_guarantees_name_tests_that_there_are() -> None:
    """Each test that docs/guarantees.md gives as a proof is there; `::test_x` alone is of the file named before."""
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)?(?:::(test_\w+))?`", page)
    missing, file, count = [], "", 0
    for path, test in named:
        file = path or file
        if test:
            count += 1
            if not re.search(rf"^(?:async )?def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE):
                missing.append(f"{file}::{test}")
    assert [] == missing
    assert count > 30


def test_pages_name_files_that_there_are() -> None:
    """Every path into the four folders, the tests, the benchmarks or the pages that a page names is there."""
    named = re.compile(r"`((?:engine|workers|jobs|config|tests|bench|docs|src)/[\w./-]+)`")
    offenders = [
        f"{page.relative_to(ROOT)}: {path}"
        for page in pages()
        for path in named.findall(page.read_text(encoding="utf-8"))
        if "NAME" not in path and "VERB" not in path and "NOUN" not in path and not (ROOT / path).exists()
    ]
    assert [] == offenders


def test_links_into_pages_lead_to_headings() -> None:
    """Every link of README.md and CONTRIBUTING.md to a place in a page leads to a heading; mkdocs sees the others."""
    offenders = []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target, anchor in re.findall(r"\]\(([\w./-]+)#([\w-]+)\)", page.read_text(encoding="utf-8")):
            headings = re.findall(r"^#+ (.*)$", (page.parent / target).read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            offenders += [] if anchor in slugs else [f"{page.name}: {target}#{anchor}"]
    assert [] == offenders
