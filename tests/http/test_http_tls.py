"""TLS and HTTP/2 over real connections, and that a token is in no log."""

import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace import ConfigError
from headrace.config.settings import HttpSettings, Settings
from headrace.engine.http.tls import certificate
from headrace.engine.http.tokens import hash_of
from http_server import CERTS, DEADLINE_S, serving

CERT, KEY = CERTS / "localhost.crt", CERTS / "localhost.key"
TLS = f'tls_cert = "{CERT}"\ntls_key = "{KEY}"'
SECRET = "headrace_the-secret-of-this-test"
TOKENS = f'[[http.tokens]]\nname = "ci"\nsha256 = "{hash_of(SECRET)}"\nscopes = ["admin"]'


def trusting(*versions: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(CERT))
    if versions:
        context.minimum_version = context.maximum_version = versions[0]
    return context


def settings(cert: object, key: object) -> Settings:
    files = {"tls_cert": cert, "tls_key": key}
    return Settings(http=HttpSettings(**{name: str(file) for name, file in files.items() if file is not None}))


def test_it_speaks_tls_and_both_versions_of_http(tmp_path: Path) -> None:
    """TLS 1.2 and 1.3 are spoken and nothing in the clear; HTTP/2 is agreed on where the client can, else HTTP/1.1."""
    with serving(tmp_path, f"{TLS}\n{TOKENS}") as api:
        assert api.url.startswith("https://127.0.0.1:")
        headers = {"authorization": f"Bearer {SECRET}"}
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for http2, spoken in ((True, "HTTP/2"), (False, "HTTP/1.1")):
                with httpx.Client(verify=trusting(version), http2=http2, timeout=DEADLINE_S) as client:
                    response = client.get(f"{api.url}/openapi.json", headers=headers)
                    assert (200, spoken) == (response.status_code, response.http_version)
                    body = b"x" * 100_000
                    refused = [client.post(f"{api.url}/v1/jobs", content=body).status_code for _ in range(20)]
                    assert [401] * 20 == refused
        with pytest.raises(httpx.HTTPError):
            httpx.get(api.url.replace("https", "http") + "/healthz", timeout=DEADLINE_S)
        assert SECRET not in api.said()


def test_http_2_is_spoken_in_the_clear_by_who_knows_it_before(tmp_path: Path) -> None:
    """Without TLS a client that begins with HTTP/2 is answered in it, and many requests share its connection."""
    with (
        serving(tmp_path, TOKENS) as api,
        httpx.Client(base_url=api.url, http1=False, http2=True, timeout=DEADLINE_S) as client,
    ):
        response = client.get("/openapi.json", headers={"authorization": f"Bearer {SECRET}"})
        assert (200, "HTTP/2") == (response.status_code, response.http_version)
        assert [401] * 50 == [client.get("/v1/stats").status_code for _ in range(50)]


def test_a_token_is_in_no_log(tmp_path: Path) -> None:
    """Whatever becomes of a request, at log_level debug too, neither its token nor the hash is in what is logged."""
    toml = f"{TOKENS}\n"
    with serving(tmp_path, toml) as api, httpx.Client(base_url=api.url, timeout=DEADLINE_S) as client:
        for secret in (SECRET, "headrace_a-guess"):
            headers = {"authorization": f"Bearer {secret}"}
            said = ""
            for method, path, content in (
                ("GET", "/v1/stats", b""), ("POST", "/v1/jobs", b"{"), ("POST", "/v1/jobs", b'{"name":"add"}'),
                ("GET", "/nowhere", b""), ("PUT", "/v1/jobs", b"x"), ("GET", "/healthz", b""),
            ):  # fmt: skip
                response = client.request(method, path, content=content, headers=headers)
                said += response.text + repr(response.headers)
            log = api.said()
            assert [] == [word for word in (secret, hash_of(secret)) if word in said + log]


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        (CERT, None, r"http\.tls_key is missing"),
        (None, KEY, r"http\.tls_cert is missing"),
        ("nowhere.pem", KEY, r"http\.tls_cert nowhere\.pem: No such file"),
        (CERT, "nowhere.pem", r"http\.tls_key nowhere\.pem: No such file"),
        (KEY, KEY, "cannot be served"),
        (CERT, CERT, "cannot be served"),
        (CERTS, KEY, "Is a directory"),
    ],
)
def test_what_is_no_certificate_is_said(cert: Any, key: Any, says: str) -> None:
    """One without the other, a file that is not there, and files that are something else are configuration errors."""
    with pytest.raises(ConfigError, match=says):
        certificate(settings(cert, key))


def test_a_key_with_a_passphrase_is_said() -> None:
    """A key that asks for a passphrase is refused before the server would wait for one on a terminal."""
    with pytest.raises(ConfigError, match="without a passphrase"):
        certificate(settings(CERT, CERTS / "locked.key"))


def test_plain_http_needs_neither() -> None:
    """Without both there is no TLS; with both that fit, the files are named."""
    assert certificate(Settings()) is None
    found = certificate(settings(CERT, KEY))
    assert found is not None
    assert (CERT, KEY) == (found.cert, found.key)
