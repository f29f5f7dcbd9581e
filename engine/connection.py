"""The connection: an engine's way to its broker, opened when first needed and shared by all who need it.

Opening is blocking and is done in a thread by callers that have a loop: it may start the embedded server. A process
that was forked from one with an open connection gets a new one of its own; it never touches its parent's.
"""

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.config.settings import Settings
from headrace.jobs.errors import ConfigError

from .broker.open import open_broker

if TYPE_CHECKING:
    from .broker.control import OpenBroker
    from .embedded import EmbeddedServer


class Connection:
    """Opens and closes one broker for any number of users.

    Args:
        settings: Says which.
        environ: The process's environment.
        folder: Where the search for the data folder of an embedded server begins.

    Attributes:
        is_told: Whether somebody else has told where jobs are kept, as a supervisor does for its children.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], folder: Path) -> None:
        self.is_told = False
        self._settings = settings
        self._environ = environ
        self._folder = folder
        self._lock = threading.Lock()
        self._users = 0
        self._broker: OpenBroker | None = None
        self._server: EmbeddedServer | None = None
        self._pid = os.getpid()

    def open(self) -> "OpenBroker":
        """Return the broker, for one more user; each `open` needs its `close`. Blocks.

        Raises:
            ConfigError: the url, or the place of the embedded server, is wrong.
            BrokerUnavailable: the embedded server does not come up.
        """
        self._after_fork()
        with self._lock:
            if self._broker is None:
                url = self._url()
                revive = self._server.ensure_running if self._server is not None else None
                self._broker = open_broker(url, namespace=self._settings.namespace, revive=revive)
                self._broker.result_ttl_s = self._settings.result_ttl_s
                self._broker.dead_ttl_s = self._settings.dead_ttl_s
                self._broker.max_payload_bytes = self._settings.max_payload_bytes
            self._users += 1
            return self._broker

    def close(self) -> None:
        """Say that one user is done; the last one closes the broker, and leaves the embedded server."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._users -= 1
            if self._users > 0 or self._broker is None:
                return
            broker, self._broker = self._broker, None
            server, self._server = self._server, None
            broker.close()
            if server is not None:
                server.release()

    def data_folder(self) -> Path:
        """Return where files of this program's own go: the embedded server's folder, else where that would lie.

        Raises:
            ConfigError: there is neither a project nor a home folder.
        """
        from .embedded.place import data_folder

        if self._server is not None:
            return self._server.data_folder
        return data_folder(None, environ=self._environ, folder=self._folder)

    def _url(self) -> str:
        url = self._settings.url
        if url is not None and not url.startswith("embedded:"):
            return url
        from .embedded import acquire, refuse_if_url_required

        if url is None:
            refuse_if_url_required(self._environ, require_url=self._settings.require_url)
        self._server = acquire(_embedded_path(url), environ=self._environ, folder=self._folder)
        # The one line that is no log: where a person's jobs are must not depend on log_level.
        if sys.stderr is not None and not self.is_told:
            sys.stderr.write(f"headrace: {self._server.where}\n")
        return self._server.url

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._users = 0
            self._broker = None
            self._server = None


def _embedded_path(url: str | None) -> Path | None:
    """Return the folder that an embedded:// url names; None for the default one.

    Raises:
        ConfigError: the url has another form.
    """
    if url is None:
        return None
    scheme, mark, path = url.partition("://")
    if scheme != "embedded" or not mark:
        raise ConfigError(f"url {url!r}: write embedded:// for the default data folder, or embedded:///path/to/folder")
    return Path(path).expanduser() if path else None
