"""Open a file for append, on asyncio and on trio, behind one small class.

Each open file has a thread of its own (aiofiles with a one-thread executor on asyncio; trio's threads with a limiter of
one on trio), so that blocking calls run in order and a user's full thread pool never stalls a log. A cancelled call
goes on in its thread: callers shield what must not be left half done. Nothing here buffers, retries or frames.
"""

import abc
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import sniffio

from headrace.config.errors import ConfigError

if TYPE_CHECKING:
    import trio
    from aiofiles.threadpool.binary import AsyncFileIO

P = ParamSpec("P")
T = TypeVar("T")


class AppendFile(abc.ABC):
    """A file open for append, unbuffered, locked against other writers.

    Attributes:
        path: Where it was opened.
        regular: False for pipes and devices, which can be neither cut, synchronised, nor rotated.
    """

    def __init__(self, path: Path, raw_fd: int) -> None:
        self.path = path
        self.regular = stat.S_ISREG(os.fstat(raw_fd).st_mode)
        self._fd = raw_fd

    @abc.abstractmethod
    async def write(self, data: bytes | memoryview) -> int:
        """Append; returns how many bytes were taken, which may be fewer than given."""

    @abc.abstractmethod
    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in the file's thread."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the file, in its thread, and let the thread go."""

    @abc.abstractmethod
    def abandon(self) -> None:
        """Let go without waiting, because a call may be stuck in the thread; the file closes when that call ends."""

    def lock(self) -> None:
        """Refuse a second writer with ConfigError: it would cut what the first has half written. Never waits."""
        if not self.regular:
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems have no locks (ENOLCK, EOPNOTSUPP): there it goes on without.
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                raise ConfigError(
                    f"{self.path} is already written to by another process or sink; give each writer a path of its own"
                ) from None

    async def size_bytes(self) -> int:
        """Return the file's size; 0 for pipes and devices."""
        return (await self.call(os.fstat, self._fd)).st_size if self.regular else 0

    async def truncate(self, size_bytes: int) -> None:
        """Cut the file to `size_bytes`."""
        if self.regular:
            await self.call(os.ftruncate, self._fd, size_bytes)

    async def fsync(self) -> None:
        """Wait until the disk has the file's bytes."""
        if self.regular:
            await self.call(os.fsync, self._fd)


class _AsyncioFile(AppendFile):
    def __init__(self, path: Path, file: "AsyncFileIO", executor: ThreadPoolExecutor) -> None:
        super().__init__(path, file.fileno())
        self._file = file
        self._executor = executor

    async def write(self, data: bytes | memoryview) -> int:
        return await self._file.write(data)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def close(self) -> None:
        try:
            await self.call(os.close, self._fd)
        finally:
            self._executor.shutdown(wait=False)

    def abandon(self) -> None:
        self._executor.submit(os.close, self._fd)  # behind the stuck call: the one thread runs them in order
        self._executor.shutdown(wait=False)


class _TrioFile(AppendFile):
    """Trio's own threads: trio.AsyncIOWrapper takes no limiter, and would share forty threads with the user's calls."""

    def __init__(self, path: Path, file: FileIO, limiter: "trio.CapacityLimiter") -> None:
        super().__init__(path, file.fileno())
        self._file: FileIO | None = file
        self._limiter = limiter

    async def write(self, data: bytes | memoryview) -> int:
        assert self._file is not None
        return await self.call(self._file.write, data)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        import trio

        return await trio.to_thread.run_sync(
            lambda: function(*args, **kwargs), limiter=self._limiter, abandon_on_cancel=True
        )

    async def close(self) -> None:
        if self._file is not None:
            await self.call(self._file.close)

    def abandon(self) -> None:
        if self._file is not None and self._limiter.borrowed_tokens == 0:
            self._file.close()
        self._file = None  # else the stuck call holds the last reference, and the file closes with it


async def open_file(path: Path) -> AppendFile:
    """Open `path` for append in binary, creating it where it is missing, and lock it.

    Raises:
        OSError: it cannot be opened; names the path.
        ConfigError: another writer has it open: give each process a path of its own.
    """
    file = await (_open_on_trio(path) if sniffio.current_async_library() == "trio" else _open_on_asyncio(path))
    try:
        file.lock()
    except BaseException:
        file.abandon()
        raise
    return file


async def _open_on_asyncio(path: Path) -> AppendFile:
    import asyncio

    import aiofiles

    executor = ThreadPoolExecutor(1, thread_name_prefix=f"headrace-file-{path.name}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        fd = await asyncio.get_running_loop().run_in_executor(executor, os.open, path, flags, 0o666)
        # The descriptor stays ours, so that `abandon` can close it without waiting for the loop.
        file = await aiofiles.open(fd, "ab", buffering=0, closefd=False, executor=executor)
    except BaseException:
        executor.shutdown(wait=False)
        raise
    return _AsyncioFile(path, file, executor)


async def _open_on_trio(path: Path) -> AppendFile:
    import trio

    limiter = trio.CapacityLimiter(1)
    return _TrioFile(path, await trio.to_thread.run_sync(_open_raw, path, limiter=limiter), limiter)


def _open_raw(path: Path) -> FileIO:
    return path.open("ab", buffering=0)
