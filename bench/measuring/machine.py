"""What a figure depends on: the machine, its kernel and disk, Python, the server and the commit."""

import os
import pathlib
import platform
import subprocess

from .servers import HERE, disk_folder, filesystem, server_binary, server_version


def machine() -> dict[str, object]:
    """Return what a figure depends on, by name."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "server": server_version(server_binary()),
        "commit": _commit(),
        "cpu": _cpu(),
        "kernel": f"{platform.system()} {platform.release()}",
        "disk": filesystem(disk_folder()),
    }


def load() -> list[float]:
    """Return the load averages of the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def _commit() -> str:
    """Return what was measured; results, which are written meanwhile, make nothing of it dirty."""
    found = _git("describe", "--always")
    # Of what git does not track nothing is measured.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)bench/results")
    return f"{found or 'unknown'}{'-dirty' if changed else ''}"


def _git(*arguments: str) -> str:
    """Return what git says; nothing where there is no git, as in a container, or no repository."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=HERE).stdout.strip()
    except OSError:
        return ""


def _cpu() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
