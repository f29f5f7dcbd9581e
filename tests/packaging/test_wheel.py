"""The wheel holds the tree and nothing else, imports without the checkout, and stands beside users' own files."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from checkout import FOLDERS, ROOT, files

#: Building takes about two seconds; only a machine in trouble needs more than this.
BUILD_TIMEOUT_S = 120

#: Takes the checkout's src (an editable install put it there) off the path, before anything of ours is imported.
WITHOUT_CHECKOUT = f"""
import os, sys
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) not in {[str(ROOT / "src"), str(ROOT)]!r}]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the tree, so that what an earlier build left in the checkout cannot slip in."""
    copy = tmp_path_factory.mktemp("copy")
    for name in (*FOLDERS, "src"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(copy / "dist"), str(copy)]
    run(build, cwd=copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a folder of its own and return that."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    run([*pip, "--target", str(target), str(wheel)], cwd=target)
    return target


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    """Every file of the four folders and of src/headrace is in the wheel, and the wheel has no other."""
    in_tree = {f"headrace/{path.relative_to(ROOT)}" for path in files(*FOLDERS)}
    in_tree |= {str(path.relative_to(ROOT / "src")) for path in files("src/headrace")}
    in_wheel = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert in_tree == in_wheel


def test_the_wheel_claims_one_name(wheel: Path) -> None:
    """Nothing is installed beside headrace: a bare jobs or config would shadow the user's own."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"headrace"} == {top for top in tops if not top.endswith(".dist-info")}


def test_every_module_imports_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Every module of the installed wheel imports, from the wheel, with the checkout off the path."""
    names = module_names(installed)
    code = f"""{WITHOUT_CHECKOUT}
import importlib
for name in {names!r}:
    print(importlib.import_module(name).__file__)
"""
    origins = run([sys.executable, "-c", code], cwd=tmp_path, path=installed).split()
    assert len(names) == len(origins)
    assert [] == [origin for origin in origins if not Path(origin).is_relative_to(installed.resolve())]


def test_a_users_own_files_do_no_harm(installed: Path, tmp_path: Path) -> None:
    """Beside a user's jobs.py, config.py, engine.py and workers.py, headrace imports its own and takes none."""
    for name in FOLDERS:
        (tmp_path / f"{name}.py").write_text("mine = True\n")
    script = tmp_path / "script.py"
    script.write_text(f"""{WITHOUT_CHECKOUT}
import importlib
import headrace
for public in getattr(headrace, "__all__", ()):
    assert getattr(headrace, public) is not None, public
for name in {module_names(installed)!r}:
    importlib.import_module(name)
assert not set(sys.modules) & {set(FOLDERS)!r}, "headrace took a file of the user's for its own"
import config, engine, jobs, workers
assert config.mine and engine.mine and jobs.mine and workers.mine
print("unharmed")
""")
    assert "unharmed\n" == run([sys.executable, str(script)], cwd=tmp_path, path=installed)


def module_names(installed: Path) -> list[str]:
    """Return the dotted name of every module under the folder, except the one that runs the command line."""
    paths = sorted(path.relative_to(installed).with_suffix("") for path in (installed / "headrace").rglob("*.py"))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__main__"]


def run(command: list[str], *, cwd: Path, path: Path | None = None) -> str:
    """Run the command with nothing of ours on PYTHONPATH but `path`, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"} | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout
