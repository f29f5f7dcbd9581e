"""What is promised of where files of a program's own go."""

from pathlib import Path

import pytest

from headrace import ConfigError
from headrace.config.settings import Settings
from headrace.engine.connection import Connection


def place(url: str, folder: Path, **environ: str) -> Path:
    """Return the data folder of an open connection."""
    connection = Connection(Settings(url=url), environ, folder)
    connection.open()
    try:
        return connection.data_folder()
    finally:
        connection.close()


def test_with_an_embedded_server_it_is_that_servers(tmp_path: Path) -> None:
    """Whatever project there is, the folder that the URL names has all."""
    (tmp_path / "headrace.toml").touch()
    found = place(f"embedded://{tmp_path}/mine", tmp_path, TMPDIR=str(tmp_path), HOME=str(tmp_path))
    assert tmp_path / "mine" == found


def test_with_another_server_it_is_the_projects(tmp_path: Path) -> None:
    """The nearest headrace.toml or pyproject.toml upward has it beside it, else the user's state folder is it."""
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}
    if not any((folder / "pyproject.toml").exists() for folder in tmp_path.parents):
        assert tmp_path / "state" / "headrace" == place("memory://", inner, **environ)
    (tmp_path / "a" / "pyproject.toml").touch()
    assert tmp_path / "a" / ".headrace" == place("memory://", inner, **environ)


def test_where_there_is_no_place_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of any project and without a home nothing is guessed."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ConfigError, match="set XDG_STATE_HOME"):
        place("memory://", Path("/"))
