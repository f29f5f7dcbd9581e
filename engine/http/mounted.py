"""The API inside the user's own application: what `engine.asgi()` returns, for FastAPI, Starlette or Litestar.

It opens the engine's connection at the first request, for few hosts tell a mounted application when they start; where
the host does tell, or `async with engine` or `engine.running()` ends, it closes what it opened. It works in each event
loop that calls it, asyncio's and trio's, blocks none, and knows the path at which it is mounted. Without tokens it
answers this machine alone: the host may be public, and this API runs jobs.
"""

import weakref
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from headrace.config import logger
from headrace.jobs.errors import BrokerUnavailable, HeadraceError

from .gateway import Gateway
from .peers import foreign

if TYPE_CHECKING:
    from ..connection import Connection
    from ..runtime import Engine

#: The ASGI interface as its specification has it, which every framework's own types agree with.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logger("headrace.http")
#: What ASGI itself puts into a scope; the host's own keys would be taken for ours, where it is a Litestar application.
_ASGI_KEYS: Final = (
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "client",
    "server", "extensions",
)  # fmt: skip


class MountedApi:
    """The API of an engine, as an ASGI application.

    Args:
        engine: Whose connection, settings and handlers it has.
        guarded: Whether it answers this machine alone while there are no tokens.
    """

    def __init__(self, engine: "Engine", *, guarded: bool) -> None:
        self._engine = engine
        self._guarded = guarded
        self._standing: RunVar[_Standing] = RunVar("headrace.http.mounted")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or the host's word that it starts and stops."""
        kind = scope["type"]
        if kind == "http":
            await self._answer(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000, "reason": "there are no websockets here"})

    def close(self) -> None:
        """Let go of what this event loop's requests opened; those that wait for a result are answered: not yet.

        The next request opens it again. Never waits.
        """
        standing = self._standing.get(None)
        if standing is not None:
            standing.close()

    async def aclose(self) -> None:
        """Do what `close` does, for whoever mounted it and neither enters the engine nor forwards the host's life."""
        standing = self._standing.get(None)
        if standing is not None:
            # The last user of the connection waits for its end.
            with anyio.CancelScope(shield=True):
                standing.end_waits()
                await anyio.to_thread.run_sync(standing.close)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        from .problems import send_problem

        try:
            detail = self._outside(scope)
            if detail is not None:
                await send_problem(send, 403, detail)
                return
            app = await self._api()
        except BrokerUnavailable as error:
            await send_problem(send, 503, str(error), name=type(error).__name__)
        except HeadraceError as error:
            log.error("the mounted API cannot be opened", error=str(error))
            await send_problem(send, 500, "the API is wrongly configured; the server's log says how")
        else:
            await app(_inner(scope), receive, send)

    def _outside(self, scope: Scope) -> str | None:
        """Return why nobody answers a request from there; with tokens the gate behind decides. Raises ConfigError."""
        return foreign(scope) if self._guarded and not self._engine.settings.http.tokens else None

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open and close with the host, where it forwards its lifespan."""
        await receive()
        try:
            await self._api()
        except HeadraceError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _api(self) -> App:
        """Return the application over this loop's gateway; opened where it is not."""
        standing = self._standing.get(None)
        if standing is None:
            standing = _Standing()
            self._standing.set(standing)
        if standing.app is None:
            async with standing.opening:
                if standing.app is None:
                    with anyio.CancelScope(shield=True):  # else whoever goes away now leaves it open for nobody
                        await standing.open(self._engine, guarded=self._guarded)
        assert standing.app is not None
        return standing.app


class _Standing:
    """What stands for the requests of one event loop."""

    def __init__(self) -> None:
        self.app: App | None = None
        self.opening = anyio.Lock()
        self._gateway: Gateway | None = None
        self._release: Callable[[], object] | None = None

    async def open(self, engine: "Engine", *, guarded: bool) -> None:
        """Open the connection, and make the gateway and the application.

        Raises:
            ConfigError: the settings are wrong.
            BrokerUnavailable: the embedded server does not come up.
        """
        settings = engine.settings
        connection = engine.connection
        broker = await anyio.to_thread.run_sync(_opened, engine, connection)
        gateway = Gateway(broker, settings, engine.registry)
        from .app import make_app

        # Also when the loop ends without a word, and at the latest when the process does.
        self._release = weakref.finalize(self, connection.close)
        self._gateway = gateway
        self.app = make_app(gateway, guarded=guarded)  # type: ignore[assignment]  # Litestar's own words for ASGI's

    def end_waits(self) -> None:
        """Answer those who wait for a result, and send no more."""
        if self._gateway is not None:
            self._gateway.close()

    def close(self) -> None:
        """Give the connection back; once."""
        self.end_waits()
        self.app = self._gateway = None
        if self._release is not None:
            self._release()
            self._release = None


def _opened(engine: "Engine", connection: "Connection") -> Any:
    for plan in engine.registry:
        plan.arguments.compile()
    return connection.open()


def _inner(scope: Scope) -> Scope:
    """Return the scope as the API sees it: paths begin at its own root, and nothing of the host's is in it."""
    inner = {key: scope[key] for key in _ASGI_KEYS if key in scope}
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    else:
        root = root or _cut_from(scope.get("raw_path"), path)
    return {**inner, "path": path or "/", "root_path": "", "headrace.mounted_at": root}


def _cut_from(raw_path: bytes | None, path: str) -> str:
    """Return what a host cut from the front of a path without leaving it in root_path, as Litestar does."""
    if raw_path is None:
        return ""
    whole = unquote(raw_path.partition(b"?")[0].decode("latin-1"))
    rest = path.strip("/")
    if not rest:
        return whole.rstrip("/")
    whole = whole.rstrip("/")
    return whole[: -len(rest)].rstrip("/") if whole.endswith(f"/{rest}") else ""
