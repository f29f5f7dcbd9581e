"""Bearer tokens: who may call what, and that nothing is learned of a token."""

import hmac
import json
import re
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from litestar import get

from headrace.config.settings import HttpSettings, Settings
from headrace.config.show import rows
from headrace.config.sources import load
from headrace.config.tokens import Scope, Token, parse_tokens
from headrace.engine.broker.memory import Fault, MemoryBroker
from headrace.engine.cli.app import command_line
from headrace.engine.http import app as app_module
from headrace.engine.http.app import ROUTES
from headrace.engine.http.scopes import NEEDS, missing, needed, path_below
from headrace.engine.http.tokens import PREFIX, Tokens, endings, hash_of, new_token
from http_scene import asking, problem, publish

pytestmark = pytest.mark.anyio
SECRETS = {"submit": "s-secret", "read": "r-secret", "admin": "a-secret"}


def token(name: str, secret: str, *scopes: Scope, expires: datetime | None = None) -> Token:
    return Token(name=name, sha256=hash_of(secret), scopes=scopes, expires=expires)


def with_tokens(*tokens: Token, **fields: Any) -> Settings:
    return Settings(http=HttpSettings(tokens=tokens, **fields))


def three() -> Settings:
    """One token for each scope."""
    return with_tokens(*(token(f"the-{scope}", SECRETS[scope], scope) for scope in get_args(Scope)))


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def calls() -> list[tuple[str, str, str]]:
    """Return method, a path, and what it needs, of every route."""
    found = []
    for route in ROUTES:
        for path in route.paths:
            for method in route.http_methods:
                shown = re.sub(r"\{queue[^}]*\}", "sums", re.sub(r"\{job_id[^}]*\}", "sums:1-0", path))
                found.append((str(method), shown, NEEDS[f"{method} {path}"]))
    return found


@pytest.mark.parametrize(("method", "path", "need"), calls())
async def test_every_route_asks_for_its_scope(method: str, path: str, need: str) -> None:
    """Without a token it is 401, with one of another scope 403 that names the scope; its own and admin pass."""
    broker = MemoryBroker()
    publish(broker)
    params = {"queue": "{no}"} if path == "/v1/events" else None  # else a stream would go on and on
    async with asking(broker, three()) as client:
        for scope, secret in SECRETS.items():
            response = await client.request(method, path, headers=bearer(secret), params=params)
            if need not in ("open", scope) and scope != "admin":
                status, detail = problem(response)
                assert 403 == status
                assert f"scope {need}," in detail
                assert f'scope="{need}"' in response.headers["www-authenticate"]
            else:
                assert response.status_code not in (401, 403)
        response = await client.request(method, path)
    if need == "open":
        assert response.status_code not in (401, 403)
    else:
        assert 401 == problem(response)[0]
        assert 'Bearer realm="headrace"' == response.headers["www-authenticate"]


async def test_what_is_open_is_said() -> None:
    """Health alone is open; all that changes what is there, beside submitting, is for admin."""
    assert {"GET /healthz", "GET /readyz"} == {route for route, need in NEEDS.items() if need == "open"}
    assert {"POST /v1/jobs", "POST /v1/jobs/batch"} == {route for route, need in NEEDS.items() if need == "submit"}
    asking = {"POST /v1/results"}  # ids take a body, and nothing is changed
    changing = {route for route in NEEDS if not route.startswith("GET ")} - asking
    assert {"read"} == {NEEDS[route] for route in asking}
    assert changing == {route for route, need in NEEDS.items() if need in ("submit", "admin")}


