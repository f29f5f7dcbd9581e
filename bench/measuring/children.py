"""Child processes: each figure comes from a process of its own, so that none inherits another's heap.

A probe prints one line of JSON; one that fails ends the measurement with its own words. A child that is left behind by
an exception or a signal is told to end, and given time to end its server.
"""

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from .servers import HERE

#: A child that was told to end has a server and a worker to end itself.
END_WITHIN_S = 30.0
#: Far more than the longest probe takes: a hang is reported instead of lasting for ever.
TIMEOUT_S = 900.0


def child(script: str, *arguments: str, python: str = sys.executable) -> dict[str, float]:
    """Run a script of the benchmarks in a process of its own and return the JSON of its last line.

    Args:
        script: Its file's name.
        arguments: Its arguments.
        python: What runs it: the environment of another checkout measures that one, with the script of this one.
    """
    return run([python, str(HERE / script), *arguments], folder=None)


def probe(name: str, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> dict[str, float]:
    """Run a probe and return what it measured.

    Args:
        name: Its module in bench/probes.
        arguments: Its arguments.
        environ: The environment; None for this process's.
    """
    return run([sys.executable, *module(name), *arguments], environ)


def module(name: str) -> list[str]:
    """Return what follows the name of an interpreter to run a module of bench/probes, in the folder bench/."""
    return ["-m", f"probes.{name}"]


def run(
    command: Sequence[str], environ: Mapping[str, str] | None = None, folder: pathlib.Path | None = HERE
) -> dict[str, float]:
    """Run a command, in the folder bench/ unless told otherwise, and return the JSON object that it prints last.

    Raises:
        SystemExit: it failed; with the end of what it said.
    """
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    try:
        said, complaint = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(command)} was not done after {TIMEOUT_S:.0f} s; it was ended") from None
    finally:
        end(process)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with code {process.returncode}:\n{complaint[-4000:]}")
    lines = [line for line in said.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{' '.join(command)} printed no JSON, but:\n{said[-2000:]}{complaint[-2000:]}")
    figures: dict[str, float] = json.loads(lines[-1])
    return figures


def end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]", within_s: float = END_WITHIN_S) -> None:
    """End a child that still runs: ask first, and insist after a while; safe to call twice.

    Args:
        process: The child.
        within_s: How long it has; a child that ends children of its own has longer than they, or they outlive it.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def found(program: str) -> str | None:
    """Return the path of a program that stands beside this Python or on PATH; None where there is none."""
    return shutil.which(program, path=str(HERE.parent / ".venv" / "bin")) or shutil.which(program)
