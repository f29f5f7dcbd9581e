"""Granian, set up: what it takes at most, how long it waits, and how it speaks. Imported only where a server starts.

The bounds of granian and of hyper below it, and which of ours each one keeps:
- `backpressure` counts connections, whatever they do: http.connections_max. Those beyond wait in the kernel.
- `max_buffer_size` bounds a request line and header over HTTP/1 (431), `max_headers_size` over HTTP/2.
- `header_read_timeout` holds over HTTP/1, from the first bytes on and between two requests. What it does not see, a
  peer that sends nothing or idles over HTTP/2, connections.py ends; bodies are deadlines.py's.
"""

import resource
from typing import TYPE_CHECKING, Final

from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server

from headrace.config import limits, logger
from headrace.config.settings import Settings

from .tls import Certificate

if TYPE_CHECKING:
    from litestar.types import ASGIApp

log = logger("headrace.http")
_MS: Final = 1_000


def make_server(
    app: "ASGIApp", address: tuple[str, int], settings: Settings, connections_max: int, cert: Certificate | None
) -> Server:
    """Return a server of the application that is not started yet.

    Args:
        app: What it serves.
        address: Where; checked.
        settings: Its bounds.
        connections_max: As `connections_bound` returned it.
        cert: With what; None for plain HTTP.
    """
    return Server(
        app,
        address=address[0],
        port=address[1],
        interface=Interfaces.ASGINL,
        websockets=False,
        backlog=limits.HTTP_ACCEPT_BACKLOG_COUNT,
        backpressure=connections_max,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(settings.http.header_timeout_s * _MS),
            max_buffer_size=settings.http.header_max_bytes,
        ),
        http2_settings=HTTP2Settings(
            keep_alive_interval=limits.HTTP2_PING_INTERVAL_S * _MS,
            keep_alive_timeout=limits.HTTP2_PING_INTERVAL_S,
            max_concurrent_streams=limits.HTTP2_STREAMS_MAX,
            max_headers_size=settings.http.header_max_bytes,
            max_send_buffer_size=limits.HTTP2_SEND_BUFFER_BYTES,
        ),
        ssl_cert=None if cert is None else cert.cert,
        ssl_key=None if cert is None else cert.key,
        ssl_protocol_min=SSLProtocols.tls12,
        # Its loggers speak as all others here do: through the root, on stderr, and of errors only.
        log_level=LogLevels.error,
        log_dictconfig={"handlers": {}, "loggers": {"_granian": {"propagate": True}}},
    )


def connections_bound(wanted: int) -> int:
    """Return how many connections this process can take, up to those wanted; raises its bound of descriptors for them.

    With no descriptor left, the server would try again without a pause.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + limits.HTTP_DESCRIPTORS_RESERVED_COUNT
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError):  # macOS has a further bound of its own; what there was has to do
            pass
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    found = max(1, soft - limits.HTTP_DESCRIPTORS_RESERVED_COUNT)
    log.warning("fewer connections than http.connections_max", connections_max=found, wanted=wanted, descriptors=soft)
    return found
