"""A process that serves the API for a test, over a broker that is away or there, and what can be seen of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: Requests that need no broker are all that most of these tests send.
AWAY = "redis://127.0.0.1:1/0"
CERTS = Path(__file__).parent / "http" / "certs"
DEADLINE_S = 30.0
#: States of a connection, in Linux's own numbers, in which the process still holds it: established, and close-wait.
_HELD = ("01", "08")


@dataclass
class Serving:
    """A serving process.

    Attributes:
        process: The process.
        url: The address that it announced.
        log: The file that it logs to.
    """

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def descriptors_count(self) -> int:
        """How many files and connections it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def connections_count(self) -> int:
        """How many clients' connections it has; those to its broker come and go as it likes."""
        ours = f"0100007F:{self.port:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
        return len([line for line in lines if line[1] == ours and line[3] in _HELD])

    def said(self) -> str:
        """What it has logged."""
        return self.log.read_text(encoding="utf-8")


@contextmanager
def serving(folder: Path, toml: str, *, url: str = AWAY, first: str = "", program: str = "") -> Iterator[Serving]:
    """Yield a process that serves with these settings, on a free port of loopback, and end it.

    Args:
        folder: Where its settings and its log go.
        toml: Lines of its section [http], and sections behind it.
        url: Its broker.
        first: Settings outside sections.
        program: What runs before `headrace serve`, in its process.
    """
    text = f'url = "{url}"\nlog_level = "debug"\n{first}\n[http]\nport = 0\n{toml}\n'
    (folder / "headrace.toml").write_text(text, encoding="utf-8")
    log = folder / "log"
    command = ["-m", "headrace", "serve"]
    if program:
        command = [
            "-c",
            f"{program}\nimport sys\nsys.argv[1:] = ['serve']\nfrom headrace.engine.cli.app import main\nmain()",
        ]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
        )  # fmt: skip
    try:
        yield Serving(process, _announced(process, log), log)
    finally:
        process.kill()
        process.wait()


def _announced(process: "subprocess.Popen[bytes]", log: Path) -> str:
    import time

    ends_s = time.monotonic() + DEADLINE_S
    mark = "headrace: the API is at "
    while time.monotonic() < ends_s:
        found = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith(mark)]
        if found:
            return found[0].removeprefix(mark)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.01)
    raise AssertionError(log.read_text(encoding="utf-8"))
