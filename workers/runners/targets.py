"""Targets: how a handler is named so that a child process finds the same function.

The runner's side names it and refuses what cannot be found; the child's side finds it. Both look it up by module and
dotted name. A script that runs as __main__ is loaded from its file under the name SCRIPT_MODULE, so its part under
`if __name__ == "__main__"` does not run again in the child; `python -m` modules are imported by their own name.
"""

import functools
import importlib
import importlib.util
import inspect
import os
import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from headrace.jobs.errors import ConfigError

from .frames import Target

if TYPE_CHECKING:
    from headrace.jobs.handler import HandlerPlan

SCRIPT_MODULE: Final = "__headrace_main__"


def target_of(plan: "HandlerPlan") -> Target:
    """Return where a child finds a plan's function.

    Raises:
        ConfigError: it cannot be found by module and name; the declaration's fault.
    """
    module_name, _, qualname = plan.where.partition(":")
    function = plan.function
    while isinstance(function, functools.partial):
        function = function.func
    if "<lambda>" in qualname or "<locals>" in qualname:
        kind = "a lambda" if "<lambda>" in qualname else "defined inside another function"
        raise _refusal(plan, f"is {kind}, so a child process cannot find it", "define it with def at a module's top")
    if inspect.iscoroutinefunction(function):
        raise _refusal(plan, "is an async function", "leave out runner=, or make it a plain function")
    module = sys.modules.get(module_name)
    if module is None:
        raise _refusal(plan, f"is in {module_name!r}, which is not imported", "import the module that defines it")
    try:
        found = _look_up(module, qualname)
    except (AttributeError, TypeError) as error:
        raise _refusal(plan, f"is not found there ({error})", "give it a name at its module's top level") from None
    if found is not plan.function:
        raise _refusal(plan, "is not what that name means now", "give the function a name that nothing else takes")
    if module_name != "__main__":
        return Target(plan.name, module_name, "", qualname, plan.wants_context)
    spec = getattr(module, "__spec__", None)
    if spec is not None:
        return Target(plan.name, spec.name, "", qualname, plan.wants_context)
    path = getattr(module, "__file__", None)
    if not path or not os.path.exists(path):
        raise _refusal(plan, "was typed at a prompt", "save it in a file and import it from there")
    return Target(plan.name, SCRIPT_MODULE, os.path.abspath(path), qualname, plan.wants_context)


def load(target: Target) -> Any:
    """Return the function of a target, its module imported; raises what the import raises, or AttributeError."""
    module = _load_script(target.path) if target.path else importlib.import_module(target.module)
    return _look_up(module, target.qualname)


def _look_up(module: ModuleType, qualname: str) -> Any:
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name)
    return _unwrap(found)


def _unwrap(found: Any) -> Any:
    """Return the function behind a decorated handler; callables of other libraries, as caches, stay as they are."""
    while not isinstance(found, FunctionType):
        inner = getattr(found, "function", None)
        if inner is None and not callable(found):
            inner = getattr(found, "__wrapped__", None)
        if inner is None or inner is found:
            break
        found = inner
    if not callable(found):
        raise TypeError(f"{found!r} cannot be called")
    return found


def _load_script(path: str) -> ModuleType:
    if SCRIPT_MODULE in sys.modules:
        return sys.modules[SCRIPT_MODULE]
    spec = importlib.util.spec_from_file_location(SCRIPT_MODULE, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file that can be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[SCRIPT_MODULE]  # the next call sees the error too, not half a module
        raise
    return module


def _refusal(plan: "HandlerPlan", fault: str, remedy: str) -> ConfigError:
    return ConfigError(f'handler {plan.name!r} ({plan.where}) cannot run with runner="process": it {fault}; {remedy}')