async def test_a_route_without_a_scope_is_no_application(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new route that the table does not know stops the application from being made, and says which it is."""

    @get("/v1/new/{thing:str}")
    async def new(thing: str) -> None: ...

    monkeypatch.setattr(app_module, "ROUTES", (*ROUTES, new))
    with pytest.raises(AssertionError, match=r"GET /v1/new/\{thing:str\}"):
        async with asking(MemoryBroker()):
            pass


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        ("GET", "/v1/stats/", "read"),
        ("GET", "//v1//stats", "read"),
        ("POST", "/v1/jobs/", "submit"),
        ("POST", "/v1/jobs/x/../batch", "admin"),
        ("POST", "/v1/jobs/a/b/cancel", "admin"),
        ("GET", "/v1/jobs/a/b", "admin"),
        ("GET", "/v1/jobs/\n", "read"),
        ("GET", "/v1/jobs/{job_id:str}", "read"),
        ("POST", "/healthz", "admin"),
        ("HEAD", "/v1/stats", "admin"),
        ("GET", "/healthz/../v1/stats", "admin"),
        ("GET", "", "admin"),
    ],
)
async def test_what_is_no_route_is_for_admin(method: str, path: str, need: str) -> None:
    """Spellings that the router takes for a route need what it needs; whatever nobody thought of is closed."""
    assert need == needed(method, path)
    assert [f"{method} {path}"] == missing([(method, path)]) or path.startswith("/v1/jobs/{")


async def test_the_place_of_a_mounted_application_is_left_out() -> None:
    """Below a path that an application is mounted at, a route is itself; a path beside it is not cut."""
    assert ["/v1/jobs", "/", "/apix/v1", "/v1/jobs"] == [
        path_below("/api", "/api/v1/jobs"), path_below("/api", "/api"), path_below("/api", "/apix/v1"),
        path_below("", "/v1/jobs"),
    ]  # fmt: skip


async def test_tokens_take_turns() -> None:
    """Two tokens of one client hold at the same time, so the second can be handed out before the first is removed."""
    old, new = token("ci-2026", "old", "read"), token("ci-2027", "new", "read")
    async with asking(MemoryBroker(), with_tokens(old, new)) as client:
        statuses = [(await client.get("/v1/stats", headers=bearer(secret))).status_code for secret in ("old", "new")]
        assert [200, 200] == statuses
    async with asking(MemoryBroker(), with_tokens(new)) as client:
        statuses = [(await client.get("/v1/stats", headers=bearer(secret))).status_code for secret in ("old", "new")]
        assert [401, 200] == statuses


async def test_a_token_may_end() -> None:
    """A token is refused from its `expires` on, with another answer than none, and holds before."""
    now = datetime.now(UTC)
    past = token("past", "past", "read", expires=now)
    future = token("future", "future", "read", expires=now + timedelta(days=1))
    async with asking(MemoryBroker(), with_tokens(past, future)) as client:
        assert 200 == (await client.get("/v1/stats", headers=bearer("future"))).status_code
        response = await client.get("/v1/stats", headers=bearer("past"))
        status, detail = problem(response)
        assert (401, True) == (status, "expired" in detail)
        assert 'error="invalid_token"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("values", "status"),
    [
        (["Bearer r-secret"], 200),
        (["bEARER   r-secret "], 200),
        (["Bearer R-SECRET"], 401),
        (["Bearer r-secre"], 401),
        (["Bearer "], 401),
        (["Bearer"], 401),
        (["Basic r-secret"], 401),
        (["r-secret"], 401),
        (["Bearer r-secret", "Bearer r-secret"], 401),
        (["Bearer \xff"], 401),
        (["Bearer " + hash_of("r-secret")], 401),
    ],
)
async def test_only_one_form_of_the_header_counts(values: list[str], status: int) -> None:
    """One Authorization header, the scheme in any case, the token to the letter; the hash is no token."""
    headers = [("authorization", value.encode("latin-1")) for value in values]
    async with asking(MemoryBroker(), three()) as client:
        assert status == (await client.get("/v1/stats", headers=headers)).status_code
        assert 401 == (await client.get("/v1/stats?access_token=r-secret&token=r-secret")).status_code


async def test_every_comparison_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever token fits, and where none does, the hash is compared with all of them, in constant time."""
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def noting(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return compare(left, right)

    known = [token(name, name, "read") for name in "abc"]
    monkeypatch.setattr(hmac, "compare_digest", noting)
    tokens = Tokens(known)
    found = [tokens.find(secret, 0.0) for secret in (b"a", b"c", b"x")]
    assert [known[0], known[2], None] == found
    assert [each.sha256.encode() for each in known] * 3 == compared


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("api.example.org", None, 200),
        ("10.0.0.1:8787", None, 200),
        ("api.example.org", "https://api.example.org", 200),
        ("api.example.org:8787", "http://api.example.org:8787", 200),
        ("api.example.org", "https://ui.example.org", 200),
        ("api.example.org", "http://ui.example.org", 403),
        ("api.example.org", "https://evil.example", 403),
        ("api.example.org", "http://localhost:3000", 403),
        ("api.example.org", "null", 403),
        ("127.0.0.1:8787", "https://api.example.org", 403),
    ],
)
async def test_with_tokens_pages_of_other_origins_stay_out(host: str, origin: str | None, status: int) -> None:
    """Any Host will do; an Origin must be the Host's own or in http.cors_origins, whatever token comes with it."""
    settings = with_tokens(token("r", "r-secret", "read"), cors_origins=("https://ui.example.org",))
    headers = {"host": host, **bearer("r-secret")} | ({} if origin is None else {"origin": origin})
    async with asking(MemoryBroker(), settings) as client:
        assert status == (await client.get("/v1/stats", headers=headers)).status_code


