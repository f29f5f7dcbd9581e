"""The export: past `max_dead` the oldest dead letters of a queue go to a file, and only then leave the server.

A letter is on the disk before it is removed, and it is removed only while it still is what was written: a crash in
between writes it twice and loses none. The server has one worker at a time export; several at once do no harm. What
cannot be written stays on the server, is told, and is tried again. Owned by the worker's event loop.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from headrace.config import limits
from headrace.config.errors import ConfigError
from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable
from headrace.jobs.letters import letter_of, line_of

from ..broker.courier import Courier
from ..broker.views import BrokerViews, PackedLetter
from ..embedded.private import make_private
from ..files.buffered import BufferedFile
from ..files.rotation import sync_folder
from ..files.settings import FileSettings, Fsync
from ..observe.seldom import EVERY_S, Seldom
from .tally import MALFORMED

log = logger("headrace.export")
seldom = Seldom(log)

#: The folder in the data folder.
FOLDER: Final = "dead-letters"
#: How long letters gather between two small exports: each costs an fsync.
GATHER_S: Final = 0.2
AWAY_PAUSE_S: Final = 1.0
#: A folder that cannot be written to is mended by a person.
RETRY_S: Final = 2.0
#: What stops a worker: the letters are on the server still.
CLOSE_TIMEOUT_S: Final = 1.0

#: Tells of something that happened to queues; see Telling.announce.
Announce = Callable[[str, str, Sequence[str]], Awaitable[None]]


class ExportPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is exported and where to.

    Attributes:
        worker: The worker's id; no two workers write to one file.
        namespace: The setting.
        queues: The queues that it reads.
        max_dead: How many letters a queue may keep.
        rotate_bytes: A file is set aside before it would grow beyond this; 0 for never.
        data_folder: Returns the data folder; asked at each export.
    """

    worker: str
    namespace: str
    queues: tuple[str, ...]
    max_dead: int
    rotate_bytes: int
    data_folder: Callable[[], Path]


class Depths:
    """How many dead letters queues have, as far as one worker knows: what the server said last, and what died since.

    Args:
        queues: The queues.
        max_dead: How many letters each may keep.
    """

    def __init__(self, queues: Sequence[str], max_dead: int) -> None:
        self._dead = dict.fromkeys(queues, 0)
        self._max_dead = max_dead

    def note(self, queue: str, count: int) -> None:
        """Take what the server says."""
        self._dead[queue] = count

    def add(self, died: Mapping[str, int]) -> None:
        """Count what died by this worker."""
        for queue, count in died.items():
            self._dead[queue] = self._dead.get(queue, 0) + count

    def beyond(self) -> list[str]:
        """Return the queues that have more than they may."""
        return [queue for queue, count in self._dead.items() if count > self._max_dead]

    def clear(self, queues: Sequence[str]) -> None:
        """Take it that these have no more than they may, until the server says otherwise."""
        for queue in queues:
            self._dead[queue] = min(self._dead[queue], self._max_dead)


def pause_after(letters: Sequence[PackedLetter]) -> float:
    """Return the seconds until the next look: none where there were as many letters as one look gives."""
    full = len(letters) >= limits.DEAD_EXPORT_COUNT
    large = 2 * sum(len(letter.data) for letter in letters) >= limits.DEAD_EXPORT_BYTES
    return 0.0 if full or large else GATHER_S


