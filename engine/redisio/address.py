"""A server's address: reads redis://, rediss:// and unix:// URLs, and hides the password wherever one is shown.

No I/O. What cannot be an address raises ConfigError with what to write instead; no message repeats a password.
"""

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from redis.connection import Connection, UnixDomainSocketConnection, parse_url

from headrace.config.errors import ConfigError

SCHEMES: Final = ("redis", "rediss", "unix")
#: What may stand behind `?` in a URL: the rest of the client's options would break what this program relies on.
_OPTIONS: Final = frozenset({
    "db", "username", "password", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password",
    "ssl_cert_reqs", "ssl_check_hostname", "ssl_min_version", "ssl_ciphers",
})  # fmt: skip
_DATABASE: Final = re.compile(r"/?\d*")
_SECRET: Final = frozenset({"password", "ssl_password"})


class Address(msgspec.Struct, frozen=True):
    """Where a server is and how to get in.

    Attributes:
        url: The URL without passwords, for people.
        connection_class: The class of its connections.
        options: What that class is called with.
        revive: Called when the server cannot be reached, before a second try; None for a server that is not ours.
    """

    url: str
    connection_class: type[Any]
    options: dict[str, Any]
    revive: Callable[[], None] | None = None

    @property
    def has_password(self) -> bool:
        """Whether the URL brings a password."""
        return bool(self.options.get("password"))


def parse_address(url: str) -> Address:
    """Read a URL.

    Raises:
        ConfigError: it is no address of a server; the message says what to write.
    """
    shown = without_password(url)
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ConfigError(
            f"{shown!r} is no address of a server: write redis://HOST:PORT/DB, rediss://..., or unix://PATH"
        )
    try:
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigError(f"the address {shown} cannot be read: {error}") from None
    connection_class = options.pop("connection_class", Connection)
    if connection_class is UnixDomainSocketConnection and not options.get("path"):
        raise ConfigError(f"the address {shown} has no path: write unix:///path/of/the/socket?db=0")
    if connection_class is not UnixDomainSocketConnection and not _DATABASE.fullmatch(urlsplit(url).path):
        raise ConfigError(f"the address {shown} must end in the number of a database, such as /0")
    if strange := sorted(options.keys() - _OPTIONS - {"host", "port", "path"}):
        raise ConfigError(
            f"the address {shown} has the option {strange[0]!r}, which cannot be set; "
            f"there are: {', '.join(sorted(_OPTIONS))}"
        )
    return Address(shown, connection_class, options)


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    try:
        parts = urlsplit(url)
        user, at, place = parts.netloc.rpartition("@")
        if at:
            user = f"{user.partition(':')[0]}:***" if ":" in user else user
        query = urlencode(
            [(name, "***" if name in _SECRET else value) for name, value in parse_qsl(parts.query)], safe="*/"
        )
    except ValueError:
        return url.partition("://")[0] + "://..."
    return f"{parts.scheme}://{user}{at}{place}{parts.path}{'?' if query else ''}{query}"
