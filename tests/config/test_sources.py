"""Settings come from five places, the stronger wins, and every problem is reported at once."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config import ConfigError, Loaded, Settings, Token, load, mask_url, places, project_folder, rows
from headrace.config.sources import variable

SHA256 = hashlib.sha256(b"a token of this test").hexdigest()


def loaded(
    folder: Path,
    *,
    flags: Mapping[str, object] | None = None,
    code: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    return load(flags or {}, code or {}, environ or {}, folder)


def problems(folder: Path, **sources: Mapping[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(sources.get("flags", {}), sources.get("code", {}), sources.get("environ", {}), folder)  # type: ignore[arg-type]
    return str(caught.value).split("\n  - ")[1:]


def test_without_sources_everything_is_at_its_default(tmp_path: Path) -> None:
    """No file, no variable, no argument: the record's defaults, and each says so."""
    result = loaded(tmp_path)
    assert (Settings(), dict.fromkeys(places(), "default")) == (result.settings, result.origins)


def test_each_source_overrides_the_weaker_ones(tmp_path: Path) -> None:
    """Flags beat code, code beats variables, variables beat the file, the file beats the defaults."""
    (tmp_path / "headrace.toml").write_text('slots = 1\nthread_slots = 1\nprocesses = 1\nlease = "1s"\n')
    result = loaded(
        tmp_path,
        environ={"HEADRACE_SLOTS": "2", "HEADRACE_THREAD_SLOTS": "2", "HEADRACE_PROCESSES": "2"},
        code={"slots": 3, "thread_slots": 3},
        flags={"slots": 4},
    )
    settings = result.settings
    assert (4, 3, 2, 1.0) == (settings.slots, settings.thread_slots, settings.processes, settings.lease_s)
    origins = [result.origins[name] for name in ("slots", "thread_slots", "processes", "lease", "loop")]
    assert ["flag --slots", "code", "HEADRACE_PROCESSES", f"headrace.toml:{tmp_path}", "default"] == origins


def test_what_was_not_given_does_not_count(tmp_path: Path) -> None:
    """None in code or flags and an empty variable leave the weaker source in force."""
    result = loaded(tmp_path, flags={"slots": None}, code={"http": {"port": None}}, environ={"HEADRACE_LEASE": " "})
    assert (Settings(), {"default"}) == (result.settings, set(result.origins.values()))


def test_sections_are_reached_from_every_source(tmp_path: Path) -> None:
    """A section is a table in files and code, a dotted name in code and flags, and two underscores in a variable."""
    (tmp_path / "headrace.toml").write_text('[http]\nhost = "::1"\n[file]\nrotate_age = "2h"\n')
    result = loaded(
        tmp_path,
        environ={"HEADRACE_HTTP__PORT": "1"},
        code={"file": {"fsync": "always"}, "file.rotate_bytes": "1MiB"},
        flags={"http.body_max": 4096},
    )
    http, file = result.settings.http, result.settings.file
    assert ("::1", 1, 4096) == (http.host, http.port, http.body_max_bytes)
    assert ("always", 1024**2, 7200.0) == (file.fsync, file.rotate_bytes, file.rotate_age_s)
    assert ("HEADRACE_HTTP__PORT", "flag --http") == (result.origins["http.port"], result.origins["http.body_max"])


def test_the_nearest_file_with_settings_is_the_one(tmp_path: Path) -> None:
    """The search goes upward past a pyproject.toml without [tool.headrace] and stops at the first that has settings."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "headrace.toml").write_text("slots = 1\nprocesses = 7\n")
    (tmp_path / "outer" / "pyproject.toml").write_text("[tool.headrace]\nslots = 2\n")
    (inner / "pyproject.toml").write_text("[project]\nname = 'app'\n[tool.other]\nslots = 3\n")
    result = loaded(inner)
    assert (2, 1) == (result.settings.slots, result.settings.processes)
    assert f"pyproject.toml:{tmp_path / 'outer'}" == result.origins["slots"]


def test_headrace_toml_wins_over_pyproject_in_one_folder(tmp_path: Path) -> None:
    """The file that is all ours is the one that is meant."""
    (tmp_path / "headrace.toml").write_text("slots = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.headrace]\nslots = 2\nprocesses = 2\n")
    assert (1, 1) == (loaded(tmp_path).settings.slots, loaded(tmp_path).settings.processes)


def test_the_project_folder_is_the_nearest_with_either_file(tmp_path: Path) -> None:
    """Any pyproject.toml marks a project, with settings of ours or without."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "headrace.toml").touch()
    assert tmp_path == project_folder(inner)
    (tmp_path / "outer" / "pyproject.toml").touch()
    assert tmp_path / "outer" == project_folder(inner)


