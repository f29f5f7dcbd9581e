"""Serves the API in this process until a signal: `headrace serve`, and the process that `headrace run --http` starts.

It binds loopback addresses only unless it asks for tokens, prints one line with its address on stderr once it answers
there, and returns after SIGTERM or SIGINT when the requests under way have been answered. What it needs beyond the
plain installation (Litestar, granian) is imported when it is called. It owns the connection, the gateway and the loop.
"""

import asyncio
import contextlib
import gc
import importlib.util
import ipaddress
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

from headrace.config import logger
from headrace.config.errors import ConfigError, HeadraceError
from headrace.config.settings import Settings
from headrace.workers.groups import plain_group

from ..extras import require_server
from ..runtime import Engine
from .connections import Idle, noting, sweep
from .gateway import Gateway
from .tls import certificate

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream
    from granian.server.embed import Server

log = logger("headrace.http")
#: How long to look for the server's own answer before the address is announced; it takes some 10 ms.
START_TIMEOUT_S = 10.0


def serve(engine: Engine | None = None, **flags: Any) -> None:
    """Serve the API until SIGTERM or SIGINT; blocks, in the main thread only.

    Args:
        engine: Whose settings hold, and by whose handlers arguments are checked; None goes by the other settings, and
            by what workers publish.
        flags: Settings by their names, stronger than all others, as `Engine.configure` takes them; the address is
            `http={"host": ..., "port": ...}`, where port 0 takes any free one.

    Raises:
        ConfigError: the extra is not installed, the address cannot be served, or the settings are wrong.
        BrokerUnavailable: the embedded server does not come up.
    """
    engine = engine or Engine()
    if flags:
        engine.configure(**flags)
    settings = engine.settings
    bind = check_servable(settings)
    for plan in engine.registry:
        plan.arguments.compile()
    bound_port = _free_port(bind, settings.http.port)
    broker = engine.connection.open()
    try:
        listen(Gateway(broker, settings, engine.registry), bind, bound_port)
    finally:
        engine.connection.close()


def listen(gateway: Gateway, bind: str, port: int) -> None:
    """Serve a gateway on an address that was checked; blocks until a signal.

    Raises:
        HeadraceError: the server ended without being told to.
    """
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    with gateway.vitals.watch.pauses:
        anyio.run(_serve, gateway, bind, port, backend="asyncio", backend_options={"use_uvloop": has_uvloop})


def bind_address(host: str, *, has_tokens: bool) -> str:
    """Return the address to bind.

    Args:
        host: As the settings have it.
        has_tokens: Whether callers are asked for tokens.

    Raises:
        ConfigError: it is no address, or other machines can reach it and nothing here would ask them who they are.
    """
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise ConfigError(
            f"http.host {host!r} is no address; write 127.0.0.1, ::1 or localhost, or, with http.tokens, the address "
            f"of a network card, or 0.0.0.0 or :: for all of them"
        ) from None
    if not address.is_loopback and not has_tokens:
        raise ConfigError(
            f"http.host {host} can be reached from other machines, and without http.tokens the API does not ask who "
            f"calls; make a token with `headrace token new` and add it, or bind 127.0.0.1"
        )
    return str(address)


def check_servable(settings: Settings) -> str:
    """Return the address to bind, after a look at all that can be seen without binding it.

    Raises:
        ConfigError: the extra is not installed, or the settings cannot be served.
    """
    require_server("the API", "granian")
    _check_settings(settings)
    certificate(settings)
    return bind_address(settings.http.host, has_tokens=bool(settings.http.tokens))


def _check_settings(settings: Settings) -> None:
    if (settings.url or "").startswith("memory:"):
        raise ConfigError(
            "url memory:// is the memory of one process, so workers would never see what this API accepts; use a "
            "redis:// url, or none for the embedded server"
        )


