"""Settings and counters of a buffered file: two frozen records, each field with its unit in its name.

They are set by the sink or the spool that owns the file; wrong ones raise ConfigError when made.
"""

from enum import StrEnum

import msgspec

from headrace.config.errors import ConfigError


class Fsync(StrEnum):
    """When the disk is asked to have the bytes."""

    NEVER = "never"  #: only when closed; a power cut loses what the system had not written yet
    INTERVAL = "interval"  #: at most `fsync_interval_s` after a record was written
    ALWAYS = "always"  #: after each gathered write, before its records count as written


class FileSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a buffered file gathers, synchronises and rotates.

    Attributes:
        fsync: When the disk is asked to have the bytes.
        fsync_interval_s: For Fsync.INTERVAL: the most that a power cut may cost.
        chunk_bytes: Written with one hop to the thread; more per hop gains nothing measurable.
        linger_s: How long a record waits for others before it is written.
        pending_max_bytes: Bytes that wait to be written at most; also the most that waits for an fsync.
        pending_max: Records that wait to be written at most.
        rotate_bytes: A file is rotated before it would grow beyond this; 0 for never.
        rotate_age_s: A file is rotated at the first write this long after it was opened; 0 for never.
        keep_files: Rotated files that stay; 0 keeps all.
        close_timeout_s: How long `close` goes on trying before it gives up aloud.
    """

    fsync: Fsync = Fsync.INTERVAL
    fsync_interval_s: float = 1.0
    chunk_bytes: int = 64 * 1024
    linger_s: float = 0.1
    pending_max_bytes: int = 4 * 1024 * 1024
    pending_max: int = 10_000
    rotate_bytes: int = 0
    rotate_age_s: float = 0.0
    keep_files: int = 0
    close_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("chunk_bytes", "pending_max_bytes", "pending_max", "close_timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} of a file is {getattr(self, name)!r}; set it above 0")
        for name in ("fsync_interval_s", "linger_s", "rotate_bytes", "rotate_age_s", "keep_files"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} of a file is {getattr(self, name)!r}; set it to 0 or more")


class FileStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one buffered file since it was opened.

    Attributes:
        written: Records written as durably as the fsync policy promises at once.
        pending: Records taken, not yet written.
        pending_max: The bound of `pending`.
        pending_bytes: Bytes taken, not yet written.
        errors: Failed writes, fsyncs, openings and rotations; each was tried again.
        flushes: Gathered writes.
        fsyncs: Times that the disk was asked, and answered.
        rotations: Times that the file was renamed and begun anew.
        bytes: Bytes written.
        healthy: False from a fault until the next success.
    """

    written: int
    pending: int
    pending_max: int
    pending_bytes: int
    errors: int
    flushes: int
    fsyncs: int
    rotations: int
    bytes: int
    healthy: bool