def test_every_problem_of_every_source_is_reported_at_once(tmp_path: Path) -> None:
    """One error names them all, each with its place, so that one round of mending is enough."""
    (tmp_path / "headrace.toml").write_text('leese = "1s"\nslots = 0\nhttp = 5\n[file]\nfsync = "often"\n')
    found = problems(
        tmp_path,
        environ={"HEADRACE_LEASE": "soon", "HEADRACE_HTTP_PORT": "1", "HEADRACE_BANANA": "x"},
        code={"max_payload_bytes": 5},
        flags={"drain_timeout": "-1"},
    )
    file = f"headrace.toml:{tmp_path}: "
    assert [
        file + "leese is no setting; did you mean lease?",
        file + "slots: 0 is too little; at least 1, at most 100000",
        file + "http is a section; write its settings, such as http.host",
        file + "file.fsync: 'often' is not among the choices; write never, interval or always",
        "HEADRACE_BANANA: no setting has this name; `headrace config show` lists all settings",
        "HEADRACE_HTTP_PORT: no setting has this name; did you mean HEADRACE_HTTP__PORT?",
    ] == found[:6]
    assert found[6].startswith("HEADRACE_LEASE: lease: 'soon' is not a duration; ")
    assert "code: max_payload_bytes is no setting; did you mean max_payload?" == found[7]
    assert found[8].startswith("flag --drain-timeout: drain_timeout: '-1' is not a duration; ")
    assert 9 == len(found)


def test_a_bad_value_is_a_problem_even_where_a_stronger_source_has_a_good_one(tmp_path: Path) -> None:
    """What is wrong in a file would come into force the day the flag is left out."""
    (tmp_path / "headrace.toml").write_text("slots = 0\n")
    assert 1 == len(problems(tmp_path, flags={"slots": 5}))