class DeadExport:
    """Keeps the queues of one worker at `max_dead` letters.

    Args:
        views: The broker's second port.
        courier: The way there.
        plan: What, and where to.
        announce: Tells of it.
        record: Counts exported letters, by the handler's name of each.
    """

    def __init__(
        self,
        views: BrokerViews,
        courier: Courier,
        plan: ExportPlan,
        announce: Announce,
        record: Callable[[Sequence[str]], None],
    ) -> None:
        self._views = views
        self._courier = courier
        self._plan = plan
        self._announce = announce
        self._record = record
        self._depths = Depths(plan.queues, plan.max_dead)
        self._came = anyio.Event()
        self._totals: Counter[str] = Counter()
        self._told: dict[str, tuple[int, float]] = {}
        self._file = ""

    def look(self, dead: Mapping[str, int]) -> None:
        """Take what the server says of the queues."""
        for queue, count in dead.items():
            self._depths.note(queue, count)
        self._tell(time.monotonic())
        self._wake()

    def died(self, dead: Mapping[str, int]) -> None:
        """Take how many jobs of each queue have just died here."""
        self._depths.add(dead)
        self._wake()

    async def run(self) -> None:
        """Export whenever there are too many, until cancelled."""
        try:
            while True:
                if queues := self._depths.beyond():
                    await anyio.sleep(await self._try(queues))
                else:
                    self._came = anyio.Event()
                    await self._came.wait()
        finally:
            self._tell(math.inf)

    async def _try(self, queues: Sequence[str]) -> float:
        """Do what `_export` does, and tell of what is in the way of it."""
        try:
            return await self._export(queues)
        except BrokerUnavailable as error:
            seldom.warning("export waits for the server", error=str(error))
            return AWAY_PAUSE_S
        except (OSError, ConfigError) as error:
            seldom.error(
                "dead letters are not exported",
                queues=queues,
                why=str(error),
                then="they stay on the server, beyond max_dead; mend the folder, or drop some of them",
            )
            return RETRY_S

    async def _export(self, queues: Sequence[str]) -> float:
        """Export one batch; return the seconds until the next look."""
        letters, names, lines = await self._courier.call(self._read, queues)
        if not letters:
            self._depths.clear(queues)
            return 0.0
        path = await self._write(lines)
        removed = await self._courier.call(self._views.dead_remove, letters)
        exported = Counter(letter.queue for letter, gone in zip(letters, removed, strict=True) if gone)
        if not exported:
            return GATHER_S  # somebody else has exported, retried or edited each of them meanwhile
        self._record([name or MALFORMED for name, gone in zip(names, removed, strict=True) if gone])
        self._totals += exported
        self._file = str(path)
        self._tell(time.monotonic())
        await self._announce("dead.exported", self._plan.worker, tuple(exported))
        return pause_after(letters)

    def _read(self, queues: Sequence[str]) -> tuple[list[PackedLetter], list[str], list[bytes]]:
        """Return letters to export, their handlers' names and their lines; may wait for the server."""
        packed = self._views.dead_beyond(queues, self._plan.max_dead, self._plan.worker)
        letters = [letter_of(each.queue, each.id, each.data) for each in packed]
        return packed, [letter.name for letter in letters], [line_of(letter) for letter in letters]

    async def _write(self, lines: Sequence[bytes]) -> Path:
        """Return once the disk has the lines; the file is opened for each batch, so that it may be moved away."""
        path = await anyio.to_thread.run_sync(self._place)
        settings = FileSettings(
            fsync=Fsync.INTERVAL, rotate_bytes=self._plan.rotate_bytes, close_timeout_s=CLOSE_TIMEOUT_S
        )
        file = BufferedFile(path, settings)
        await file.open()
        try:
            await file.write(lines)
            await file.flush()
        finally:
            with suppress(OSError, TimeoutError):  # what `flush` said is what counts
                await file.close()
        return path

    def _place(self) -> Path:
        """Return the file's path; its folder is there, durably, and closed to others. Blocks."""
        data = self._plan.data_folder()
        folder = data / FOLDER
        if not folder.is_dir():
            make_private(data)
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder)
            sync_folder(data)
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{self._plan.namespace}-{self._plan.worker}")
        return folder / f"{name}.jsonl"

    def _tell(self, now_s: float) -> None:
        """Write a line for each queue of which letters were exported that no line has told of; seldom."""
        for queue, count in self._totals.items():
            told, told_at_s = self._told.get(queue, (0, -math.inf))
            if count > told and now_s - told_at_s >= EVERY_S:
                self._told[queue] = (count, now_s)
                log.warning(
                    "dead letters exported",
                    queue=queue,
                    letters=count - told,
                    file=self._file,
                    why=f"more than max_dead ({self._plan.max_dead}) jobs of the queue are dead",
                )

    def _wake(self) -> None:
        if self._depths.beyond():
            self._came.set()
