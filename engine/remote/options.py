"""What a client is told: where the API is, by which token, and how patient it is.

The token is in no representation and no message. Records and checks only; the environment is handed in.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from headrace.config import units
from headrace.config.sources import CLIENT_TOKEN_VARIABLE, CLIENT_URL_VARIABLE
from headrace.jobs.errors import ConfigError

if TYPE_CHECKING:
    import httpx

URL: Final = "http://127.0.0.1:8787"
TIMEOUT_S: Final = 30.0
CONNECTIONS_MAX_COUNT: Final = 100
#: What a port that speaks TLS does to a request in the clear: it answers with an alert, or hangs up.
_NO_HTTP: Final = ("illegal request line", "illegal status line", "reset by peer", "without sending a response")


class ClientOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a client, checked.

    Attributes:
        url: The API's address, without a slash at its end.
        headers: Those of every request, the token among them.
        timeout_s: Seconds for a call with all its tries.
        verify: Whether, or by what, the server's certificate is checked.
    """

    url: str
    headers: Mapping[str, str]
    timeout_s: float
    verify: Any

    def __repr__(self) -> str:
        return f"<ClientOptions {self.url}>"

    def for_httpx(self, httpx: Any) -> dict[str, Any]:
        """Return the arguments of both of httpx's clients."""
        return {
            "base_url": self.url,
            "headers": dict(self.headers),
            "verify": self.verify,
            "http2": True,
            "follow_redirects": False,  # else the token would go wherever an answer says
            "limits": httpx.Limits(
                max_connections=CONNECTIONS_MAX_COUNT, max_keepalive_connections=CONNECTIONS_MAX_COUNT
            ),
        }


def client_options(
    url: str | None, token: str | None, timeout: Any, verify: Any, environ: Mapping[str, str]
) -> ClientOptions:
    """Return checked options.

    Raises:
        ConfigError: the extra is not installed, or one of them cannot be used; no message has the token in it.
    """
    _require_extra()
    found = url or environ.get(CLIENT_URL_VARIABLE) or URL
    _check_url(found)
    found = found.rstrip("/")
    secret = token or environ.get(CLIENT_TOKEN_VARIABLE, "").strip()
    if secret and not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise ConfigError("the token has characters that no token has: blanks, line breaks or letters beyond ASCII")
    try:
        timeout_s = units.parse_duration(timeout)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"timeout={timeout!r}: {error}") from None
    if timeout_s <= 0:
        raise ConfigError(f"timeout={timeout!r}: a call needs more than no time")
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return ClientOptions(url=found, headers=headers, timeout_s=timeout_s, verify=verify)


def httpx_module() -> "Any":
    """Return httpx; imported only now, for it takes 160 ms."""
    return importlib.import_module("httpx")


def why_lost(error: "httpx.TransportError", url: str) -> tuple[str, bool, str]:
    """Return what happened to a request in words, whether it surely was not carried out, and what may help."""
    httpx = httpx_module()
    said = str(error) or type(error).__name__
    return said, isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout), _advice(said, url)


def _advice(said: str, url: str) -> str:
    """Return what to do about a connection that TLS has to do with; empty for any other."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            "its certificate is not trusted here: where an authority (CA) of your own signed it, give its file by "
            "verify=ssl.create_default_context(cafile=FILE), and call the server by a name that is in the certificate"
        )
    if "WRONG_VERSION_NUMBER" in said or "record layer failure" in said:
        return f"what answers there speaks no TLS; try {url.replace('https:', 'http:', 1)}"
    if url.startswith("http:") and any(sign in said for sign in _NO_HTTP):
        return (
            f"where that server speaks TLS, try https{url.removeprefix('http')}; else see that `headrace serve` runs "
            f"there, and that the address is right"
        )
    return ""


def _check_url(url: str) -> None:
    shown = url.rpartition("@")[2]  # what is before it may be a password
    try:
        parts = urlsplit(url)
        is_ours, _ = parts.scheme in {"http", "https"} and bool(parts.hostname), parts.port
    except ValueError as error:
        raise ConfigError(f"the API's address {shown!r} cannot be read: {error}") from None
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ConfigError("the API's address holds a user or a password; give a token by token= or HEADRACE_TOKEN")
    if "://" not in url:
        raise ConfigError(f"the API's address {shown!r} does not say how it is spoken: write http://{shown}")
    if parts.query or parts.fragment:  # it may be a token
        whole = shown.partition("?")[0].partition("#")[0]
        raise ConfigError(f"the API's address has a query or a fragment, and takes none: write {whole}")
    if not is_ours:
        raise ConfigError(f"the API's address is written http://HOST:PORT or https://HOST:PORT, not {shown!r}")


def _require_extra() -> None:
    missing = [name for name in ("httpx", "h2") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"headrace.Client needs {' and '.join(missing)}: pip install 'headrace[client]'")
