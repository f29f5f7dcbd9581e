"""Finds the engine that MODULE:ENGINE names: imports the module, with the working folder first on sys.path.

Every way in which that can go wrong is a ConfigError that says what to write instead, and lists the engines there are.
"""

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from headrace.config.errors import ConfigError

from ..handlers import Handlers
from ..runtime import Engine


def find_engine(target: str) -> Engine:
    """Return the engine that `MODULE:ENGINE` names; MODULE may be the path of a .py file.

    Raises:
        ConfigError: the module cannot be imported, or has no such engine.
    """
    module_name, colon, attribute = target.rpartition(":") if ":" in target else (target, "", "")
    module = _import(module_name) if module_name else None
    if module is None or not colon or not attribute:
        found = (
            f": {_listing(module_name, module)}{_loaded(module_name, module)}" if module else ", such as jobs:engine"
        )
        raise ConfigError(f"{target!r} does not name an engine; write MODULE:ENGINE{found}")
    value: object = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            what = f"{module_name!r} has no {attribute!r}"
            raise ConfigError(f"{what}; {_listing(module_name, module)}{_loaded(module_name, module)}")
        value = getattr(value, part)
    if isinstance(value, Engine):
        return value
    what = f"{attribute!r} in {module_name!r} is no Engine, it is a {type(value).__name__}"
    if isinstance(value, Handlers):
        what += " (include it in an engine: engine.include(...))"
    raise ConfigError(f"{what}; {_listing(module_name, module)}{_loaded(module_name, module)}")


def _import(name: str) -> ModuleType:
    """Import a module by its name, or by the path of its file.

    Raises:
        ConfigError: it is not there, or raises.
    """
    shown = name
    folder, file = Path.cwd(), None
    if name.endswith(".py") or os.sep in name:
        file = Path(name).resolve()
        folder, name = _from_path(file)
    for path in dict.fromkeys([str(Path.cwd()), str(folder)]):
        if sys.path[:1] != [path]:
            sys.path.insert(0, path)
    try:
        return importlib.import_module(name) if file is None or _leads_to(name, file) else _load(name, file)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(_not_there(shown, folder)) from error
        raise ConfigError(_raised(shown, error)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_raised(shown, error)) from error


def _from_path(path: Path) -> tuple[Path, str]:
    """Return the folder to import from and the module's name there, as for a file in a package of any depth."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; write MODULE:ENGINE, or PATH/TO/MODULE.py:ENGINE")
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").is_file():
        folder, names = folder.parent, [folder.name, *names]
    return folder, ".".join(names)


def _leads_to(name: str, file: Path) -> bool:
    """Return whether a module's name leads to that file, and not to a package beside it or to another module."""
    there = sys.modules.get(name)
    if there is not None:
        return _file_of(there) == file
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == file


def _load(name: str, file: Path) -> ModuleType:
    """Load a file whose name leads elsewhere, under that name where nobody has it yet."""
    name = name if name not in sys.modules else f"{name}__file"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _file_of(module: ModuleType) -> Path | None:
    return Path(module.__file__).resolve() if module.__file__ else None


def _loaded(name: str, module: ModuleType) -> str:
    """Say which file was loaded, and of a package also the module that it hides."""
    file = _file_of(module)
    if file is None:
        return ""
    hidden = file.parent.with_suffix(".py")
    hint = f", before {hidden} beside it: for that write {hidden.name}:ENGINE" if _hides(file, hidden) else ""
    return f" ({name!r} was loaded from {file}{hint})"


def _hides(file: Path, hidden: Path) -> bool:
    return file.name == "__init__.py" and hidden.is_file()


def _not_there(name: str, folder: Path) -> str:
    import difflib

    there = sorted(path.stem for path in folder.glob("*.py"))
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "go to the folder that has it, or install it"
    return f"there is no module {name!r} in {folder}, nor installed; {hint}"


def _raised(name: str, error: BaseException) -> str:
    where = ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({error.filename}, line {error.lineno})"
    elif frames and frames[-1].filename != __file__:  # else the module was never entered
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})"
    text = str(error.msg if isinstance(error, SyntaxError) else error)
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    hint = (
        "it ends the program; keep that behind `if __name__ == '__main__':`"
        if isinstance(error, SystemExit)
        else "mend that first; HEADRACE_LOG_LEVEL=debug shows the whole traceback"
    )
    return f"importing {name!r} raised {said}{where}: {hint}"


def _listing(module_name: str, module: ModuleType) -> str:
    """Say which engines a module has."""
    names = [name for name, value in vars(module).items() if isinstance(value, Engine)]
    if not names:
        return f"{module_name!r} has no Engine; make one with `engine = Engine()` and declare handlers on it"
    return f"the engines in it: {', '.join(f'{module_name}:{name}' for name in names)}"
