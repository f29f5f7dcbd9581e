"""MODULE:ENGINE, and everything that can be wrong with it."""

import sys
from pathlib import Path

import pytest

from headrace.config.errors import ConfigError
from headrace.engine.cli.finding import find_engine
from headrace.engine.runtime import Engine


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder; what is imported from it is forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


MODULE = """
from headrace import Engine, Handlers
first = Engine()
second = Engine()
handlers = Handlers()
number = 1
class Place:
    inner = first
"""


@pytest.mark.parametrize("target", ["shop:first", "shop:Place.inner", "shop.py:first", "./shop.py:first"])
def test_an_engine_is_found(folder, target) -> None:
    """A module in the working folder, a dotted attribute, and the path of a file all lead to the engine."""
    (folder / "shop.py").write_text(MODULE)
    assert isinstance(find_engine(target), Engine)


def test_a_file_in_a_package_is_imported_as_its_module(folder) -> None:
    """The path of a file in a package gives the module its full name, so its relative imports work."""
    (folder / "market" / "stalls").mkdir(parents=True)
    (folder / "market" / "__init__.py").write_text("")
    (folder / "market" / "stalls" / "__init__.py").write_text("")
    (folder / "market" / "stalls" / "fruit.py").write_text("from ..till import engine")
    (folder / "market" / "till.py").write_text("from headrace import Engine\nengine = Engine()")
    assert isinstance(find_engine("market/stalls/fruit.py:engine"), Engine)
    assert "market.stalls.fruit" in sys.modules


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop", "the engines in it: shop:first, shop:second"),
        ("shop:", "the engines in it: shop:first, shop:second"),
        (":first", "write MODULE:ENGINE"),
        ("shop:third", "has no 'third'; the engines in it: shop:first, shop:second"),
        ("shop:number", "'number' in 'shop' is no Engine, it is a int"),
        ("shop:handlers", "include it in an engine"),
        ("shpo:first", "did you mean 'shop'?"),
        ("nowhere.py:first", "there is no file"),
        ("empty:engine", "'empty' has no Engine"),
        ("broken:engine", "raised ValueError: out of stock"),
        ("broken:engine", "broken.py, line 2"),
        ("unparsed:engine", "unparsed.py, line 1"),
        ("script:engine", "__main__"),
        ("needy:engine", "No module named 'not_there_at_all'"),
    ],
)
def test_what_is_wrong_is_said(folder, target, said) -> None:
    """Each way to be wrong is a ConfigError that says what it is and what to write."""
    (folder / "shop.py").write_text(MODULE)
    (folder / "empty.py").write_text("")
    (folder / "broken.py").write_text("\nraise ValueError('out of stock')")
    (folder / "unparsed.py").write_text("def")
    (folder / "script.py").write_text("raise SystemExit(0)")
    (folder / "needy.py").write_text("import not_there_at_all")
    with pytest.raises(ConfigError) as caught:
        find_engine(target)
    assert said in str(caught.value)


def test_a_path_loads_its_file_beside_a_package_of_that_name(folder) -> None:
    """`./jobs.py:engine` is the engine of that file, though a package `jobs` lies beside it."""
    (folder / "jobs").mkdir()
    (folder / "jobs" / "__init__.py").write_text("")
    (folder / "jobs.py").write_text("from headrace import Engine\nengine = Engine()")
    assert isinstance(find_engine("./jobs.py:engine"), Engine)
    assert str(folder / "jobs.py") == sys.modules["jobs"].__file__


def test_a_package_that_hides_a_file_is_named(folder) -> None:
    """`jobs:engine` with a package and a file of that name says which it loaded, and how to have the other."""
    (folder / "jobs").mkdir()
    (folder / "jobs" / "__init__.py").write_text("")
    (folder / "jobs.py").write_text("from headrace import Engine\nengine = Engine()")
    with pytest.raises(ConfigError) as caught:
        find_engine("jobs:engine")
    assert f"was loaded from {folder / 'jobs' / '__init__.py'}" in str(caught.value)
    assert "write jobs.py:ENGINE" in str(caught.value)
    assert isinstance(find_engine("./jobs.py:engine"), Engine)
