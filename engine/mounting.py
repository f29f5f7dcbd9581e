"""Mounting: an engine's HTTP API as an ASGI application, for the user's own web application.

The API stands above the engine, so it is named here, not imported: a plain installation has neither it nor what it
needs. What was mounted is remembered, so that it closes when the engine does. Owned by the engine.
"""

import importlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from .extras import require_server

_MODULE = "headrace.engine.http.mounted"


class AsgiApp(Protocol):
    """An ASGI application that can be closed."""

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request, or the host's word that it starts and stops."""

    def close(self) -> None:
        """Let go of what this event loop's requests opened; never waits."""

    async def aclose(self) -> None:
        """Let go of what this event loop's requests opened."""


class Mountable:
    """What an engine has of ASGI: `asgi`."""

    def __init__(self) -> None:
        super().__init__()
        self._mounted: list[AsgiApp] = []

    def asgi(self, *, guarded: bool = True) -> AsgiApp:
        """Return the HTTP API as an ASGI application, to be mounted in a FastAPI, Starlette or Litestar application.

        It opens its connection at the first request, and closes it when a block of `async with engine` or
        `engine.running()` ends, when the host forwards the end of its lifespan, or at `await app.aclose()`.

        Args:
            guarded: Without tokens, answer this machine alone. False answers everybody who reaches the application
                that it is mounted in: it is then that application's to check who calls.

        Raises:
            ConfigError: the extra is not installed.
        """
        require_server("engine.asgi()")
        mounted: AsgiApp = importlib.import_module(_MODULE).MountedApi(self, guarded=guarded)
        self._mounted.append(mounted)
        return mounted

    def _close_mounted(self) -> None:
        for mounted in self._mounted:
            mounted.close()
