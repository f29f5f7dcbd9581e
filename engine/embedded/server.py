"""Share one server per data folder among all programs of this machine that use it.

Three locks lie in the data folder: `users.lock`, shared, held by each user for as long as it uses the server;
`start.lock`, exclusive, held by whoever starts, joins or leaves; `server.lock`, held by the living server itself. The
last to leave stops the server; who was killed has left too. Each EmbeddedServer owns its users.lock; nobody else does.
"""

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec

from headrace.config.errors import ConfigError
from headrace.jobs.errors import BrokerUnavailable

from .binary import find_binary
from .faults import explained
from .locks import POLL_S, FileLock
from .place import claim_socket, data_folder, refuse_if_url_required, socket_paths
from .private import make_private
from .process import READY_WITHIN_S, STOP_WITHIN_S, Answer, identify, is_server, probe, shut_down, start, terminate
from .record import ServerRecord, read_record, write_record

#: The one before us may have a server to start or to stop, each with its own bound.
TURN_WITHIN_S = READY_WITHIN_S + 3 * STOP_WITHIN_S
#: A server binds its socket within some 50 ms of its start, before it loads its data.
BOUND_WITHIN_S = 2.0


def acquire(path: Path | None, *, environ: Mapping[str, str], folder: Path) -> "EmbeddedServer":
    """Start the server of a data folder, or join the one that runs; blocks until it answers.

    Args:
        path: The data folder, as an embedded:// URL names it; None to choose the project's or the user's.
        environ: The environment, which decides where things lie and which binary is found.
        folder: Where the program runs; relative paths and the search for the project begin here.

    Returns:
        The server, in use until `release`.

    Raises:
        ConfigError: no binary, no usable folder, or a server that does not start; the message says what to do.
    """
    if path is None:
        refuse_if_url_required(environ, require_url=False)
    data = data_folder(path, environ=environ, folder=folder)
    with explained(data):
        make_private(data)
        with _turn(data):
            users, record = _join(data, environ=environ, socket=None)
    return EmbeddedServer(data, users=users, record=record, environ=environ)


class EmbeddedServer:
    """A local server in use by this program, until `release` or the end of the process that acquired it.

    Attributes:
        data_folder: Where its data, its log and its locks lie.
    """

    def __init__(self, data: Path, *, users: FileLock, record: ServerRecord, environ: Mapping[str, str]) -> None:
        self.data_folder = data
        self._users = users
        self._record = record
        self._environ = dict(environ)
        self._owner_pid = os.getpid()
        self._released = False
        self._guard = threading.Lock()
        atexit.register(self.release)

    @property
    def url(self) -> str:
        """The URL to connect to; read it again after `ensure_running`."""
        return f"unix://{quote(self._record.socket)}"

    @property
    def where(self) -> str:
        """One sentence for people: what runs, and where its data lie."""
        product = self._record.version or "server"
        return f"Jobs are kept on this machine by an embedded {product}, with its data in {self.data_folder}."

    def ensure_running(self) -> None:
        """Start the server again if it is gone, on the same data and at the same socket, after a connection failed.

        Raises:
            BrokerUnavailable: it cannot be had at the moment (a full disk, say); the message says why. Try again later.
            RuntimeError: the caller has released it, or is a fork of the process that acquired it.
        """
        if os.getpid() != self._owner_pid:
            raise RuntimeError("this process is a fork of the one that acquired the embedded server: acquire it anew")
        with self._guard:
            if self._released:
                raise RuntimeError("this embedded server was released: acquire it anew")
            try:
                with explained(self.data_folder):
                    self._ensure_running()
            except ConfigError as error:
                raise BrokerUnavailable(str(error)) from error

    def _ensure_running(self) -> None:
        socket = Path(self._record.socket)
        if self._users.is_current() and probe(socket) is Answer.READY:
            return
        make_private(self.data_folder)
        with _turn(self.data_folder):
            if self._users.is_current():
                self._record = _bring_up(self.data_folder, environ=self._environ, socket=socket)
                return
            # Somebody deleted the folder under us: what was in it is gone, and our lock with it.
            users, self._record = _join(self.data_folder, environ=self._environ, socket=socket)
            self._users.unlock()
            self._users = users

    def release(self) -> None:
        """Leave the server; the last to leave stops it. Does nothing the second time, and nothing in a forked child."""
        if os.getpid() != self._owner_pid:
            self._users.close()  # the child's copy alone: the parent keeps its lock
            return
        with self._guard:
            if self._released:
                return
            self._released = True
            atexit.unregister(self.release)
            try:
                self._leave()
            except (OSError, ConfigError):
                # Nobody can be told at an exit. A server that is left over is joined by the next user and then stopped.
                return
            finally:
                self._users.unlock()

    def _leave(self) -> None:
        if not self._users.is_current():
            # The folder was deleted under us: nobody new can find its server, so if no old user has it, it ends here.
            if self._users.take_nowait() and is_server(self._record):
                os.kill(self._record.pid, signal.SIGTERM)
            return
        with _turn(self.data_folder):
            if self._users.is_current() and self._users.take_nowait():
                _stop(self.data_folder, self._record)


