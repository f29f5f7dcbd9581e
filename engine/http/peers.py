"""Who sent a request to an application that may be public: this machine, or another.

Where the API is served by itself, only this machine reaches its address, and the gate asks for the Host alone. In an
application of somebody else's the address may be public, and a Host is whatever the caller writes. So the peer's own
address must be loopback, and no proxy may have passed the request on, as far as that can be seen. No state.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

#: What proxies add. One that adds none of them, and speaks from this machine with this machine as Host, looks like a
#: caller of this machine; docs/embedding.md says so.
FORWARDED: Final = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"})
_WHAT_NOW: Final = (
    "the API has no tokens, so it answers this machine alone; call it from there, or, where the application "
    "around it checks who calls, mount engine.asgi(guarded=False)"
)


def foreign(scope: Mapping[str, Any]) -> str | None:
    """Return why a request does not come from this machine, by its connection and headers; None when it does."""
    client = scope.get("client")
    if client is None or not _is_loopback(client[0]):
        return f"the request comes from another machine, or nobody knows from where: {_WHAT_NOW}"
    for name, _ in scope["headers"]:
        if name in FORWARDED:
            return f"the request came through a proxy: {_WHAT_NOW}"
    return None


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # as a socket for both families writes IPv4
    return (mapped or address).is_loopback
