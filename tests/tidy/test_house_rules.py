"""The house rules that no linter knows: names, docstrings, sizes, imports, and that nothing lies about unused."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from checkout import FOLDERS, ROOT, files, modules, shown

#: They say nothing about what a thing is; `task` means three things in three libraries beside this one.
VAGUE = {"task", "tasks", "manager", "managers", "helper", "helpers", "util", "utils", "core", "base"}
MODULE_LINES = range(2, 9)
FILE_LINES_COUNT = 400
FUNCTION_LINES_COUNT = 60
CONSTRUCTOR_PARAMETERS_COUNT = 6

type_of_function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """Every module of headrace, parsed."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in modules().items()}


def test_the_folders_hold_modules(trees: dict[str, ast.Module]) -> None:
    """Every folder has modules, so that the rules below are about something."""
    assert {"headrace", *(f"headrace.{folder}" for folder in FOLDERS)} <= set(trees)


def test_modules_open_with_two_to_eight_lines(trees: dict[str, ast.Module]) -> None:
    """A module opens with two to eight lines on what it does and promises; for a package's own file one is enough."""
    offenders = {}
    for name, tree in trees.items():
        lines = len((ast.get_docstring(tree) or "").splitlines())
        fewest = 1 if modules()[name].name in {"__init__.py", "__main__.py"} else MODULE_LINES.start
        if not fewest <= lines < MODULE_LINES.stop:
            offenders[shown(modules()[name])] = f"{lines} lines"
    assert {} == offenders


def test_no_name_is_vague(trees: dict[str, ast.Module]) -> None:
    """No module, class or function is called a task, manager, helper, util, core or base."""
    offenders = []
    for name, tree in trees.items():
        offenders += [name for word in _words(name) if word in VAGUE]
        offenders += [
            f"{name}: {node.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef | type_of_function) and VAGUE & set(_words(node.name))
        ]
    assert [] == offenders


def test_no_file_becomes_the_program() -> None:
    """No file has more than 400 lines, except among the tests and benchmarks."""
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _product_files()}
    assert {} == {path: count for path, count in lengths.items() if count > FILE_LINES_COUNT}


def test_functions_fit_on_a_screen(trees: dict[str, ast.Module]) -> None:
    """No function has 60 lines or more, its docstring included."""
    offenders = {
        f"{name}.{node.name}": length
        for name, tree in trees.items()
        for node in _functions(tree)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) >= FUNCTION_LINES_COUNT
    }
    assert {} == offenders


def test_constructors_take_few_parameters(trees: dict[str, ast.Module]) -> None:
    """No constructor takes more than six parameters; options arrive as a settings record."""
    offenders = []
    for name, tree in trees.items():
        for node in _functions(tree):
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if node.name == "__init__" and len(parameters) - 1 > CONSTRUCTOR_PARAMETERS_COUNT:
                offenders.append(f"{shown(modules()[name])}:{node.lineno}")
    assert [] == offenders


def test_imports_name_the_one_package(trees: dict[str, ast.Module]) -> None:
    """Inside headrace no import names a bare folder, which would load a second copy, or the front of the package."""
    offenders = []
    for name, tree in trees.items():
        for node in ast.walk(tree):
            named = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                named = [node.module or ""]
            front = name.split(".")[-1] != "__main__" and "headrace" in named
            if front or any(target.split(".")[0] in FOLDERS for target in named):
                offenders.append(f"{shown(modules()[name])}:{node.lineno}")
    assert [] == offenders


def test_every_module_is_reached(trees: dict[str, ast.Module]) -> None:
    """Every module is imported, or named in a string, on a way from headrace, its command line or its made pages."""
    graph = grimp.build_graph("headrace", cache_dir=None)
    named = {name: _modules_named_in_strings(tree) for name, tree in trees.items()}
    reached: set[str] = set()
    pages = ast.parse((ROOT / "docs" / "generate.py").read_text(encoding="utf-8"))
    ahead = ["headrace", "headrace.__main__"]
    ahead += [node.module for node in ast.walk(pages) if isinstance(node, ast.ImportFrom) and node.module in trees]
    while ahead:
        module = ahead.pop()
        if module in trees and module not in reached:
            reached.add(module)
            ahead += [*graph.find_modules_directly_imported_by(module), *named[module]]
            ahead += [module.rpartition(".")[0]]
    assert [] == sorted(set(trees) - reached)


def test_the_project_speaks_of_itself_only() -> None:
    """No file names a folder beside the checkout, or a place that exists on one machine only."""
    folders = {path.name for path in ROOT.rglob("*") if path.is_dir()}
    offenders = []
    for path in _text_files():
        text = path.read_text(encoding="utf-8")
        # In the midst of a path, as a traversal that is tried, it names nothing.
        beside = [name for name in re.findall(r"(?<!\w/)\.\./(\w[\w-]*)/", text) if name not in folders]
        own_machine = re.findall(r"(?<![\w.])/(?:root|work|Users)/\S*", text)
        offenders += [f"{shown(path)}: {found}" for found in beside + own_machine]
    assert [] == offenders


def test_every_link_between_pages_leads_somewhere() -> None:
    """Every relative link in a Markdown page leads to a file that is there."""
    offenders = []
    for path in _text_files():
        if path.suffix == ".md":
            text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
            targets = re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", text)
            offenders += [f"{shown(path)}: {target}" for target in targets if not (path.parent / target).exists()]
    assert [] == offenders


def test_every_test_says_one_true_sentence() -> None:
    """Every test opens with its sentence, and no two test files share a name."""
    tests = [path for path in files("tests") if path.name.startswith("test_") and path.suffix == ".py"]
    offenders = [
        f"{shown(path)}:{node.lineno}: {node.name}"
        for path in tests
        for node in _functions(ast.parse(path.read_text(encoding="utf-8")))
        if node.name.startswith("test_") and not re.match(r"\S.*[.?]\Z", ast.get_docstring(node) or "", re.DOTALL)
    ]
    assert [] == offenders
    names = [path.name for path in tests]
    assert [] == sorted({name for name in names if names.count(name) > 1})


def _words(name: str) -> list[str]:
    """Split a dotted, snake-case or camel-case name into its words, lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _functions(tree: ast.Module) -> Iterator[type_of_function]:
    return (node for node in ast.walk(tree) if isinstance(node, type_of_function))


def _modules_named_in_strings(tree: ast.Module) -> set[str]:
    """Return what strings name as a module, such as "headrace.engine.cli.run" or "headrace.engine.http.app:build"."""
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {found.group(1) for text in strings if (found := re.fullmatch(r"(headrace(?:\.\w+)+)(?::\w+)?", text))}


def _product_files() -> Iterator[Path]:
    suffixes = {".py", ".lua", ".sh", ".js", ".css", ".html"}
    return (path for path in files(*FOLDERS, "src", "examples", "docs") if path.suffix in suffixes)


def _text_files() -> Iterator[Path]:
    """Yield the project's own files that hold text, in the folders and at the top."""
    tops = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and (path.name == ".ci" or path.name[0] != "."))
    for path in [*files(*tops), *(path for path in ROOT.iterdir() if path.is_file())]:
        if path.suffix in {".md", ".py", ".toml", ".lua", ".yml", ".yaml", ".html", ".css", ".js", ".lock", ".txt", ""}:
            yield path
