"""Counts machine instructions of a fixed run under valgrind, for whoever has it; everything in C counts here, too.

Each figure is the difference of two whole processes, a short run and a long one, so that Python's start cancels out.
It depends on the machine's architecture, on how this Python and the libraries were built, and on their versions.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

SHORT, LONG = 2_000, 8_000
_COLLECTED: Final = re.compile(r"Collected\s*:\s*(\d+)")


def where() -> str:
    """Return what the figures depend on most: the row of the baseline that they belong to."""
    return f"{platform.machine()}, Python {sys.version_info.major}.{sys.version_info.minor}"


def instructions(script: str, run: str, loop: str) -> float:
    """Return machine instructions a job.

    Args:
        script: What runs a fixed run in a process: SCRIPT --bare RUN LOOP JOBS.
        run: "worker" or "submission".
        loop: "asyncio" or "trio".
    """
    with ThreadPoolExecutor(2) as pool:  # each takes a minute of a core, most of it for Python's start
        few, many = pool.map(
            lambda jobs: _whole([sys.executable, script, "--bare", run, loop, str(jobs)]), (SHORT, LONG)
        )
    return round((many - few) / (LONG - SHORT))


def _whole(command: list[str]) -> int:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise SystemExit("guard: --callgrind needs valgrind on PATH; install it, or leave the option out")
    done = subprocess.run(
        [valgrind, "--tool=callgrind", f"--callgrind-out-file={os.devnull}", *command],
        env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    counted = _COLLECTED.search(done.stderr)
    if done.returncode or counted is None:
        raise SystemExit(f"guard: {' '.join(command)} failed under valgrind:\n{done.stderr[-4000:]}")
    return int(counted.group(1))
