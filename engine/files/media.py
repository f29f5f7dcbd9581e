"""One file and what is known to be on its disk: append, synchronise, rotate, and mend after faults.

Each verb is one attempt. It either did all of its work, or raised and left the file as if it had not been tried, so
trying again never doubles or tears a record. A failed fsync is final for the open file: the system may have dropped the
bytes and called them clean, so the file is closed, cut to what was durable, and the rest is written once more.
Owned by one writer; it holds the bytes that are not known durable, and nothing else is buffered here.
"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from headrace.config.logs import logger

from ..traffic import moved
from .framing import Framing
from .opening import AppendFile
from .rotation import prune, set_aside, sync_folder
from .settings import FileSettings, Fsync

#: Opens a path; `open_file`, or a test's own.
Opener = Callable[[Path], Awaitable[AppendFile]]

_log = logger("headrace.files")


class Medium:
    """The file behind a buffered file.

    Attributes:
        unsynced_bytes: Bytes written and not known durable; always 0 for Fsync.NEVER.
        unsynced_since_s: Monotonic time of the first of them.
        bytes, fsyncs, rotations: Counters.
    """

    def __init__(self, path: Path, settings: FileSettings, framing: Framing, opener: Opener) -> None:
        self.path = path
        self.unsynced_bytes = 0
        self.unsynced_since_s = 0.0
        self.bytes = 0
        self.fsyncs = 0
        self.rotations = 0
        self._settings = settings
        self._framing = framing
        self._open = opener
        self._file: AppendFile | None = None
        self._unsynced: list[bytes] = []
        self._end_bytes = 0
        self._durable_bytes = 0
        self._opened_at_s = 0.0
        self._piped_bytes = 0

    async def open(self) -> None:
        """Open the file and cut what a crash left unfinished; a damaged file is set aside under the next number."""
        file = await self._open(self.path)
        try:
            if file.regular:
                survey = await file.call(self._framing.survey, self.path)
                if survey.damaged:
                    moved_to = await file.call(set_aside, self.path)
                    _log.error("a damaged file was set aside", path=str(self.path), moved_to=str(moved_to))
                    await file.close()
                    file = await self._open(self.path)
                else:
                    self._end_bytes = self._durable_bytes = survey.end_bytes
                    if survey.torn_bytes:
                        await file.truncate(survey.end_bytes)
                        _log.warning("an unfinished record was cut", path=str(self.path), cut_bytes=survey.torn_bytes)
                if self._settings.fsync is not Fsync.NEVER:
                    await file.call(sync_folder, self.path)
        except BaseException:
            file.abandon()
            raise
        self._file = file
        self._opened_at_s = anyio.current_time()

    async def append(self, data: bytes) -> None:
        """Write whole records at the end."""
        file = await self._whole_file()
        await self._write(file, data)
        self._end_bytes += len(data)
        self.bytes += len(data)
        if self._settings.fsync is Fsync.NEVER:
            self._durable_bytes = self._end_bytes
            return
        if not self._unsynced:
            self.unsynced_since_s = anyio.current_time()
        self._unsynced.append(data)
        self.unsynced_bytes += len(data)

    async def sync(self) -> None:
        """Wait until the disk has all that was written."""
        file = await self._whole_file()
        began_s = time.monotonic()
        try:
            await file.fsync()
        except OSError:
            await self._discard()
            raise
        ended_s = time.monotonic()
        moved.confirm(ended_s, ended_s - began_s)
        self.fsyncs += 1
        self._durable_bytes = self._end_bytes
        self._unsynced.clear()
        self.unsynced_bytes = 0

    def rotation_due(self, more_bytes: int) -> bool:
        """Whether the file should be rotated before `more_bytes` are written to it."""
        if not self._end_bytes or self._file is None or not self._file.regular:
            return False
        size, age_s = self._settings.rotate_bytes, self._settings.rotate_age_s
        too_large = size > 0 and self._end_bytes + more_bytes > size
        return too_large or (age_s > 0 and anyio.current_time() - self._opened_at_s >= age_s)

    async def rotate(self) -> None:
        """Rename the file to the next number and begin a new one."""
        if self._settings.fsync is not Fsync.NEVER:
            await self.sync()
        file = await self._whole_file()
        await file.call(set_aside, self.path)
        self.rotations += 1
        self._end_bytes = self._durable_bytes = 0
        await self._discard()
        file = await self._whole_file()
        await file.call(prune, self.path, self._settings.keep_files)

    async def close(self) -> None:
        """Synchronise what is not yet, then close."""
        if self._unsynced or (self._settings.fsync is Fsync.NEVER and self._file is not None):
            await self.sync()
        await self._discard()

    def abandon(self) -> None:
        """Let go without waiting."""
        if self._file is not None:
            self._file.abandon()
            self._file = None

    async def _whole_file(self) -> AppendFile:
        """Return the open file; after a fault open it anew, cut it to what is durable, and write the rest again."""
        if self._file is not None:
            return self._file
        file = await self._open(self.path)
        try:
            # The file may be shorter than we left it, when somebody moved or emptied it: never fill it up with zeros.
            start_bytes = min(await file.size_bytes(), self._durable_bytes)
            await file.truncate(start_bytes)
            await self._write(file, b"".join(self._unsynced))
            if not start_bytes and file.regular and self._settings.fsync is not Fsync.NEVER:
                await file.call(sync_folder, self.path)
        except BaseException:
            file.abandon()
            raise
        self._file = file
        self._opened_at_s = anyio.current_time()
        self._durable_bytes = start_bytes
        self._end_bytes = start_bytes + self.unsynced_bytes
        return file

    async def _write(self, file: AppendFile, data: bytes) -> None:
        """Write all of it, or leave the file as it was."""
        view = memoryview(data)
        done = self._piped_bytes  # a pipe cannot be cut: go on where the last attempt ended
        try:
            while done < len(view):
                count = await file.write(view[done:])
                done += count
                moved.write(count)
        except OSError:
            if file.regular:
                await self._cut(file, done)
            else:
                self._piped_bytes = done
            raise
        self._piped_bytes = 0

    async def _cut(self, file: AppendFile, tail_bytes: int) -> None:
        """Take the beginning of an unfinished write off the end."""
        if not tail_bytes:
            return
        try:
            await file.truncate(await file.size_bytes() - tail_bytes)
        except OSError:
            if file is self._file:
                await self._discard()

    async def _discard(self) -> None:
        """Close the file; what it reports then was reported before, or was made durable already."""
        file, self._file = self._file, None
        if file is not None:
            try:
                await file.close()
            except OSError as error:
                _log.warning("closing a file failed", path=str(self.path), error=str(error))