@pytest.mark.parametrize("content", [b"slots = ", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_broken_file_is_a_problem_with_its_place(tmp_path: Path, content: bytes) -> None:
    """A file that is not TOML is named; it is never passed over."""
    (tmp_path / "headrace.toml").write_bytes(content)
    (found,) = problems(tmp_path)
    assert found.startswith(f"headrace.toml:{tmp_path}: is not valid TOML: ")


def test_a_pyproject_where_our_table_is_no_table_is_a_problem(tmp_path: Path) -> None:
    """[tool] headrace = 5 was meant as something; it is reported."""
    (tmp_path / "pyproject.toml").write_text("[tool]\nheadrace = 5\n")
    assert [f"pyproject.toml:{tmp_path}: tool.headrace must be a table, [tool.headrace]"] == problems(tmp_path)


def test_variables_of_a_kubernetes_service_are_passed_over(tmp_path: Path) -> None:
    """A Service named headrace puts its own HEADRACE_ variables into every pod; they must not stop a worker."""
    environ = {
        "HEADRACE_SERVICE_HOST": "10.0.0.1",
        "HEADRACE_SERVICE_PORT": "8787",
        "HEADRACE_SERVICE_PORT_HTTP": "8787",
        "HEADRACE_PORT": "tcp://10.0.0.1:8787",
        "HEADRACE_PORT_8787_TCP": "tcp://10.0.0.1:8787",
        "HEADRACE_PORT_8787_TCP_ADDR": "10.0.0.1",
        "HEADRACE_HTTP_PORT": "tcp://10.0.0.2:80",
        "HEADRACE_REDIS_PORT_6379_TCP_PROTO": "tcp",
        "OTHER_SLOTS": "x",
    }
    assert Settings() == loaded(tmp_path, environ=environ).settings


@pytest.mark.parametrize(("word", "meant"), [("1", True), ("Yes", True), ("on", True), ("no", False), ("FALSE", False)])
def test_yes_and_no_are_read_as_people_write_them(tmp_path: Path, word: str, meant: bool) -> None:
    """HEADRACE_REQUIRE_URL takes the usual words."""
    assert meant is loaded(tmp_path, environ={"HEADRACE_REQUIRE_URL": word}).settings.require_url


def test_the_words_for_nothing_override_a_weaker_source(tmp_path: Path) -> None:
    """`off`, `cores`, `none` and `default` undo what a file says."""
    (tmp_path / "headrace.toml").write_text('url = "redis://h"\nlog_outcomes = "o"\nprocess_slots = 2\ntimeout = 5\n')
    words = {"url": "none", "log_outcomes": "off", "process_slots": "cores", "timeout": "default"}
    assert Settings() == loaded(tmp_path, code=words).settings


def test_tokens_are_tables_in_a_file_and_json_in_a_variable(tmp_path: Path) -> None:
    """Both give the same tokens, and neither the rows nor a message shows a hash."""
    (tmp_path / "headrace.toml").write_text(
        f'[[http.tokens]]\nname = "ci"\nsha256 = "{SHA256}"\nscopes = ["submit", "read"]\n'
    )
    text = f'[{{"name": "ci", "sha256": "{SHA256}", "scopes": ["submit", "read"]}}]'
    expected = (Token(name="ci", sha256=SHA256, scopes=("submit", "read")),)
    from_file = loaded(tmp_path)
    assert expected == from_file.settings.http.tokens
    assert expected == loaded(tmp_path, environ={"HEADRACE_HTTP__TOKENS": text}).settings.http.tokens
    assert "ci (submit read)" == {row.name: row.value for row in rows(from_file)}["http.tokens"]


@pytest.mark.parametrize(
    "wrong", [{"sha256": SHA256.upper()}, {"sha256": SHA256 + "\n"}, {"scopes": []}, {"scopes": ["root"]}, {"extra": 1}]
)
def test_a_malformed_token_is_refused_without_showing_its_hash(tmp_path: Path, wrong: dict[str, object]) -> None:
    """The message names the place in the list; the hash stays out of logs."""
    token = {"name": "ci", "sha256": SHA256, "scopes": ["read"], **wrong}
    (found,) = problems(tmp_path, code={"http": {"tokens": [token]}})
    assert found.startswith("code: http.tokens: the tokens are not a list of ")
    assert SHA256 not in found.lower()


def test_a_token_in_the_place_of_its_hash_is_named_as_such(tmp_path: Path) -> None:
    """It is said what belongs there, and the token is not repeated."""
    text = '[{"name": "ci", "sha256": "headrace_abcdef", "scopes": ["read"]}]'
    (found,) = problems(tmp_path, environ={"HEADRACE_HTTP__TOKENS": text})
    assert "64 lower-case hexadecimal digits that `headrace token new` prints" in found
    assert "abcdef" not in found


def test_two_tokens_of_one_name_are_refused(tmp_path: Path) -> None:
    """Logs and revocation go by the name."""
    token = {"name": "ci", "sha256": SHA256, "scopes": ["read"]}
    assert ["code: http.tokens: two tokens have the name 'ci'; each needs its own"] == problems(
        tmp_path, code={"http.tokens": [token, token]}
    )


@pytest.mark.parametrize("bad", ["", "a b", "{q}", "a:b", "x" * 65, 5, ["a"]])
def test_a_namespace_that_would_break_keys_is_refused(tmp_path: Path, bad: object) -> None:
    """Braces would be taken for a hash tag, and colons for the end of the namespace."""
    assert 1 == len(problems(tmp_path, code={"namespace": bad}))


def test_rows_show_every_setting_as_people_write_it(tmp_path: Path) -> None:
    """The rows name each setting once, with its value, its origin, and no password."""
    environ = {"HEADRACE_URL": "redis://me:secret@host/0", "HEADRACE_LEASE": "0.25m"}
    shown = {row.name: (row.value, row.origin) for row in rows(loaded(tmp_path, environ=environ))}
    assert list(places()) == list(shown)
    assert ("redis://me:***@host/0", "HEADRACE_URL") == shown["url"]
    assert ("15s", "HEADRACE_LEASE") == shown["lease"]
    assert ("1MiB", "default") == shown["max_payload"]


@pytest.mark.parametrize(
    ("masked", "url"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://:***@host:6379/0", "rediss://:pw@host:6379/0"),
        ("redis://me:***@host", "redis://me:p@ss:w/o?rd@host"),
        ("redis://me@host", "redis://me@host"),
        ("unix:///run/a@b:c.sock?db=0&password=***", "unix:///run/a@b:c.sock?db=0&password=pw"),
        ("redis+sentinel://:***@a,b/main?sentinel_password=***", "redis+sentinel://:pw@a,b/main?sentinel_password=x"),
        ("me:***@host", "me:pw@host"),
        ("memory://", "memory://"),
    ],
)
def test_a_password_is_masked_and_the_rest_is_left(masked: str, url: str) -> None:
    """What tells one server from another stays readable."""
    assert masked == mask_url(url)


@given(st.text(alphabet="ABC:/?#@&=%[]", min_size=3).filter(lambda text: text.strip(":/?#@&=%[]")))
def test_no_password_gets_through(password: str) -> None:
    """Whatever characters a password has, escaped or not, it is not in the masked URL."""
    assert "redis://me:***@host/0" == mask_url(f"redis://me:{password}@host/0")


@pytest.mark.parametrize("name", places())
def test_every_setting_has_a_variable_that_sets_it(tmp_path: Path, name: str) -> None:
    """The variable's name is made from the setting's, and load reads it back to the same setting."""
    row = {row.name: row.value for row in rows(loaded(tmp_path))}[name]
    text = "[]" if name == "http.tokens" else row
    assert variable(name) == loaded(tmp_path, environ={variable(name): text}).origins[name]