async def test_a_page_that_a_name_was_pointed_here_for_has_no_token() -> None:
    """After a rebinding, Host and Origin agree with each other; then there is no token, and it is a 401."""
    headers = {"host": "evil.example", "origin": "http://evil.example"}
    async with asking(MemoryBroker(), three()) as client:
        assert 401 == problem(await client.get("/v1/jobs/q:1-0", headers=headers))[0]
        assert 401 == problem(await client.post("/v1/jobs", headers=headers, json={"name": "add"}))[0]


async def test_refusals_repeat_no_token() -> None:
    """Neither an unknown token, nor one in the wrong place, nor a hash stands in any answer."""
    async with asking(MemoryBroker(), three()) as client:
        for headers in (bearer("a-guess"), bearer("r-secret"), {"authorization": "Digest a-guess"}):
            for method, path in (("POST", "/v1/jobs"), ("GET", "/nowhere"), ("DELETE", "/v1/dead/x:1-0")):
                response = await client.request(method, path, headers=headers)
                said = response.text + repr(response.headers)
                assert not [word for word in ("a-guess", "r-secret", hash_of("r-secret")) if word in said]


def test_new_tokens_are_long_and_known_by_their_beginning() -> None:
    """A token has 256 bits of chance behind its prefix, and no two are the same."""
    made = {new_token() for _ in range(100)}
    assert 100 == len(made)
    assert all(re.fullmatch(PREFIX + r"[A-Za-z0-9_-]{43}", each) for each in made)


def test_the_command_prints_a_token_and_what_to_paste(tmp_path: Any) -> None:
    """What it prints for headrace.toml lets the token in, has its hash only, and shows no hash in `config show`."""
    args = ["token", "new", "--name", 'a "b" é', "--scope", "admin", "--scope", "read", "--expires", "90d"]
    result = CliRunner().invoke(command_line, args, catch_exceptions=False)
    assert 0 == result.exit_code
    made, _, rest = result.output.partition("\n")
    pasted = rest[rest.index("[[http.tokens]]") :]
    assert made not in pasted
    (tmp_path / "headrace.toml").write_text(pasted, encoding="utf-8")
    loaded = load({}, {}, {}, tmp_path)
    (known,) = loaded.settings.http.tokens
    now_s = datetime.now(UTC).timestamp()
    assert ('a "b" é', ("admin", "read")) == (known.name, known.scopes)
    assert [known, None] == [Tokens([known]).find(made.encode(), now_s + days * 86_400) for days in (89, 91)]
    shown = repr(list(rows(loaded)))
    assert [] == [word for word in (made, known.sha256, known.sha256[:8]) if word in shown]
    assert 'a "b" é (admin read, until ' in {row.name: row.value for row in rows(loaded)}["http.tokens"]


def test_the_command_prints_json_too() -> None:
    """With --json it is one document, whose entry without the token is what the settings take; read and submit."""
    result = CliRunner().invoke(command_line, ["token", "new", "--json"], catch_exceptions=False)
    document = json.loads(result.output)
    made = document.pop("token")
    (known,) = parse_tokens([document])
    assert (hash_of(made), ("submit", "read"), None) == (known.sha256, known.scopes, known.expires)


@pytest.mark.parametrize(
    "args", [["--scope", "all"], ["--expires", "soon"], ["--expires", "0"], ["--name", "a\nb"], ["--name", "x" * 101]]
)
def test_the_command_refuses_what_cannot_be(args: list[str]) -> None:
    """An unknown scope, a time that is none and a name that is none are usage errors."""
    assert 2 == CliRunner().invoke(command_line, ["token", "new", *args]).exit_code


def test_a_time_in_toml_is_taken_with_its_offset_only() -> None:
    """`expires` is a time of TOML with its offset; one without would mean another time on another machine."""
    entry = 'name = "a"\nsha256 = "' + "0" * 64 + '"\nscopes = ["read"]\nexpires = 2027-01-01T00:00:00'
    assert datetime(2027, 1, 1, tzinfo=UTC) == parse_tokens([tomllib.loads(entry + "Z")])[0].expires
    with pytest.raises(ValueError, match="expires"):
        parse_tokens([tomllib.loads(entry)])


