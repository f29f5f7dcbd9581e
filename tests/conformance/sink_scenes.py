"""The sinks that the conformance suite runs over, each with its outside, which can be made slow or failing, and read.

A Scene owns the outside (a file, a server, a list) and makes sinks over it. Everything is real except MemorySink, which
is the fake that other tests use.
"""

import errno
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import anyio
import redis

from headrace.engine.files.opening import AppendFile, open_file
from headrace.engine.sinks.file import FileSink
from headrace.engine.sinks.port import Sink, SinkStatistics
from headrace.engine.sinks.redis import RedisSink
from headrace.jobs.outcome import Outcome
from servers import Server


class Scene(Protocol):
    """An outside, and sinks over it."""

    async def make(self) -> Sink:
        """Return a new sink, not yet open."""

    def block(self) -> None:
        """Make the outside stop answering."""

    def unblock(self) -> None:
        """Let it answer again."""

    def fail(self) -> None:
        """Make the outside refuse."""

    def mend(self) -> None:
        """Let it take writes again."""

    def ids(self) -> list[str]:
        """Return the ids of what the outside holds, in its order."""

    def discard(self) -> None:
        """Let the outside go."""


class MemorySink:
    """A sink into a list."""

    name = "memory"

    def __init__(self, scene: "MemoryScene") -> None:
        self._scene = scene
        self._written = self._errors = self._pending = 0

    async def open(self) -> None: ...

    async def write(self, outcomes: Sequence[Outcome]) -> None:
        self._pending = len(outcomes)
        while self._scene.blocked or self._scene.failing:
            self._errors += self._scene.failing
            await anyio.sleep(0.01)
        await anyio.lowlevel.checkpoint()
        self._scene.held += [outcome.work.job_id for outcome in outcomes]
        self._written += len(outcomes)
        self._pending = 0

    async def close(self) -> None: ...

    def statistics(self) -> SinkStatistics:
        return SinkStatistics(
            name=self.name, written=self._written, pending=self._pending, pending_max=500, errors=self._errors
        )


class MemoryScene:
    """Flags and a list."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.blocked = self.failing = False

    async def make(self) -> Sink:
        return MemorySink(self)

    def block(self) -> None:
        self.blocked = True

    def unblock(self) -> None:
        self.blocked = False

    def fail(self) -> None:
        self.failing = True

    def mend(self) -> None:
        self.failing = False

    def ids(self) -> list[str]:
        return self.held

    def discard(self) -> None: ...


class FileScene:
    """A file; it blocks and fails between the sink and the kernel, as rights and limits bind whole processes."""

    def __init__(self, path: Path, kind: type[FileSink]) -> None:
        self.path = path
        self.kind = kind
        self.blocked = self.failing = self.torn = False

    async def make(self) -> Sink:
        sink = self.kind(self.path)
        sink._file._medium._open = self._open
        return sink

    async def _open(self, path: Path) -> AppendFile:
        file = await open_file(path)
        write = file.write

        async def faulty(data: bytes | memoryview) -> int:
            while self.blocked:
                await anyio.sleep(0.005)
            if not self.failing:
                return await write(data)
            self.torn = not self.torn  # a short write, then the refusal: what a full disk does
            if self.torn:
                return await write(data[:3])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        file.write = faulty  # type: ignore[method-assign]
        return file

    def block(self) -> None:
        self.blocked = True

    def unblock(self) -> None:
        self.blocked = False

    def fail(self) -> None:
        self.failing = True

    def mend(self) -> None:
        self.failing = False

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def ids(self) -> list[str]:
        return [line["id"] for line in self.lines()]

    def discard(self) -> None: ...


class RedisScene:
    """A server: stopped by SIGSTOP to block, made full to fail."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = redis.Redis.from_url(server.unix_url, decode_responses=True)
        self.client.flushall()

    async def make(self) -> Sink:
        return RedisSink(self.server.url)

    def block(self) -> None:
        os.kill(self.server.process.pid, signal.SIGSTOP)

    def unblock(self) -> None:
        os.kill(self.server.process.pid, signal.SIGCONT)

    def fail(self) -> None:
        self.client.config_set("maxmemory", 1)

    def mend(self) -> None:
        self.client.config_set("maxmemory", 0)

    def entries(self) -> list[dict[str, str]]:
        found = cast("list[tuple[str, dict[str, str]]]", self.client.xrange("headrace:outcomes"))
        return [fields for _, fields in found]

    def ids(self) -> list[str]:
        return [json.loads(entry["outcome"])["id"] for entry in self.entries()]

    def discard(self) -> None:
        self.unblock()
        self.mend()
        self.client.close()
