"""Counts how often a fixed run allocates memory: objects of ours, of libraries and of C code, whether they live or not.

Nothing in Python tells that: sys.getallocatedblocks and tracemalloc know what is held. So the allocators are replaced
by ones that count, forty lines of C beside this file, built with the system's compiler when they are wanted.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

SOURCE: Final = Path(__file__).with_suffix(".c")
COMPILERS: Final = ("cc", "gcc", "clang")
#: Domains of PyMem_SetAllocator: PyMem_Malloc's and PyObject_Malloc's. The raw one may be used without the GIL.
DOMAINS: Final = (1, 2)


class _Allocator(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]


class _Counted(ctypes.Structure):
    _fields_ = [("real", _Allocator), ("count", ctypes.c_ulonglong)]


def compiler() -> str | None:
    """Return the system's C compiler; None where it has none."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


@functools.cache
def _library() -> ctypes.CDLL:
    found = compiler()
    if found is None:
        raise SystemExit(f"guard: allocations cannot be counted without a C compiler: install {' or '.join(COMPILERS)}")
    with tempfile.TemporaryDirectory(prefix="guard") as folder:
        built = Path(folder, "allocations.so")  # may be removed once it is loaded
        command = [found, "-shared", "-fPIC", "-O2", "-o", str(built), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"guard: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return ctypes.CDLL(str(built))


class Allocations:
    """Counts allocations of this process while it is entered; a block that is made larger counts once more.

    Attributes:
        count: What was counted.
    """

    def __init__(self) -> None:
        self.count = 0
        self._domains: list[tuple[int, _Allocator, _Counted]] = []

    def __enter__(self) -> Self:
        library = _library()
        for domain in DOMAINS:
            real, counting, counted = _Allocator(), _Allocator(), _Counted()
            ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(real))
            counted.real = real
            library.counting_allocator(ctypes.byref(counting), ctypes.byref(counted))
            self._domains.append((domain, real, counted))
            ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(counting))
        return self

    def __exit__(self, *exc_info: object) -> None:
        for domain, real, _ in self._domains:
            ctypes.pythonapi.PyMem_SetAllocator(domain, ctypes.byref(real))
        self.count = sum(counted.count for _, _, counted in self._domains)
        self._domains.clear()


def each(run: Callable[[int, Any], None], short: int, long: int) -> float:
    """Return how often one job of a run allocates.

    Args:
        run: Takes how many jobs to run, and what to enter meanwhile.
        short: Jobs of the short run.
        long: Jobs of the long run.
    """
    counts = []
    for jobs in (short, long):
        entered = Allocations()
        run(jobs, entered)
        counts.append(entered.count)
    return (counts[1] - counts[0]) / (long - short)
