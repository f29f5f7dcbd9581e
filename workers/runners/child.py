"""The child of a process runner: `python -m headrace.workers.runners.child FD` runs plain functions, one at a time.

It reads calls from the socket it was given, answers each, and ends when the runner's end of the socket is closed or
the runner dies. Ctrl-C does nothing to it, and SIGTERM ends it only after the runner has closed its end: a supervisor
that signals the whole group must not kill jobs that the runner is draining. SIGTERM then raises SystemExit in the
handler, so its `finally` blocks run; once it has unwound, the process is gone without tidying up after Python itself.
The process owns all its state; nothing here is imported by the runner.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any, Final, NoReturn

import msgspec

from headrace.jobs.arguments import Arguments
from headrace.jobs.failures import failure_of
from headrace.workers.runners.frames import (
    HEADER_BYTES,
    Call,
    FrameTooLarge,
    Reply,
    ReplyKind,
    Setup,
    Target,
    body_size,
    pack_frame,
)
from headrace.workers.runners.reporting import Reporter
from headrace.workers.runners.targets import load

_PR_SET_PDEATHSIG: Final = 1
#: Where the system cannot tell of the parent's death: how often to look. A second is soon enough for an orphan.
_PARENT_CHECK_S: Final = 1.0
_SETUP_MAX_BYTES: Final = 16 * 1024 * 1024  #: a sys.path is a few KiB
_encode = msgspec.msgpack.Encoder().encode


class _Wire:
    """The child's end of the socket; blocking, read by the main thread only."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.frame_max_bytes = _SETUP_MAX_BYTES
        self.reporter = Reporter(lambda note: self._send(ReplyKind.PROGRESS, note))

    def read(self) -> bytearray | None:
        """Return the next frame's body; None when the runner has closed its end."""
        header = self._exactly(HEADER_BYTES)
        return None if header is None else self._exactly(body_size(header, self.frame_max_bytes))

    def write(self, kind: ReplyKind, payload: bytes) -> None:
        """Send one reply; FrameTooLarge before anything is sent."""
        with self.reporter.writing:
            self._send(kind, payload)

    def _send(self, kind: ReplyKind, payload: bytes) -> None:
        self.connection.sendall(pack_frame(Reply(kind, msgspec.Raw(payload)), self.frame_max_bytes))

    def is_closed_by_runner(self) -> bool:
        """Return whether the runner has closed its end; never waits."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _exactly(self, size_bytes: int) -> bytearray | None:
        data = bytearray(size_bytes)
        rest = memoryview(data)
        while rest:
            count = self.connection.recv_into(rest)
            if not count:
                return None
            rest = rest[count:]
        return data


class _Handler:
    """A handler found in this process, with the decoder of its arguments."""

    def __init__(self, target: Target) -> None:
        self._function = load(target)
        self._wants_context = target.wants_context
        self._arguments = Arguments(self._function, name=target.name, skip_first=target.wants_context)

    def run(self, call: Call, reporter: Reporter) -> Any:
        args, kwargs = self._arguments.unpack(call.args, call.kwargs)
        if not self._wants_context:
            return self._function(*args, **kwargs)
        # Not at the top: structlog behind it takes longer to import than the whole child.
        from headrace.workers.context import Context, JobInfo

        info = msgspec.msgpack.decode(call.info, type=JobInfo)
        return self._function(Context(info, note_progress=reporter.begin()), *args, **kwargs)


def serve(wire: _Wire) -> None:
    """Answer calls until the runner closes its end."""
    handlers: dict[bytes, _Handler] = {}
    decode = msgspec.msgpack.Decoder(Call).decode
    wire.write(ReplyKind.READY, _encode(None))
    # Closed with a call still unread: its slot was cancelled, and SIGTERM may have come too early to end us.
    while (body := wire.read()) is not None and not wire.is_closed_by_runner():
        try:
            _serve_one(wire, decode(body), handlers)
        except SystemExit:  # SIGTERM, a moment behind the handler
            _leave()


def _serve_one(wire: _Wire, call: Call, handlers: dict[bytes, _Handler]) -> None:
    kind, payload = _answer(wire, call, handlers)
    if wire.is_closed_by_runner():
        _leave()  # nobody waits for the answer: the slot was cancelled
    with contextlib.suppress(AttributeError, ValueError, OSError):
        sys.stdout.flush()  # else what a handler printed would come when the child ends, or never
    wire.reporter.end()
    try:
        wire.write(kind, payload)
    except FrameTooLarge as error:
        wire.write(ReplyKind.UNPACKABLE, _encode(f"it is too large: {error}"))


def _answer(wire: _Wire, call: Call, handlers: dict[bytes, _Handler]) -> tuple[ReplyKind, bytes]:
    try:
        key = bytes(call.target)
        handler = handlers.get(key)
        if handler is None:
            handler = handlers[key] = _Handler(msgspec.msgpack.decode(key, type=Target))
        value = handler.run(call, wire.reporter)
    except BaseException as error:  # noqa: BLE001 - SystemExit too is a failed job, and the child goes on
        if wire.is_closed_by_runner():
            _leave()  # told to stop, and unwound: nobody waits for what it raised
        return ReplyKind.FAILURE, _encode(failure_of(error))
    try:
        return ReplyKind.VALUE, _encode(value)
    except Exception as error:  # noqa: BLE001 - what packing raises depends on the handler's own classes
        return ReplyKind.UNPACKABLE, _encode(f"{type(value).__name__}: {failure_of(error)}")


def _leave() -> NoReturn:
    """End at once, after a handler that was stopped: whoever cancelled it waits for this process to be gone.

    What Python does at its exit, such as clearing modules and joining threads, takes longer than the handler's cleanup.
    """
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError, OSError):
                stream.flush()
    finally:
        os._exit(128 + signal.SIGTERM)


def _die_with(parent_pid: int) -> None:
    """Have this process end when its parent does, even while a handler runs."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes  # takes a few ms, and only Linux needs it

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent_pid:  # it died before we asked
                os._exit(1)
            return
    threading.Thread(target=_watch_parent, args=(parent_pid,), name="headrace-parent", daemon=True).start()


def _watch_parent(parent_pid: int) -> NoReturn:
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)


def main() -> None:
    """Run as the child of a process runner; the file descriptor of its socket is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    wire = _Wire(connection)

    def on_terminate(_number: int, _frame: FrameType | None) -> None:
        if wire.is_closed_by_runner():
            raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, on_terminate)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # blocked by the runner until here
    setup_frame = wire.read()
    if setup_frame is None:
        return
    setup = msgspec.msgpack.decode(setup_frame, type=Setup)
    _die_with(setup.parent_pid)
    wire.frame_max_bytes = setup.frame_max_bytes
    sys.path[:] = setup.search_path
    try:
        serve(wire)
    except ConnectionError:
        return  # the runner is gone, and so is the reason to go on
    finally:
        # On its way out already; the signal that comes a moment after the closing would only leave a traceback behind.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


if __name__ == "__main__":
    main()
