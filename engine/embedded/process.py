"""Run one server process: start it, ask whether it answers, end it.

The server inherits an open, locked file, so the kernel tells for as long as the lock stands that it lives, whoever
started it and whatever became of them. It runs in a session of its own, so Ctrl-C does not reach it. With
`appendfsync always` even a kill loses nothing that was acknowledged. The process table is the only state.
"""

import enum
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace.config.errors import ConfigError

from .faults import failed_start, too_old
from .locks import POLL_S, FileLock
from .private import private
from .record import ServerRecord, write_record
from .versions import is_older, version_of

LOG_NAME = "server.log"
#: At a start, a log that has grown past this makes room for a new one; one older is kept.
LOG_MAX_BYTES = 1 << 20
#: A start takes about 50 ms, and loading some 100 MB a second: enough for several times the default max_queue_bytes.
READY_WITHIN_S = 60.0
#: A lively server answers within microseconds; one that stalls on a slow disk may take a while.
ANSWER_WITHIN_S = 1.0
STOP_WITHIN_S = 10.0
#: Jobs and results are the user's own: the server's files are closed to everybody else, whatever the user's umask is.
PRIVATE_UMASK = 0o077


class Answer(enum.Enum):
    """What a server says when it is asked whether it is there."""

    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"  # it takes connections and does not answer in time
    ABSENT = "absent"  # nobody takes connections


def connect(socket: Path) -> redis.Redis:
    """Return a client that neither retries nor waits long."""
    return redis.Redis(
        unix_socket_path=str(socket),
        socket_timeout=ANSWER_WITHIN_S,
        protocol=2,  # nothing here needs the newer one, and old servers lack it
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def probe(socket: Path) -> Answer:
    """Ask whether a server answers at a socket."""
    try:
        with connect(socket) as client:
            client.ping()
    except redis.BusyLoadingError:
        return Answer.LOADING
    except redis.TimeoutError:
        return Answer.SILENT
    except redis.ConnectionError:
        return Answer.ABSENT
    except redis.ResponseError:  # BUSY or MISCONF: it has its worries, but it is up
        return Answer.READY
    return Answer.READY


def identify(socket: Path) -> tuple[int, str]:
    """Return the process id and the "Product version" of the server at a socket; (0, "") when it cannot say."""
    try:
        with connect(socket) as client:
            said = client.info("server")
    except redis.RedisError:
        return 0, ""
    assert isinstance(said, dict)
    valkey = said.get("valkey_version")
    return int(said["process_id"]), f"Valkey {valkey}" if valkey else f"Redis {said['redis_version']}"


def start(*, binary: Path, data: Path, socket: Path, alive: FileLock, last_version: str) -> ServerRecord:
    """Start a server and wait until it answers.

    Args:
        binary: The program.
        data: The data folder.
        socket: Where it is to listen; what lies there is replaced.
        alive: The lock that says that a server of this folder lives, taken; the server keeps it.
        last_version: Product and version that wrote the data last, for the error message.

    Returns:
        The record of the running server, written in the data folder too.

    Raises:
        ConfigError: it did not come up, and the message has the end of its log; or it is too old for the data.
    """
    if last_version and is_older(found := version_of(binary), last_version):
        raise too_old(data, binary=binary, version=found, last_version=last_version)
    log = data / LOG_NAME
    if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
        os.replace(log, data / f"{LOG_NAME}.1")
    record = ServerRecord(socket=str(socket), binary=str(binary), version=last_version, data=str(data))
    write_record(data, record)
    with open(log, "ab", opener=private) as output:
        log_from = output.tell()
        try:
            process = subprocess.Popen(
                _command(binary, socket),
                cwd=data,  # its folder for files; as an argument the path would need the server's own quoting
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=PRIVATE_UMASK,
                pass_fds=[alive.fileno()],
            )
        except OSError as error:
            raise ConfigError(f"the server {binary} cannot be run ({error}); install it anew, or give a URL") from error
    alive.close()  # at once, so that no other child of ours inherits it: the server has it now
    try:
        why = _wait_ready(process, socket)
        if why is not None:
            raise failed_start(data, binary=binary, why=why, last_version=last_version, log=log, log_from=log_from)
        _, version = identify(socket)
        record = ServerRecord(socket=str(socket), pid=process.pid, binary=str(binary), version=version, data=str(data))
        write_record(data, record)
    except BaseException:
        process.kill()
        process.wait()
        raise
    # Reaps it whenever it ends, be it stopped by another program; a daemon, for it may well outlive us.
    threading.Thread(target=process.wait, name="headrace-embedded-reaper", daemon=True).start()
    return record


def _command(binary: Path, socket: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "daemonize": "no",
        "logfile": "",  # to standard output, which also gets what it says when it cannot start
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]


def _wait_ready(process: "subprocess.Popen[bytes]", socket: Path) -> str | None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            return f"ended with status {process.returncode}"
        # Looking for the file first costs a hundredth of a refused connection; the server deletes a stale one itself.
        if socket.exists() and probe(socket) is Answer.READY:
            return None
        time.sleep(POLL_S)
    return f"did not answer within {READY_WITHIN_S:.0f} s"


def shut_down(socket: Path) -> None:
    """Ask the server at a socket to write everything and to end; does not wait for it."""
    try:
        with connect(socket) as client:
            client.execute_command("SHUTDOWN")
    except redis.RedisError:
        return  # the reply to success is the end of the connection; the caller watches the lock for the rest


def terminate(record: ServerRecord, alive: FileLock) -> bool:
    """End the process of a record by signals, if it really is that server; return whether the server is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not is_server(record):
            break
        os.kill(record.pid, number)
        if alive.take(within_s=STOP_WITHIN_S):
            return True
    # A dead server's child that rewrites the log has the lock too, and ends soon after its parent.
    return alive.take(within_s=STOP_WITHIN_S)


def is_server(record: ServerRecord) -> bool:
    """Return whether the recorded process id still belongs to that server, whose title has its socket's path."""
    if record.pid <= 0:
        return False
    try:
        title = Path(f"/proc/{record.pid}/cmdline").read_bytes()
    except OSError:  # no such process, or no /proc, as on macOS
        try:
            ps = ["ps", "-ww", "-o", "args=", "-p", str(record.pid)]
            title = subprocess.run(ps, capture_output=True, check=False, timeout=ANSWER_WITHIN_S).stdout
        except (OSError, subprocess.TimeoutExpired):
            return False
    return os.fsencode(record.socket) in title
