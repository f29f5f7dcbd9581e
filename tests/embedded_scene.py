"""A stage for tests of the embedded server: a short temporary folder, users in processes of their own, real servers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import redis

from headrace.engine.embedded import EmbeddedServer, acquire
from headrace.engine.embedded.process import is_server
from headrace.engine.embedded.record import ServerRecord, read_record

#: Generous: only a hang is to be caught.
DEADLINE_S = 20.0

USER = """
import os, sys
from pathlib import Path
from headrace.engine.embedded import acquire
server = acquire(Path(sys.argv[1]), environ=os.environ, folder=Path.cwd())
print(server.url, flush=True)
sys.stdin.readline()
"""


class Scene:
    """A temporary folder with a data folder and a runtime folder of its own, and the processes started in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.runtime = root / "run"
        self.runtime.mkdir(mode=0o700)
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(root), "XDG_RUNTIME_DIR": str(self.runtime)}
        self.users: list[subprocess.Popen[str]] = []
        self.servers: list[EmbeddedServer] = []

    def acquire(self, path: Path | None = None) -> EmbeddedServer:
        server = acquire(path or self.data, environ=self.environ, folder=self.root)
        self.servers.append(server)
        return server

    def start_user(self) -> subprocess.Popen[str]:
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(self.data)],
            env=self.environ, cwd=self.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.users.append(user)
        return user

    @property
    def record(self) -> ServerRecord:
        record = read_record(self.data)
        assert record is not None
        return record

    def close(self) -> None:
        for user in self.users:
            user.kill()
            user.communicate()
        for server in self.servers:
            server.release()
        record = read_record(self.data) if self.data.is_dir() else None
        if record is not None and is_server(record):
            os.kill(record.pid, signal.SIGKILL)


def line_of(user: "subprocess.Popen[str]") -> str:
    assert user.stdout is not None
    return user.stdout.readline().strip()


def leave(user: "subprocess.Popen[str]") -> None:
    user.communicate("leave\n", timeout=DEADLINE_S)


def client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def kill_server(record: ServerRecord) -> None:
    if is_server(record):
        os.kill(record.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + DEADLINE_S
    while is_server(record) and time.monotonic() < deadline_s:
        time.sleep(0.002)
