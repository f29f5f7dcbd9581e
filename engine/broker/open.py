"""Opens the broker that a URL names; a new kind of broker is one row in KINDS.

Imports an adapter only when its URL is opened, so that a program pays for none that it does not use. No I/O.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from headrace.config.errors import ConfigError

if TYPE_CHECKING:
    from .control import OpenBroker


def open_broker(url: str, *, namespace: str = "headrace", revive: Callable[[], None] | None = None) -> "OpenBroker":
    """Return the broker that a URL names; nothing is connected yet.

    Args:
        url: redis://, rediss://, unix:// or memory://.
        namespace: What all keys on a server begin with.
        revive: Called when the server cannot be reached, before the second try; for a server of this machine's own.

    Raises:
        ConfigError: no broker has such a URL; the message names the schemes that there are.
    """
    scheme = url.partition("://")[0]
    opener = KINDS.get(scheme) if "://" in url else None
    if opener is None:
        named = f"{scheme}://..." if "://" in url else "a URL without a scheme"
        raise ConfigError(
            f"{named} is no broker's address; write one that begins with {', '.join(SCHEMES)} or embedded://"
        )
    return opener(url, namespace, revive)


def _redis(url: str, namespace: str, revive: Callable[[], None] | None) -> "OpenBroker":
    from .redis import RedisBroker

    return RedisBroker(url, namespace=namespace, revive=revive)


def _memory(url: str, _: str, __: object) -> "OpenBroker":
    from .memory import MemoryBroker

    return MemoryBroker(url)


#: Scheme -> what opens it.
KINDS: Final[dict[str, Callable[[str, str, Callable[[], None] | None], "OpenBroker"]]] = {
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "memory": _memory,
}
SCHEMES: Final = tuple(f"{scheme}://" for scheme in KINDS)
