"""The demo's handler, and the choice of its files."""

import ast
import hashlib
import os
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.errors import ConfigError
from headrace.engine.demo import corpus
from headrace.engine.demo.indexer import PARSED_MAX_BYTES, imports_of, index_file

LIBRARY = Path(sysconfig.get_path("stdlib"))

#: The name of a module as it may stand in an import.
DOTTED = st.lists(st.from_regex(r"m[a-z0-9]{0,5}", fullmatch=True), min_size=1, max_size=3).map(".".join)


def write(folder: Path, source: bytes, name: str = "some.py") -> str:
    path = folder / name
    path.write_bytes(source)
    return str(path)


def test_a_file_is_measured_hashed_and_read(tmp_path: Path) -> None:
    """The result has the file's size, lines, hash, and each imported module once, relative ones with their dots."""
    source = (
        b"import os, os.path\nfrom . import x\nfrom ..y import z\ndef f():\n    import os\n    from json import dumps"
    )
    found = index_file(write(tmp_path, source))
    assert str(tmp_path / "some.py") == found.path
    assert (len(source), 6) == (found.size_bytes, found.lines)
    assert hashlib.sha256(source).hexdigest() == found.sha256
    assert (".", "..y", "json", "os", "os.path") == found.imports
    assert found.problem is None


@pytest.mark.parametrize(
    ("source", "lines", "problem"),
    [
        (b"def (:\n", 1, "does not parse: invalid syntax (line 1)"),
        (b"# coding: klingon\n", 1, "does not parse: unknown encoding: klingon"),
        (b"a = 1\0\n", 1, "does not parse: source code"),
        (b'"\xf6"\n', 1, "does not parse: (unicode error) 'utf-8' codec"),
        (b"(" * 500 + b"\n\n", 2, "does not parse: too many nested parentheses"),
        (b"\n" * (PARSED_MAX_BYTES + 1), PARSED_MAX_BYTES + 1, "not parsed: larger than 8 MiB"),
    ],
    ids=["syntax", "encoding", "null", "bytes", "nesting", "size"],
)
def test_what_cannot_be_parsed_is_a_result(tmp_path: Path, source: bytes, lines: int, problem: str) -> None:
    """A file that cannot be parsed is measured and hashed all the same, and says why."""
    found = index_file(write(tmp_path, source))
    assert (len(source), lines, ()) == (found.size_bytes, found.lines, found.imports)
    assert hashlib.sha256(source).hexdigest() == found.sha256
    assert (found.problem or "").startswith(problem)


def test_nesting_beyond_the_parser_is_a_result() -> None:
    """A source that is nested deeper than Python's parser or stack goes is a problem in words, not a crash."""
    assert (imports_of(b"-" * 100_000 + b"1")[1] or "").startswith("does not parse")
    assert (imports_of(b"a" + b".b" * 50_000)[1] or "does not parse").startswith("does not parse")


def test_what_cannot_be_read_is_a_result(tmp_path: Path) -> None:
    """A file that has gone, or is a folder by now, is a result that says so."""
    assert "cannot be read: No such file or directory" == index_file(str(tmp_path / "gone.py")).problem
    assert "cannot be read: Is a directory" == index_file(str(tmp_path)).problem


def test_warnings_about_a_source_are_not_shown(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """What Python warns of in a file is not printed by who indexes it."""
    assert index_file(write(tmp_path, b'x = "\\d"\nassert (x, 1)\n')).problem is None
    assert 0 == len(recwarn)


@given(st.lists(DOTTED, max_size=8))
def test_every_import_is_found(names: list[str]) -> None:
    """The imports found are those written, each once and sorted, in either form of the statement."""
    plain = "\n".join(f"import {name} as alias" for name in names)
    from_form = "\n".join(f"from {name} import *" for name in names)
    assert (tuple(sorted(set(names))), None) == imports_of(plain.encode())
    assert (tuple(sorted(set(names))), None) == imports_of(from_form.encode())


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer(source: bytes) -> None:
    """Whatever bytes a file holds, they are parsed, or the problem has words, and then there are no imports."""
    imports, problem = imports_of(source)
    assert problem is None or (problem and not imports)
    if problem is None:
        ast.parse(source)


def test_the_standard_library_is_over_a_thousand_files() -> None:
    """Every source of Python's own library is there once, and no installed package is."""
    found = corpus.standard_library()
    assert 1000 < len(found.paths) == len(set(found.paths))
    assert {os.__file__, ast.__file__} <= set(found.paths)
    assert LIBRARY == found.root
    assert [] == [path for path in found.paths if {"site-packages", "__pycache__"} & set(Path(path).parts)]


def test_a_folder_gives_every_source_below_it(tmp_path: Path) -> None:
    """Only *.py files count, at any depth, in order of their names, not what is a folder, a pipe or a dead link."""
    for name in ("b.py", "a/c.py", "a/d.txt", "a/__pycache__/e.py", "site-packages/f.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "dead.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    names = [os.path.relpath(path, tmp_path) for path in corpus.folder(tmp_path).paths]
    assert ["b.py", "a/c.py", "site-packages/f.py"] == names


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    """A file whose name no job can carry is left out, and a sentence says so."""
    (tmp_path / "good.py").touch()
    try:
        (tmp_path / os.fsdecode(b"\xff.py")).touch()
    except OSError:
        return  # macOS has no such names, so nothing to leave out
    found = corpus.folder(tmp_path)
    assert (str(tmp_path / "good.py"),) == found.paths
    assert ["a name that is not UTF-8" in sentence for sentence in found.left_out] == [True]


def test_a_folder_without_sources_is_refused(tmp_path: Path) -> None:
    """A folder without sources, and what is no folder, are the caller's mistakes, and the message names them."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"holds no \*\.py file"):
        corpus.folder(tmp_path)
    with pytest.raises(ConfigError, match=r"notes\.txt is not a folder"):
        corpus.folder(tmp_path / "notes.txt")
