"""The embedded server from day to day: shared by programs, stopped by the last."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from embedded_scene import DEADLINE_S, USER, Scene, client, leave, line_of
from headrace.engine.embedded import acquire
from headrace.engine.embedded.binary import find_binary
from headrace.engine.embedded.process import is_server


def test_a_server_keeps_everything_and_listens_on_no_port(scene: Scene) -> None:
    """The embedded server writes each command through to its log, evicts nothing and has no TCP port."""
    server = scene.acquire()
    wanted = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction", "port": "0"}
    with client(server) as connection:
        assert wanted == {name: connection.config_get(name)[name] for name in wanted}
    assert 0o700 == Path(server.url.removeprefix("unix://")).stat().st_mode & 0o777
    assert scene.data == server.data_folder
    assert str(scene.data) in server.where
    assert "\n" not in server.where


def test_data_outlive_the_server(scene: Scene) -> None:
    """What was written before the last user left is there for the next."""
    server = scene.acquire()
    with client(server) as connection:
        connection.set("kept", "yes")
    server.release()
    with client(scene.acquire()) as connection:
        assert "yes" == connection.get("kept")


def test_two_processes_share_one_server_and_the_last_stops_it(scene: Scene) -> None:
    """Two programs on one data folder have one server, which lives until the second has left."""
    first, second = scene.start_user(), scene.start_user()
    assert line_of(first) == line_of(second) != ""
    record = scene.record
    leave(first)
    assert is_server(record)
    leave(second)
    assert not is_server(record)
    assert not Path(record.socket).exists()
    assert 0 == scene.record.pid


def test_eight_processes_starting_at_once_have_one_server(scene: Scene) -> None:
    """However many start at the same moment, one server is started."""
    users = [scene.start_user() for _ in range(8)]
    assert 1 == len({line_of(user) for user in users})
    assert 1 == (scene.data / "server.log").read_text().count("Ready to accept connections")
    record = scene.record
    for user in users:
        assert user.stdin is not None
        user.stdin.write("leave\n")
        user.stdin.flush()
    for user in users:
        user.wait(DEADLINE_S)
    assert not is_server(record)


def test_one_process_may_acquire_twice(scene: Scene) -> None:
    """Each acquisition counts, also in one process; the second release of the same one does not."""
    first, second = scene.acquire(), scene.acquire()
    assert first.url == second.url
    first.release()
    first.release()
    with client(second) as connection:
        assert connection.ping()
    record = scene.record
    second.release()
    assert not is_server(record)


def test_threads_may_acquire_and_release_at_once(scene: Scene) -> None:
    """Threads that come and go at the same time leave neither a second server nor one behind."""

    def come_and_go() -> None:
        for _ in range(5):
            server = acquire(scene.data, environ=scene.environ, folder=scene.root)
            with client(server) as connection:
                connection.incr("visits")
            server.release()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 == scene.record.pid
    with client(scene.acquire()) as connection:
        assert "20" == connection.get("visits")


def test_interrupting_a_user_leaves_its_server_alone(scene: Scene) -> None:
    """The server is in a session of its own, so a terminal's Ctrl-C does not reach it."""
    scene.acquire()
    pid = scene.record.pid
    assert pid == os.getsid(pid)


def test_a_running_server_is_left_as_it_is(scene: Scene) -> None:
    """ensure_running changes nothing while the server answers."""
    server = scene.acquire()
    before = scene.record
    server.ensure_running()
    assert before == scene.record


def test_a_released_server_is_not_started_again(scene: Scene) -> None:
    """ensure_running after release is a fault of the program, and starts nothing."""
    server = scene.acquire()
    server.release()
    with pytest.raises(RuntimeError, match="released"):
        server.ensure_running()
    assert 0 == scene.record.pid


def test_a_forked_child_leaves_the_parents_server_alone(scene: Scene) -> None:
    """Neither a release in a forked child nor its end stops the server or takes the parent's share in it."""
    script = USER.replace(
        "sys.stdin.readline()",
        "pid = os.fork()\nif not pid:\n    server.release(); sys.exit(0)\n"
        "os.waitpid(pid, 0)\nprint('forked', flush=True)\nsys.stdin.readline()",
    )
    user = subprocess.Popen(
        [sys.executable, "-c", script, str(scene.data)],
        env=scene.environ, cwd=scene.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    scene.users.append(user)
    line_of(user)
    assert "forked" == line_of(user)
    record = scene.record
    assert is_server(record)
    scene.acquire().release()
    assert is_server(record)
    leave(user)
    assert not is_server(record)


def test_a_made_folder_is_private_and_ignored_by_git(scene: Scene) -> None:
    """The data folder is closed to others and tells git to pass it over."""
    scene.acquire()
    assert 0o700 == scene.data.stat().st_mode & 0o777
    assert "*\n" == (scene.data / ".gitignore").read_text()


def test_the_record_says_where_the_server_is(scene: Scene) -> None:
    """The data folder says in JSON which socket, process, binary and version serve it."""
    server = scene.acquire()
    said = json.loads((scene.data / "server.json").read_text())
    assert server.url == f"unix://{said['socket']}"
    with client(server) as connection:
        info = connection.info("server")
    assert info["process_id"] == said["pid"]
    assert str(find_binary(scene.environ)) == said["binary"]
    assert said["version"] in server.where
