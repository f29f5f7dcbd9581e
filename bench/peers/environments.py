"""One environment for each peer, under .envs: its pinned packages, apart from all others.

Made again when the file of pins changes. What cannot be made is reported with the reason, never left out in silence.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

from .plan import Plan

HERE = pathlib.Path(__file__).parent
ENVIRONMENTS, PINS = HERE / ".envs", HERE / "requirements"
#: In the order in which the tables have them; headrace lives in the environment that runs the benchmark.
NAMES = (
    "headrace", "bullmq", "streaq", "saq", "arq", "taskiq", "docket", "dramatiq", "celery", "rq", "huey",
)  # fmt: skip


class NotMade(Exception):
    """An environment could not be made; the message says why."""


@dataclass(frozen=True)
class Environment:
    """How a peer's processes are started."""

    name: str
    command: tuple[str, ...]

    def start(self, plan: Plan, role: str, *rest: str, **options: object) -> subprocess.Popen[str]:
        """Start a process of a peer in a group of its own, in the folder from which `peers` is imported."""
        environment = {**plan.to_environment(), "PYTHONPATH": str(HERE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            [*self.command, role, *rest], text=True, cwd=HERE.parent, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, **options,
        )  # type: ignore[call-overload, no-any-return]  # fmt: skip

    def ask(self, plan: Plan, role: str, *rest: str) -> dict[str, object]:
        """Run a role to its end and return the JSON of its last line."""
        process = self.start(plan, role, *rest, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, problems = process.communicate()
        finally:
            if process.poll() is None:  # an interrupted driver leaves nothing behind
                end(process, signal.SIGKILL)
        if process.returncode:
            raise NotMade(f"{role} failed: {last_line(problems)}")
        answer: dict[str, object] = json.loads(out.strip().splitlines()[-1])
        return answer


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def run(*command: str, cwd: pathlib.Path | None = None) -> None:
    """Run one step of making an environment."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    except OSError as error:
        raise NotMade(f"{command[0]} does not run: {error}") from error
    if done.returncode:
        raise NotMade(f"{' '.join(command[:4])} ...: {last_line(done.stderr or done.stdout)}")


def make(name: str) -> Environment:
    """Return a peer's environment, made first where it is missing or its pins have changed.

    Raises:
        NotMade: a package registry could not be reached, or has no such package, or there is no node.
    """
    if name == "headrace":
        return Environment(name, (sys.executable, "-m", "peers.role", name))
    is_node = name == "bullmq"
    folder, pins = ENVIRONMENTS / name, PINS / (f"{name}.json" if is_node else f"{name}.txt")
    program = (shutil.which("node") or "node") if is_node else str(folder / "bin" / "python")
    command = (program, str(HERE / f"{name}.mjs")) if is_node else (program, "-m", "peers.role", name)
    stamp = folder / ".made"
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return Environment(name, command)
    print(f"making the environment of {name}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if is_node:
        shutil.copy(pins, folder / "package.json")
        run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
    else:
        run(sys.executable, "-m", "venv", str(folder))
        run(program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins))
    stamp.write_text(wanted)
    return Environment(name, command)


def end(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal to the group that a process leads, and wait for the process."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
