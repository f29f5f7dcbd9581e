"""CORS: off unless asked for, exact origins only, preflights answered without a token."""

import pytest

from headrace import ConfigError
from headrace.config.settings import HttpSettings, Settings
from headrace.config.sources import load
from headrace.config.tokens import Token
from headrace.engine.broker.memory import MemoryBroker
from headrace.engine.http.tokens import hash_of
from http_scene import asking, problem

pytestmark = pytest.mark.anyio
UI = "https://ui.example.org"
PREFLIGHT = {"origin": UI, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
TOKEN = Token(name="t", sha256=hash_of("secret"), scopes=("read", "submit"))


def settings(*origins: str, tokens: tuple[Token, ...] = (TOKEN,)) -> Settings:
    return Settings(http=HttpSettings(cors_origins=origins, tokens=tokens))


@pytest.mark.parametrize("tokens", [(), (TOKEN,)])
async def test_it_is_off_by_default(tokens: tuple[Token, ...]) -> None:
    """Without named origins no answer lets a page of another origin read it, and a preflight gets nowhere."""
    async with asking(MemoryBroker(), settings(tokens=tokens)) as client:
        for response in (
            await client.options("/v1/jobs", headers=PREFLIGHT),
            await client.get("/healthz", headers={"origin": UI}),
            await client.get("/healthz"),
        ):
            assert [] == [name for name in response.headers if name.startswith("access-control-")]
        assert 403 == problem(await client.options("/v1/jobs", headers=PREFLIGHT))[0]


@pytest.mark.parametrize("tokens", [(), (TOKEN,)])
async def test_a_named_origin_is_let_in(tokens: tuple[Token, ...]) -> None:
    """A preflight is answered without a token; the call itself needs one where there are tokens, and can be read."""
    async with asking(MemoryBroker(), settings("http://other:3000", UI, tokens=tokens)) as client:
        response = await client.options("/v1/jobs", headers=PREFLIGHT)
        assert (204, UI) == (response.status_code, response.headers["access-control-allow-origin"])
        assert {"GET", "POST", "PATCH", "DELETE"} == set(response.headers["access-control-allow-methods"].split(", "))
        allowed = set(response.headers["access-control-allow-headers"].split(", "))
        assert {"authorization", "content-type", "idempotency-key", "last-event-id"} <= allowed
        assert "access-control-allow-credentials" not in response.headers
        headers = {"origin": UI, "authorization": "Bearer secret"}
        response = await client.post("/v1/jobs", json={"name": "add"}, headers=headers)
        assert (202, UI) == (response.status_code, response.headers["access-control-allow-origin"])
        assert "retry-after" in response.headers["access-control-expose-headers"]
        response = await client.get("/nowhere", headers={"origin": UI})
        assert (401 if tokens else 404, UI) == (problem(response)[0], response.headers["access-control-allow-origin"])


@pytest.mark.parametrize(
    "origin", ["http://ui.example.org", "https://ui.example.org.evil.example", "https://UI.example.org", "null"]
)
async def test_any_other_origin_is_not(origin: str) -> None:
    """An origin that differs in anything is refused, its preflight too, and answers say that they vary by it."""
    async with asking(MemoryBroker(), settings(UI)) as client:
        for method in ("OPTIONS", "GET"):
            headers = PREFLIGHT | {"origin": origin, "authorization": "Bearer secret"}
            response = await client.request(method, "/v1/stats", headers=headers)
            assert 403 == problem(response)[0]
            assert ("origin", False) == (response.headers["vary"], "access-control-allow-origin" in response.headers)
        plain = await client.get("/v1/stats", headers={"authorization": "Bearer secret"})
        assert (200, "origin") == (plain.status_code, plain.headers["vary"])


def test_origins_are_exact(tmp_path: object) -> None:
    """A list or a text with commas; anything but a scheme, a host and a port as browsers write them is refused."""
    taken = load({}, {"http.cors_origins": [UI, "http://[::1]:3000", UI]}, {}, tmp_path)  # type: ignore[arg-type]
    assert (UI, "http://[::1]:3000") == taken.settings.http.cors_origins
    variable = {"HEADRACE_HTTP__CORS_ORIGINS": f"{UI}, http://localhost:3000"}
    taken = load({}, {}, variable, tmp_path)  # type: ignore[arg-type]
    assert (UI, "http://localhost:3000") == taken.settings.http.cors_origins
    for wrong in ("*", "null", "ui.example.org", UI + "/", "https://*.example.org", f"{UI}:443", "HTTPS://a", 7):
        with pytest.raises(ConfigError, match=r"http\.cors_origins: .* is no|names its scheme's own port"):
            load({}, {"http.cors_origins": [wrong]}, {}, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected a list"):
        load({}, {"http.cors_origins": 7}, {}, tmp_path)  # type: ignore[arg-type]
