"""Sinks that write one JSON line for each outcome: FileSink for a Dispatcher, OutcomeLog for `--log-outcomes`.

Both promise every outcome in order, none twice, and a full disk as waiting with `healthy` False; after a crash at most
the end of the last line is torn, and cut when the file is opened again. Each owns one BufferedFile.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from headrace.config.errors import ConfigError
from headrace.jobs.outcome import Outcome

from ..files.buffered import BufferedFile
from ..files.settings import FileSettings, Fsync
from .lines import LineEncoder
from .port import SinkStatistics


class FileSink:
    """Writes outcomes, with the values that handlers returned, to a JSON Lines file.

    Each line: {id, name, queue, status, attempt, started_at_ms, run_ms, error, value}; a value that JSON cannot hold
    is its repr, with `value_is_repr` true beside it.

    Args:
        path: Where; its folder must exist, and no other writer may have it open.
        fsync: "never", "interval" (at most a second is lost in a power cut) or "always" (before outcomes count as
            written).
        rotate_bytes: Rename the file to PATH.000001 and so on before it grows beyond this; 0 for never.
        rotate_age_s: Rename it at the first write this many seconds after it was opened; 0 for never.
        keep_files: Renamed files that stay; 0 keeps all.

    Attributes:
        name: "file:PATH".
    """

    _with_values = True

    def __init__(
        self,
        path: str | Path,
        *,
        fsync: Literal["never", "interval", "always"] = "interval",
        rotate_bytes: int = 0,
        rotate_age_s: float = 0.0,
        keep_files: int = 0,
    ) -> None:
        if fsync not in set(Fsync):
            raise ConfigError(f"fsync of {path} is {fsync!r}; choose never, interval or always")
        self.name = f"file:{path}"
        settings = FileSettings(
            fsync=Fsync(fsync), rotate_bytes=rotate_bytes, rotate_age_s=rotate_age_s, keep_files=keep_files
        )
        self._file = BufferedFile(path, settings)
        self._encoder = LineEncoder(with_values=self._with_values)

    @property
    def healthy(self) -> bool:
        """False while the file cannot be written to, such as on a full disk."""
        return self._file.healthy

    async def open(self) -> None:
        """Open the file and start its writer.

        Raises:
            OSError: it cannot be opened; names the path.
            ConfigError: another writer has it open.
        """
        await self._file.open()

    async def write(self, outcomes: Sequence[Outcome]) -> None:
        """Take a batch in order; waits while the buffer is full; cancelled while it waits, it has taken nothing.

        Raises:
            OSError: the file is not open, or its writer gave up.
        """
        await self._file.write(self._encoder.encode(outcomes))

    async def flush(self) -> None:
        """Wait until all outcomes taken so far are written; unless fsync is "never", until the disk has them."""
        await self._file.flush()

    async def close(self) -> None:
        """Write out all that was taken, have the disk confirm it, and let go; safe to call twice.

        Raises:
            TimeoutError: outcomes are left unwritten after ten seconds of trying; says how many and why.
        """
        await self._file.close()

    def statistics(self) -> SinkStatistics:
        """Return the counters."""
        counters = self._file.statistics()
        return SinkStatistics(
            name=self.name,
            written=counters.written,
            pending=counters.pending,
            pending_max=counters.pending_max,
            errors=counters.errors,
            flushes=counters.flushes,
            bytes=counters.bytes,
        )


class OutcomeLog(FileSink):
    """Writes outcomes without values: {id, name, queue, status, attempt, started_at_ms, run_ms, error}."""

    _with_values = False
