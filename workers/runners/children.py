"""One child process of a process runner, seen from the runner: started, called, ended.

Started by our own command, never forked, so that neither locks nor connections of this process come along. A child
takes one call at a time. Its owner watches it (`watch`) from start to end, and nobody else waits for the process; when
the watch has ended, no process is left. What is read from a child is bounded by the frame size.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio
import msgspec

from .frames import HEADER_BYTES, Reply, ReplyKind, Setup, body_size, pack_frame

#: Where the system gives no descriptor for a process: how often to look whether it has ended.
_EXIT_CHECK_S: Final = 0.02
_decode_reply = msgspec.msgpack.Decoder(Reply).decode
_decode_progress = msgspec.msgpack.Decoder(tuple[int | float, int | float | None]).decode


class ChildDied(Exception):
    """The child's socket ended before its answer; `watch` then finds out how the process ended."""


class Child:
    """A child process that runs handlers.

    Attributes:
        pid: The process's id.
        calls_count: Calls it was given so far.
        ready: Whether it has said that it is up.
        exited: Set when the process has ended and was waited for.
    """

    def __init__(self, frame_max_bytes: int) -> None:
        self._frame_max_bytes = frame_max_bytes
        self._socket, theirs = socket.socketpair()
        self.calls_count = 0
        self.ready = False
        self.exited = anyio.Event()
        command = [sys.executable, "-m", "headrace.workers.runners.child", str(theirs.fileno())]
        # Blocked across the start and unblocked by the child once it ignores them: Ctrl-C reaches the whole group, and
        # would end a starting child with a traceback. Started here and not in a thread: on Linux the child is told of
        # its parent's death when the starting thread ends.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        except BaseException:
            self._socket.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()
        self.pid = self._process.pid
        self._socket.setblocking(False)
        setup = Setup([path or os.getcwd() for path in ("", *sys.path)], frame_max_bytes, os.getpid())
        with suppress(
            BlockingIOError, ConnectionError
        ):  # an empty socket holds it whole; a dead child shows at the call
            self._socket.send(pack_frame(setup, frame_max_bytes))

    @property
    def alive(self) -> bool:
        """Whether the process runs, as the system says right now."""
        return self._process.poll() is None

    async def call(self, frame: bytes, note: Callable[[int | float, int | float | None], None]) -> Reply:
        """Send a call and return its reply.

        Args:
            frame: The packed call.
            note: Called with what the handler says of how far it is.

        Raises:
            ChildDied: no reply will come.
        """
        self.calls_count += 1
        try:
            await self._send(frame)
            while True:
                reply = _decode_reply(await self._receive())
                if reply.kind is ReplyKind.PROGRESS:
                    note(*_decode_progress(reply.payload))
                elif reply.kind is ReplyKind.READY:
                    self.ready = True
                else:
                    return reply
        except (OSError, ValueError, msgspec.MsgspecError) as error:  # what it sent may be no reply at all
            raise ChildDied(str(error)) from error

    def describe_exit(self) -> str:
        """Return how the process ended, in words; to be asked after `exited`."""
        code = self._process.returncode
        if code is None:
            return "stopped answering"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        guess = {"SIGKILL": " (perhaps for lack of memory)", "SIGSEGV": " (a fault in compiled code)"}.get(name, "")
        return f"was killed by {name}{guess}"

    async def end(self, grace_s: float) -> None:
        """Ask the process to end, kill it after `grace_s` seconds, return when it has ended; cannot be cancelled."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._signal(signal.SIGTERM)
        # One that is still starting has nothing to clean up, and may not hear the signal for a while.
        await self.reap(grace_s if self.ready else 0.0)

    async def reap(self, grace_s: float) -> None:
        """Give the process `grace_s` seconds to end by itself, then kill it; returns when it has ended, uncancelled."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(grace_s):
                await self.exited.wait()
            self._signal(signal.SIGKILL)  # nothing happens to one that has been waited for
            await self.exited.wait()

    async def watch(self) -> None:
        """Wait for the process to end, then let everybody know; not to be cancelled, so that nothing is left behind."""
        with anyio.CancelScope(shield=True):
            try:
                await self._wait_exit()
            finally:
                self.exited.set()
                # Wakes the one who reads, even where a process that the handler started still holds the other end.
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; only after `exited`, and when nobody reads."""
        self._socket.close()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _wait_exit(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, an old one, or too many open files
            while self._process.poll() is None:  # noqa: ASYNC110 - no event says so
                await anyio.sleep(_EXIT_CHECK_S)
            return
        try:
            while self._process.poll() is None:
                await anyio.wait_readable(descriptor)
        finally:
            os.close(descriptor)

    async def _send(self, frame: bytes) -> None:
        rest = memoryview(frame)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    async def _receive(self) -> bytearray:
        """Return the next frame's body."""
        header = await self._receive_exactly(HEADER_BYTES)
        return await self._receive_exactly(body_size(header, self._frame_max_bytes))

    async def _receive_exactly(self, size_bytes: int) -> bytearray:
        data = bytearray(size_bytes)
        rest = memoryview(data)
        while rest:
            try:
                count = self._socket.recv_into(rest)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
                continue
            if not count:
                raise ConnectionResetError("the child's end of the socket is closed")
            rest = rest[count:]
        return data