async def test_the_document_says_which_scope() -> None:
    """OpenAPI names the scope of each route, and is for readers where there are tokens."""
    async with asking(MemoryBroker(), three()) as client:
        assert 401 == (await client.get("/openapi.json")).status_code
        document = (await client.get("/openapi.json", headers=bearer("r-secret"))).json()
    paths = document["paths"]
    assert [{}, {"bearer": ["submit"]}] == paths["/v1/jobs"]["post"]["security"]
    assert [{}, {"bearer": ["admin"]}] == paths["/v1/jobs/{job_id}/cancel"]["post"]["security"]
    assert [{}] == paths["/healthz"]["get"]["security"]
    assert {"type": "http", "scheme": "bearer"} == document["components"]["securitySchemes"]["bearer"]
    assert "401" in paths["/v1/stats"]["get"]["responses"]


async def test_without_tokens_a_token_is_not_asked_for() -> None:
    """Where there are no tokens, one that is sent all the same changes nothing."""
    async with asking(MemoryBroker()) as client:
        assert 200 == (await client.get("/v1/stats", headers=bearer("any"))).status_code


@pytest.mark.parametrize(
    ("secret", "is_told"), [(None, False), ("nonsense", False), ("s-secret", False), ("r-secret", True)]
)
async def test_health_tells_little_without_a_token(secret: str | None, is_told: bool) -> None:
    """Whoever may not read is told whether all is well, and neither names nor addresses."""
    broker = MemoryBroker()
    publish(broker, "w-secret", queues=("q-secret",), fetch_age_s=31.0)
    headers = bearer(secret) if secret else {}
    async with asking(broker, three()) as client:
        response = await client.get("/healthz", headers=headers)
        assert (503, "stalled") == (response.status_code, response.json()["status"])
        assert is_told == ("q-secret" in response.text)
        assert is_told or {"status": "stalled"} == response.json()
        ready = {"status": "ready", "pool": "ready", "broker": "ready", "scripts": "ready"}
        assert ready == (await client.get("/readyz", headers=headers)).json()
        broker.faults.append(Fault("queue_names", "before"))
        response = await client.get("/readyz", headers=headers)
        assert (503, "unready", "ready") == (response.status_code, response.json()["status"], response.json()["pool"])
        assert is_told == ("unready" != response.json()["broker"])


@pytest.mark.parametrize("secret", [None, "r-secret"])
async def test_a_server_that_is_away_is_not_named_without_a_token(secret: str | None) -> None:
    """The problem that says that the server is away names it only to whoever may read."""
    broker = MemoryBroker()
    broker.faults.append(Fault("fleet", "before"))
    async with asking(broker, three()) as client:
        status, detail = problem(await client.get("/healthz", headers=bearer(secret) if secret else {}))
    assert (503, secret is None) == (status, detail == "the server is away")


def lasting(name: str, lasts: timedelta | None) -> Token:
    """A token that expires so long from now."""
    expires = None if lasts is None else datetime.now(UTC) + lasts
    return Token(name=name, sha256=hash_of(f"{name}-secret"), scopes=("read",), expires=expires)


async def test_tokens_that_end_are_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each that has expired or does within a week, with its name and when; never the token or its hash."""
    known = (
        lasting("gone", -timedelta(days=3)), lasting("soon", timedelta(days=6)), lasting("later", timedelta(days=8)),
        lasting("ever", None),
    )  # fmt: skip
    settings = Settings(http=HttpSettings(tokens=known))
    async with asking(MemoryBroker(), settings) as client:
        for _ in range(2):
            assert 401 == (await client.get("/v1/stats", headers=bearer("gone-secret"))).status_code
    said = [record.getMessage() for record in caplog.records if record.name == "headrace.http"]
    over, soon = said
    assert all(word in over for word in ("a token has expired", "gone", "read", known[0].expires.isoformat()))
    assert all(word in soon for word in ("a token expires soon", "soon", known[1].expires.isoformat()))
    assert not [word for token in known for word in (token.sha256, f"{token.name}-secret") if word in "".join(said)]


def test_a_token_ends_at_its_moment() -> None:
    """It is over from then on, and told of for a week before."""
    ends = datetime(2030, 1, 8, tzinfo=UTC)
    token = Token(name="ci", sha256=hash_of("x"), scopes=("submit",), expires=ends)
    cases = ((timedelta(days=7, seconds=1), []), (timedelta(days=7), [False]), (timedelta(0), [True]))
    for before, expected in cases:
        assert expected == [ending.is_over for ending in endings([token], (ends - before).timestamp())]