def _free_port(bind: str, port: int) -> int:
    """Return the port, or a free one for 0.

    The server itself binds with SO_REUSEPORT and would share a port that another process of this user serves; this
    socket does not, so that it is told.

    Raises:
        ConfigError: it is taken, or may not be bound.
    """
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port just given up counts as taken
        try:
            probe.bind((bind, port))
            probe.listen()
        except OSError as error:
            raise ConfigError(
                f"cannot serve on {bind} port {port}: {error.strerror}; choose another with --http HOST:PORT, or 0 "
                f"for any free port"
            ) from None
        found: int = probe.getsockname()[1]
        return found


async def _serve(gateway: Gateway, bind: str, port: int) -> None:
    """Serve until a signal; then let requests under way end, at most `drain_timeout` or until the second signal."""
    server, idle = _server(gateway, bind, port)
    # What is loaded by now stays. A full collection would look through all of it: some 60 ms, measured, in which one
    # request in a hundred waits.
    gc.collect()
    gc.freeze()
    # Granian lives on asyncio, and a cancel scope around it would be undone by its own waits; so asyncio's means here.
    serving = asyncio.ensure_future(server.serve())
    watch = gateway.vitals.watch
    async with plain_group() as group:
        stops = await group.start(_signals)
        group.start_soon(_announce, bind, port, "http" if gateway.settings.http.tls_cert is None else "https")
        group.start_soon(sweep, idle, port, gateway.unread)
        group.start_soon(watch.lag.run)
        if await _ended(serving, stops):
            reason = serving.exception()
            raise HeadraceError(f"the HTTP server ended by itself: {reason or 'its reason is in the log above'}")
        gateway.end_waits()
        server.stop()  # type: ignore[no-untyped-call]  # granian's
        with anyio.move_on_after(gateway.settings.drain_timeout_s):
            await _ended(serving, stops)
        if not serving.done():
            log.warning("requests cut short", drain_timeout_s=gateway.settings.drain_timeout_s)
            serving.cancel()
        group.cancel_scope.cancel()


async def _ended(serving: "asyncio.Future[None]", stops: "MemoryObjectReceiveStream[None]") -> bool:
    """Wait for the server's end or the next signal; return whether it was the end."""
    async with plain_group() as group:

        async def wait() -> None:
            await asyncio.wait({serving})
            group.cancel_scope.cancel()

        group.start_soon(wait)
        await stops.receive()
        group.cancel_scope.cancel()
    return serving.done()


async def _signals(
    *, task_status: "anyio.abc.TaskStatus[MemoryObjectReceiveStream[None]]" = anyio.TASK_STATUS_IGNORED
) -> None:
    """Hand on each SIGTERM and SIGINT until cancelled."""
    send, receive = anyio.create_memory_object_stream[None](2)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, send, receive:
        task_status.started(receive)
        async for _ in signals:
            with contextlib.suppress(anyio.WouldBlock):  # a third signal says nothing new
                send.send_nowait(None)


def _server(gateway: Gateway, bind: str, port: int) -> "tuple[Server, Idle]":
    from .app import make_app
    from .listening import connections_bound, make_server

    settings = gateway.settings
    cert = certificate(settings)
    if cert is None and not ipaddress.ip_address(bind).is_loopback:
        log.warning("tokens travel unencrypted; set http.tls_cert and http.tls_key, or have a proxy do TLS", host=bind)
    connections_max = connections_bound(settings.http.connections_max)
    idle = Idle(settings.http.idle_timeout_s, connections_max)
    app = noting(make_app(gateway, by_length=True), idle)
    return make_server(app, (bind, port), settings, connections_max, cert), idle


async def _announce(bind: str, port: int, scheme: str) -> None:
    """Print the address once the server answers there."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104  # it is asked here, not bound
    with anyio.fail_after(START_TIMEOUT_S):
        while True:
            try:
                stream = await anyio.connect_tcp(near, port)
            except OSError:
                await anyio.sleep(0.01)
                continue
            await stream.aclose()
            break
    shown = f"[{bind}]" if ":" in bind else bind
    sys.stderr.write(f"headrace: the API is at {scheme}://{shown}:{port}\n")
    sys.stderr.flush()
