"""One worker process of a program of a test's own: started, watched, told to stop, and ended by its own id."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from journal import until

#: Generous: a start takes half a second, and an end about as long.
PATIENCE_S = 30.0


class Lone:
    """A running worker.

    Args:
        process: The process.
        log: What it says.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def said(self) -> str:
        """What it said so far."""
        return self._log.read_text()

    @property
    def peak_bytes(self) -> int:
        """The most memory that it ever had; 0 where the system does not tell."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return 0
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


@contextmanager
def lone_worker(program: Path, folder: Path, *args: str) -> Iterator[Lone]:
    """Run a worker program; when the block has ended well, the worker must end well, too."""
    log = folder / f"{program.stem}.log"
    with log.open("ab") as file:
        process = subprocess.Popen([sys.executable, str(program), *args], stderr=file)
    worker = Lone(process, log)
    try:
        until(lambda: "working" in worker.said or process.poll() is not None, "the worker to work")
        yield worker
        assert process.poll() is None, f"the worker ended by itself: {process.returncode}"
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(PATIENCE_S)
    except BaseException:
        print(f"the worker said:\n{worker.said[-6000:]}")
        raise
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
