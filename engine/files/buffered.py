"""The async buffered file: many small records in, few large writes out, on asyncio and on trio.

`write` takes a batch whole or not at all, and waits while the buffer is full. One writer gathers records until 64 KiB
or 100 ms and writes them with one hop. A full disk is backpressure and shows in `healthy`: the write is tried until
space returns; no record is dropped, doubled or torn. The writer lives from `open` to `close`, apart from the scopes
around them: it outlives a cancelled owner, files close in any order, and its faults come out of `write`, `flush` and
`close`, never elsewhere.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import sniffio
from anyio.lowlevel import checkpoint

from headrace.config.errors import ConfigError
from headrace.config.logs import logger

from .framing import Framing, JsonLines
from .media import Medium, Opener
from .opening import open_file
from .settings import FileSettings, FileStatistics, Fsync

#: The pause after a fault doubles from the first to the second; an operator who frees space waits a second at most.
RETRY_FIRST_S = 0.05
RETRY_LAST_S = 1.0
#: A full disk fails many times a second; one line in this time is enough to be seen.
LOG_EVERY_S = 5.0

_log = logger("headrace.files")


class BufferedFile:
    """A file that event loops append records to.

    Args:
        path: Where; the folder must exist. Locked while open: one writer per file.
        settings: How it gathers, synchronises and rotates.
        framing: Where one record ends and the next begins.
        opener: Opens the path; tests give one that fails.

    Attributes:
        healthy: False from a fault until the next success.
    """

    def __init__(
        self,
        path: str | Path,
        settings: FileSettings | None = None,
        *,
        framing: Framing | None = None,
        opener: Opener = open_file,
    ) -> None:
        self.path = Path(path)
        self.healthy = True
        self._settings = settings or FileSettings()
        self._framing = framing or JsonLines()
        self._medium = Medium(self.path, self._settings, self._framing, opener)
        self._records: deque[bytes] = deque()
        self._pending_bytes = 0
        self._oldest_at_s = 0.0
        self._accepted = self._written = self._synced = 0
        self._flush_through = 0
        self._blocked = False
        self._errors = self._flushes = 0
        self._logged_at_s = -math.inf
        self._last_error: Exception | None = None
        self._failure: Exception | None = None
        self._host: object = None
        self._opened = self._closing = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the file and start its writer; once only.

        Raises:
            OSError: it cannot be opened; names the path.
            ConfigError: another writer has it, or it was opened before.
        """
        if self._opened:
            raise ConfigError(f"{self.path} was opened before; make a new BufferedFile for each opening")
        self._wake, self._progress, self._ended = anyio.Event(), anyio.Event(), anyio.Event()
        self._turn = anyio.Lock(fast_acquire=True)
        self._scope = anyio.CancelScope()
        await self._medium.open()
        self._opened = True
        self._start()

    async def write(self, records: Sequence[bytes]) -> None:
        """Take records, in order; waits while the buffer is full. Cancelled while it waits, it has taken none of them.

        A batch larger than the whole buffer is taken when the buffer is empty.

        Raises:
            ValueError: a record that the framing cannot hold; none was taken.
            OSError: the file is closed or its writer has ended; none was taken.
        """
        for record in records:
            self._framing.check(record)
        size_bytes = sum(map(len, records)) + len(records) * self._framing.overhead_bytes
        self._require_open()
        async with self._turn:
            await checkpoint()
            while not self._has_room(size_bytes, len(records)):
                self._require_open()
                self._blocked = True
                self._wake.set()
                await self._progress.wait()
            self._require_open()
            if not self._records:
                self._oldest_at_s = anyio.current_time()
            self._records.extend(records)
            self._accepted += len(records)
            self._pending_bytes += size_bytes
            self._wake.set()

    async def flush(self) -> None:
        """Wait until all records taken so far are written; unless fsync is "never", until the disk has them.

        Raises:
            OSError: the file was closed, or its writer ended, before that.
        """
        mark = self._accepted
        self._flush_through = max(self._flush_through, mark)
        while self._flushed() < mark:
            self._require_open(closing_is_open=True)
            self._wake.set()
            await self._progress.wait()
        await checkpoint()

    async def close(self) -> None:
        """Write out all that was taken, have the disk confirm it, and let go; safe to call twice.

        Shielded from cancellation, and bounded by `close_timeout_s`.

        Raises:
            TimeoutError: records are left unwritten, such as on a full disk; says how many and why.
        """
        if not self._opened or self._closing:
            return
        self._closing = True
        self._wake.set()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self._settings.close_timeout_s):
                await self._ended.wait()
            if not self._ended.is_set():
                self._scope.cancel()
                await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    def statistics(self) -> FileStatistics:
        """Return the counters; never waits."""
        written = self._synced if self._settings.fsync is Fsync.ALWAYS else self._written
        return FileStatistics(
            written=written,
            pending=self._accepted - written,
            pending_max=self._settings.pending_max,
            pending_bytes=self._pending_bytes,
            errors=self._errors,
            flushes=self._flushes,
            fsyncs=self._medium.fsyncs,
            rotations=self._medium.rotations,
            bytes=self._medium.bytes,
            healthy=self.healthy,
        )

    def _has_room(self, size_bytes: int, count: int) -> bool:
        if not self._records:
            return True
        fits = self._pending_bytes + size_bytes <= self._settings.pending_max_bytes
        return fits and len(self._records) + count <= self._settings.pending_max

    def _flushed(self) -> int:
        return self._written if self._settings.fsync is Fsync.NEVER else self._synced

    def _require_open(self, *, closing_is_open: bool = False) -> None:
        if self._failure is not None:
            raise OSError(f"{self.path} is no longer written to: {self._failure}") from self._failure
        if not self._opened or self._ended.is_set() or (self._closing and not closing_is_open):
            raise OSError(f"{self.path} is not open: the caller writes before open() or after close()")

    def _start(self) -> None:
        """Start the writer, in no task group of the owner's.

        A group entered in `open` and left in `close` would break the nesting of the scopes that an owner opens around
        one of them. `close` always ends the writer, and what it raises is kept for its callers.
        """
        name = f"writer of {self.path}"
        if sniffio.current_async_library() == "trio":
            import trio

            self._host = trio.lowlevel.spawn_system_task(self._run, name=name)
        else:
            import asyncio

            self._host = asyncio.get_running_loop().create_task(self._run(), name=name)

    # The writer: everything below runs in it.

    async def _run(self) -> None:
        try:
            await self._write_until_closed()
        finally:
            if not self._closing and self._failure is None:  # the loop itself is ending
                _log.error("a file was not closed", path=str(self.path), pending=self._accepted - self._written)
            self._medium.abandon()
            self._ended.set()
            self._report_progress()

    async def _write_until_closed(self) -> None:
        with self._scope:
            try:
                while self._records or not self._closing:
                    await self._wait_until_due()
                    if self._records:
                        await self._write_chunk()
                    if self._sync_due():
                        await self._insist(self._medium.sync)
                        self._synced = self._written
                    self._report_progress()
                await self._finish()
            except Exception as error:  # noqa: BLE001 - a defect of ours: write, flush and close raise it
                _log.exception("the writer of a file ended", path=str(self.path))
                self.healthy, self._failure = False, error
        if self._scope.cancelled_caught:
            left = self._accepted - self._flushed()
            self._failure = TimeoutError(
                f"{self.path}: {left} records not safely written in the {self._settings.close_timeout_s} s of closing "
                f"({self._last_error or 'the disk does not answer'}); free space or mend the disk, then run them again"
            )
            self._failure.__cause__ = self._last_error

    async def _wait_until_due(self) -> None:
        while (pause_s := self._pause_s(anyio.current_time())) > 0:
            self._wake = anyio.Event()
            with anyio.move_on_after(pause_s):
                await self._wake.wait()

    def _pause_s(self, now_s: float) -> float:
        """Policy: seconds until there is something to do; 0 for now."""
        if self._closing or self._flushed() < self._flush_through:
            return 0.0
        if self._records and (self._blocked or self._pending_bytes >= self._settings.chunk_bytes):
            return 0.0
        due_s = self._oldest_at_s + self._settings.linger_s if self._records else math.inf
        if self._medium.unsynced_bytes:
            due_s = min(due_s, self._medium.unsynced_since_s + self._settings.fsync_interval_s)
        return max(0.0, due_s - now_s)

    def _sync_due(self) -> bool:
        """Policy: whether the disk is asked now."""
        if not self._medium.unsynced_bytes:
            return False
        age_s = anyio.current_time() - self._medium.unsynced_since_s
        return (
            self._settings.fsync is Fsync.ALWAYS
            or self._synced < self._flush_through <= self._written
            or age_s >= self._settings.fsync_interval_s
            or self._medium.unsynced_bytes >= self._settings.pending_max_bytes
        )

    async def _write_chunk(self) -> None:
        chunk: list[bytes] = []
        size_bytes = 0
        for record in self._records:
            record_bytes = len(record) + self._framing.overhead_bytes
            if chunk and size_bytes + record_bytes > self._settings.chunk_bytes:
                break
            chunk.append(record)
            size_bytes += record_bytes
        if self._medium.rotation_due(size_bytes):
            await self._rotate()
        data = self._framing.join(chunk)
        await self._insist(lambda: self._medium.append(data))
        for _ in chunk:
            self._records.popleft()
        self._pending_bytes -= size_bytes
        self._written += len(chunk)
        self._flushes += 1
        self._blocked = False
        self._oldest_at_s = anyio.current_time()

    async def _rotate(self) -> None:
        """Try once: a file that cannot be renamed is written on, which is better than not at all."""
        try:
            await self._medium.rotate()
            self._synced = self._written
        except (OSError, ConfigError) as error:
            self._report_fault(error)

    async def _finish(self) -> None:
        if self._settings.fsync is Fsync.NEVER:
            await (
                self._medium.close()
            )  # nothing is kept to write again: one attempt, and its fault is the caller's to see
        else:
            await self._insist(self._medium.close)
        self._synced = self._written

    async def _insist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try until it succeeds; only the deadline of `close` ends this."""
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await attempt()
            except (OSError, ConfigError) as error:
                self._report_fault(error)
            else:
                break
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_LAST_S)
        if not self.healthy:
            self.healthy, self._last_error = True, None
            _log.info("a file is written to again", path=str(self.path), errors=self._errors)

    def _report_fault(self, error: Exception) -> None:
        self._errors += 1
        self.healthy, self._last_error = False, error
        if (now_s := anyio.current_time()) - self._logged_at_s >= LOG_EVERY_S:
            self._logged_at_s = now_s
            _log.error(
                "a file cannot be written; records wait and it is tried again",
                path=str(self.path),
                error=str(error),
                pending=self._accepted - self._written,
                errors=self._errors,
            )

    def _report_progress(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()
