"""The embedded server: a local Valkey or Redis that is there when nobody gave a URL.

`acquire` starts the server of a data folder or joins the one that runs already; `release` leaves it, and the last to
leave stops it. Every call here blocks (start-up takes some 50 ms): asynchronous callers hop to a thread. Nothing is
printed; the caller says `EmbeddedServer.where` once.
"""

from .place import refuse_if_url_required
from .server import EmbeddedServer, acquire

__all__ = ["EmbeddedServer", "acquire", "refuse_if_url_required"]
