"""The certificate and key of the API: looked at before the server is given them, which would end at a wrong one.

TLS 1.2 and 1.3, by rustls in granian; HTTP/2 is agreed on there by ALPN. It reads the two files and keeps nothing.
"""

import ssl
from pathlib import Path

import msgspec

from headrace.config.errors import ConfigError
from headrace.config.settings import Settings


class Certificate(msgspec.Struct, frozen=True):
    """A certificate's file and its key's, which fit each other.

    Attributes:
        cert: PEM, with the certificates that vouch for it behind it.
        key: PEM, without a passphrase.
    """

    cert: Path
    key: Path


def certificate(settings: Settings) -> Certificate | None:
    """Return what the API is served with; None for plain HTTP.

    Raises:
        ConfigError: only one of the two is set, one cannot be read, or they do not fit each other.
    """
    cert, key = settings.http.tls_cert, settings.http.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        absent = "http.tls_cert" if cert is None else "http.tls_key"
        raise ConfigError(f"{absent} is missing: TLS needs http.tls_cert and http.tls_key, plain HTTP neither")
    for name, path in (("http.tls_cert", cert), ("http.tls_key", key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"{name} {path}: {error.strerror}; mend the path or its permissions") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, _no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"http.tls_cert {cert} and http.tls_key {key} cannot be served ({error}); give a certificate and its own "
            f"key, both as PEM, the key without a passphrase"
        ) from None
    return Certificate(Path(cert), Path(key))


def _no_passphrase() -> str:
    raise ValueError("the key asks for a passphrase")
