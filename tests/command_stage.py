"""A stage for tests of the command line: a short folder with an engine in it, and processes started there.

Each process is one of the test's own and is ended by its own id; output goes to files, so none waits for a reader.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

#: Generous: only a hang is to be caught.
DEADLINE_S = 30.0

APPLICATION = """
import time
import anyio
from headrace import Engine, Handlers

engine = Engine()
other = Engine()
collection = Handlers()


@engine.job
async def add(a: int, b: int = 1) -> int:
    return a + b


@engine.job(queue="slow")
async def nap(seconds: float) -> str:
    with open("napping", "a") as file:
        file.write("x")
    await anyio.sleep(seconds)
    return "rested"


@engine.job(retry=None)
async def fail() -> None:
    raise ValueError("no such row")


@engine.job
def block(seconds: float) -> None:
    with open("blocking", "a") as file:
        file.write("x")
    time.sleep(seconds)
"""


class Process:
    """One process of the command line."""

    def __init__(self, *args: str, folder: Path, environ: dict[str, str]) -> None:
        self.out, self.err = folder / f"out-{time.monotonic_ns()}", folder / f"err-{time.monotonic_ns()}"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "headrace", *args],
                cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self.err.read_text()

    def until(self, text: str, count: int = 1) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while self.log.count(text) < count:
            assert time.monotonic() < deadline_s, f"{text!r} never came: {self.log}"
            assert self.popen.poll() is None or self.log.count(text) >= count, self.log
            time.sleep(0.01)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(DEADLINE_S)


class Stage:
    """A folder with app.py, a server's url, and what was started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"embedded://{folder}/data"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self.environ = {**kept, "HEADRACE_URL": self.url, "XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}
        self.processes: list[Process] = []
        (folder / "app.py").write_text(APPLICATION)

    def start(self, *args: str) -> Process:
        process = Process(*args, folder=self.folder, environ=self.environ)
        self.processes.append(process)
        return process

    def worker(self, *args: str) -> Process:
        process = self.start("run", "app:engine", *args)
        process.until(" working ")
        return process

    def headrace(self, *args: str, stdin: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "headrace", *args],
            cwd=self.folder, env={**self.environ, **environ}, input=stdin, capture_output=True, text=True,
            check=False, timeout=DEADLINE_S,
        )  # fmt: skip

    def wait_for(self, name: str) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline_s, f"{name} never came"
            time.sleep(0.01)

    def close(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()