@contextmanager
def _turn(data: Path) -> Iterator[None]:
    """Hold the start-up lock: whoever starts, joins or leaves does it alone."""
    deadline_s = time.monotonic() + TURN_WITHIN_S
    while True:
        with FileLock(data / "start.lock") as lock:
            if not lock.take(within_s=deadline_s - time.monotonic()):
                raise ConfigError(
                    f"another program has been starting or stopping the embedded server of {data} for "
                    f"{TURN_WITHIN_S:.0f} s; end it, or give the URL of a running server"
                )
            if lock.is_current():  # else the folder was deleted while we waited, and another lock is the lock now
                yield
                return


def _join(data: Path, *, environ: Mapping[str, str], socket: Path | None) -> tuple[FileLock, ServerRecord]:
    """Become a user, and see to it that the server runs; needs the turn."""
    users = FileLock(data / "users.lock")
    try:
        # Nobody holds it exclusively but the last to leave, and never without the turn.
        if not users.take(shared=True, within_s=STOP_WITHIN_S):
            raise ConfigError(
                f"{users.path} is locked by a program that is not headrace; end it, or use another folder"
            )
        return users, _bring_up(data, environ=environ, socket=socket)
    except BaseException:
        users.unlock()
        raise


def _bring_up(data: Path, *, environ: Mapping[str, str], socket: Path | None) -> ServerRecord:
    """Return the living server of a data folder, or start one, at `socket` if that can be; needs the turn."""
    uid = os.geteuid()
    paths = socket_paths(data, environ=environ, uid=uid)
    record = read_record(data) or ServerRecord(socket=str(paths[0]))
    alive = FileLock(data / "server.lock")
    try:
        if not alive.take_nowait():
            if _answers(record, alive):
                return _with_identity(data, record)
            _evict(data, record, alive)
        if socket is None and record.data == str(data):  # a copied folder has the address of its original
            socket = Path(record.socket)  # others may still hold this address from before a crash
        binary = find_binary(environ)
        socket = claim_socket(paths if socket is None else [socket, *paths], uid=uid)
        _dismiss(socket)
        return start(binary=binary, data=data, socket=socket, alive=alive, last_version=record.version)
    finally:
        alive.close()


def _answers(record: ServerRecord, alive: FileLock) -> bool:
    """Wait for the living server to answer; False when it ended meanwhile or cannot be reached.

    Raises:
        ConfigError: it takes connections but has not answered for long.
    """
    began_s = time.monotonic()
    while True:
        answer = probe(Path(record.socket))
        if answer is Answer.READY:
            return True
        waited_s = time.monotonic() - began_s
        if answer is Answer.ABSENT and (alive.take_nowait() or waited_s > BOUND_WITHIN_S):
            return False
        if waited_s > READY_WITHIN_S:
            raise ConfigError(
                f"the embedded server (pid {record.pid}) is {answer.value} and has not answered at {record.socket} for "
                f"{READY_WITHIN_S:.0f} s; wait, or end that process: its data are safe, and it is started anew"
            )
        time.sleep(POLL_S)


def _evict(data: Path, record: ServerRecord, alive: FileLock) -> None:
    """End a living server that has lost its socket, as when /tmp was cleaned or the user's runtime folder removed."""
    if alive.take_nowait() or terminate(record, alive):
        return
    raise ConfigError(
        f"a server that cannot be reached from here already uses the data in {data}, perhaps in another container; "
        "end it, or use another folder (HEADRACE_URL=embedded:///path/of/the/data), or give its URL"
    )


def _dismiss(socket: Path) -> None:
    """End a server at our address whose data folder was deleted under it: the two must not share the address."""
    if not socket.exists() or probe(socket) is Answer.ABSENT:
        return
    shut_down(socket)
    deadline_s = time.monotonic() + STOP_WITHIN_S
    while socket.exists() and time.monotonic() < deadline_s:  # it deletes the path at its end, whosever that is by then
        time.sleep(POLL_S)


def _with_identity(data: Path, record: ServerRecord) -> ServerRecord:
    """Fill in what a starter could not write because it was killed first."""
    if record.pid:
        return record
    pid, version = identify(Path(record.socket))
    record = msgspec.structs.replace(record, pid=pid, version=version)
    write_record(data, record)
    return record


def _stop(data: Path, known: ServerRecord) -> None:
    """Stop the server of a data folder, if it lives; needs the turn, and that nobody uses it."""
    record = read_record(data) or known  # the file first: another user may have started the server again
    with FileLock(data / "server.lock") as alive:
        if alive.take_nowait():
            return
        shut_down(Path(record.socket))
        if alive.take(within_s=STOP_WITHIN_S) or terminate(record, alive):
            write_record(data, msgspec.structs.replace(record, pid=0))
