"""Applications of hosts.py as processes of their own, on the servers that people run them on."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from servers import Server, free_port

DEADLINE_S = 30
UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning", "hosts:app")
HYPERCORN = ("-m", "hypercorn", "--bind", "127.0.0.1:{port}", "--worker-class", "trio", "--workers", "0", "hosts:app")
GRANIAN = ("-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "--no-ws", "hosts:app")
SERVERS = {
    "fastapi-uvicorn": (UVICORN, "fastapi"),
    "starlette-uvicorn": (UVICORN, "starlette"),
    "litestar-uvicorn": (UVICORN, "litestar"),
    "litestar-granian": (GRANIAN, "litestar"),
    "starlette-hypercorn-trio": (HYPERCORN, "starlette"),
    "litestar-hypercorn-trio": (HYPERCORN, "litestar"),
    "lone-hypercorn-trio": (HYPERCORN, "lone"),
    "lone-uvicorn": (UVICORN, "lone"),
    "lazy-uvicorn": (UVICORN, "lazy"),
}


@contextlib.contextmanager
def hosted(broker: Server, folder: Path, name: str, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a host, and yield its process and address once it listens; what it wrote is shown when the test fails."""
    port = free_port()
    command, app = SERVERS[name]
    environ = {**os.environ, "HOST_APP": app, "HOST_BROKER": broker.url, "PYTHONPATH": str(Path(__file__).parent)}
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in command), *more],
            cwd=folder, env=environ, start_new_session=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        ends_s = time.monotonic() + DEADLINE_S
        while True:
            assert process.poll() is None, (folder / "said").read_text()
            assert time.monotonic() < ends_s
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        print((folder / "said").read_text(errors="replace"))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # granian's workers are in the session that was made for them
        process.wait()
