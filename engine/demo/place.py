"""Where the demo keeps what it writes: a folder of its own in the user's state folder, never among the user's own jobs.

While a demo runs the folder is its alone. Afterwards only the outcome log stays; what a killed demo left behind, its
server included, is cleared away by the next. Everything here blocks.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from headrace.config.errors import ConfigError

from ..embedded import acquire
from ..embedded.locks import FileLock
from ..embedded.place import data_folder


class Place(msgspec.Struct, frozen=True):
    """The demo's folder.

    Attributes:
        folder: It, and in it:
    """

    folder: Path

    @property
    def outcome_log(self) -> Path:
        """The outcome log, which stays until the next demo."""
        return self.folder / "outcomes.jsonl"

    @property
    def data(self) -> Path:
        """The embedded server's data, which go at the end."""
        return self.folder / "server"

    @property
    def lock(self) -> Path:
        """What the running demo holds, and deletes at its end."""
        return self.folder / "demo.lock"


@contextmanager
def claim(environ: Mapping[str, str]) -> Iterator[Place]:
    """Have the demo's folder, empty, for as long as the block lasts.

    Args:
        environ: The environment, which says where the state folder is.

    Raises:
        ConfigError: the folder cannot be made or written to, or another demo has it.
    """
    # Asked from the root, where no project is: the demo belongs to none and leaves nothing in any.
    place = Place(data_folder(None, environ=environ, folder=Path("/")) / "demo")
    try:
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _take(place)
    except OSError as error:
        raise ConfigError(
            f"the demo's folder {place.folder}, for its outcome log, cannot be written to ({error.strerror}): "
            "set XDG_STATE_HOME to a folder of your own, as in `XDG_STATE_HOME=/tmp/state headrace demo`"
        ) from error
    try:
        _clear(place, environ)
        place.outcome_log.unlink(missing_ok=True)
        yield place
    finally:
        # The embedded server was stopped when the engine let go of it.
        shutil.rmtree(place.data, ignore_errors=True)
        place.lock.unlink(missing_ok=True)
        lock.unlock()


def _take(place: Place) -> FileLock:
    while True:
        lock = FileLock(place.lock)
        if not lock.take_nowait():
            lock.close()
            raise ConfigError(
                f"another `headrace demo` is running, with its files in {place.folder}; wait until it ends"
            )
        if lock.is_current():  # else the last one deleted it after we opened it
            return lock
        lock.unlock()


def _clear(place: Place, environ: Mapping[str, str]) -> None:
    """Stop the server of a demo that was killed, by joining it and being the last to leave, and delete its data."""
    if place.data.exists():
        acquire(place.data, environ=environ, folder=place.folder).release()
        shutil.rmtree(place.data)
