"""The embedded server after a crash, a clean-up, or in a folder that it cannot use."""

import errno
import os
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from embedded_scene import DEADLINE_S, Scene, client, kill_server, line_of
from headrace.config.errors import ConfigError
from headrace.engine.embedded.faults import explained, read_tail
from headrace.engine.embedded.process import is_server
from headrace.engine.embedded.record import write_record
from headrace.engine.embedded.versions import is_older
from headrace.jobs.errors import BrokerUnavailable


def test_a_killed_user_counts_as_gone(scene: Scene) -> None:
    """After kill -9 of the program that started the server, the next joins that server and stops it when it leaves."""
    user = scene.start_user()
    url, record = line_of(user), scene.record
    user.kill()
    user.wait()
    assert is_server(record)
    server = scene.acquire()
    assert (url, record.pid) == (server.url, scene.record.pid)
    server.release()
    assert not is_server(record)


def test_ensure_running_brings_back_a_killed_server(scene: Scene) -> None:
    """After kill -9 of the server, ensure_running starts it at the same socket, once for all users."""
    server, other = scene.acquire(), scene.acquire()
    url, before = server.url, scene.record
    with client(server) as connection:
        connection.set("kept", "yes")
    kill_server(before)
    server.ensure_running()
    other.ensure_running()
    after = scene.record
    assert before.pid != after.pid
    assert url == server.url == other.url
    with client(other) as connection:
        assert "yes" == connection.get("kept")
    server.release()
    other.release()
    assert not is_server(after)


def test_a_crash_of_everything_is_recovered(scene: Scene) -> None:
    """A stale socket and a record of a dead process, as a power cut leaves them, do not stop the next start."""
    user = scene.start_user()
    line_of(user)
    record = scene.record
    user.kill()
    user.wait()
    kill_server(record)
    assert Path(record.socket).exists()
    server = scene.acquire()
    assert record.socket == server.url.removeprefix("unix://")
    with client(server) as connection:
        assert connection.ping()


def test_an_unfinished_last_write_is_cut(scene: Scene) -> None:
    """A log whose last command was cut by a crash loads up to there."""
    server = scene.acquire()
    with client(server) as connection:
        connection.set("kept", "yes")
    server.release()
    (tail,) = (scene.data / "appendonlydir").glob("*.incr.aof")
    with tail.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")
    with client(scene.acquire()) as connection:
        assert "yes" == connection.get("kept")


@pytest.mark.parametrize("content", [b"", b"{", b'{"socket": "/nowhere/x.sock", "pid": 1}'])
def test_a_wrong_record_is_put_right(scene: Scene, content: bytes) -> None:
    """A record that is broken or speaks of something else harms nobody: the process it names is left alone."""
    scene.data.mkdir()
    (scene.data / "server.json").write_bytes(content)
    scene.acquire()
    assert is_server(scene.record)


def test_a_lost_record_does_not_hide_the_server(scene: Scene) -> None:
    """A server whose record was deleted is found where its socket would lie, joined, and stopped by the last."""
    first = scene.acquire()
    pid = scene.record.pid
    (scene.data / "server.json").unlink()
    second = scene.acquire()
    assert first.url == second.url
    first.release()
    (scene.data / "server.json").unlink(missing_ok=True)
    second.release()
    third = scene.acquire()
    assert pid != scene.record.pid
    third.release()


def test_a_server_that_lost_its_socket_is_replaced(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the temporary folder was cleaned under a running server, the server is started anew with its data."""
    monkeypatch.setattr("headrace.engine.embedded.server.BOUND_WITHIN_S", 0.05)
    server = scene.acquire()
    before = scene.record
    with client(server) as connection:
        connection.set("kept", "yes")
    shutil.rmtree(scene.runtime / "headrace")
    server.ensure_running()
    assert not is_server(before)
    with client(server) as connection:
        assert "yes" == connection.get("kept")


def test_a_deleted_data_folder_is_made_anew(scene: Scene) -> None:
    """When the data folder is deleted under a running server, old users and new ones meet on one new server."""
    old = scene.acquire()
    ghost = scene.record
    shutil.rmtree(scene.data)
    new = scene.acquire()
    assert not is_server(ghost)
    old.ensure_running()
    assert old.url == new.url
    record = scene.record
    new.release()
    assert is_server(record)
    old.release()
    assert not is_server(record)


def test_leaving_a_deleted_data_folder_ends_its_server(scene: Scene) -> None:
    """The last user of a data folder that was deleted leaves no process behind."""
    server = scene.acquire()
    record = scene.record
    shutil.rmtree(scene.data)
    server.release()
    deadline_s = time.monotonic() + DEADLINE_S
    while is_server(record) and time.monotonic() < deadline_s:
        time.sleep(0.002)
    assert not is_server(record)


def test_a_copied_data_folder_has_a_server_of_its_own(scene: Scene) -> None:
    """A copy of a data folder does not take the original's address."""
    server = scene.acquire()
    shutil.copytree(scene.data, scene.root / "copy")
    assert server.url != scene.acquire(scene.root / "copy").url
    with client(server) as connection:
        assert connection.ping()


def test_a_file_in_the_way_is_named(scene: Scene) -> None:
    """A file where the data folder should be is an error that names it."""
    scene.data.touch()
    with pytest.raises(ConfigError, match=rf"{scene.data}.*file is in the way"):
        scene.acquire()
    with pytest.raises(ConfigError, match=r"inside.*file is in the way"):
        scene.acquire(scene.data / "inside")


@pytest.mark.parametrize("path", ["/proc/headrace", "/sys/headrace", "/proc/self"])
def test_a_folder_that_cannot_be_written_is_named(scene: Scene, path: str) -> None:
    """A folder in which nothing can be made is an error that names it and the way out."""
    with pytest.raises(ConfigError, match=rf"{Path(path).resolve()}.*embedded:///"):
        scene.acquire(Path(path))


def test_data_of_a_newer_server_are_named(scene: Scene) -> None:
    """Data in a format that the binary does not know are an error that says so, with the end of the log."""
    scene.acquire().release()
    version = scene.record.version
    (head,) = (scene.data / "appendonlydir").glob("*.base.rdb")
    content = head.read_bytes()
    head.write_bytes(content[:6] + b"999" + content[9:])
    with pytest.raises(ConfigError) as caught:
        scene.acquire()
    for part in ("newer", version, str(scene.data), "RDB format version 999", "pip install --upgrade"):
        assert part in str(caught.value)
    head.write_bytes(content)
    scene.acquire()


def test_a_server_that_cannot_start_shows_its_log(scene: Scene) -> None:
    """A start that fails brings the end of the server's log of this start, and leaves no user behind."""
    scene.acquire().release()
    (scene.data / "appendonlydir/appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(ConfigError, match=r"ended with status 1[\s\S]*manifest") as caught:
        scene.acquire()
    assert "bye bye" not in str(caught.value)


def test_a_big_log_makes_room(scene: Scene) -> None:
    """A log that has grown large is put aside at a start, and one older one is kept."""
    scene.data.mkdir()
    (scene.data / "server.log").write_bytes(b"x\n" * (1 << 20))
    scene.acquire()
    assert 2 << 20 == (scene.data / "server.log.1").stat().st_size
    assert 1 << 20 > (scene.data / "server.log").stat().st_size


def test_a_server_that_cannot_come_back_is_unavailable(scene: Scene) -> None:
    """While its data cannot be read, ensure_running says that the broker is unavailable; once they can, it is back."""
    server = scene.acquire()
    kill_server(scene.record)
    manifest = scene.data / "appendonlydir/appendonly.aof.manifest"
    content = manifest.read_text()
    manifest.write_text("nonsense\n")
    with pytest.raises(BrokerUnavailable, match="manifest"):
        server.ensure_running()
    manifest.write_text(content)
    server.ensure_running()
    with client(server) as connection:
        assert connection.ping()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only"), (errno.EACCES, "its owner or its mode")],
)
def test_errors_of_the_disk_name_the_remedy(number: int, remedy: str) -> None:
    """An error of the operating system becomes a ConfigError with the folder, the cause and what to do."""
    said = rf"/the/data.*{os.strerror(number)}.*{remedy}.*embedded:///"
    with pytest.raises(ConfigError, match=said), explained(Path("/the/data")):
        raise OSError(number, os.strerror(number))


def test_an_older_server_is_not_started(scene: Scene) -> None:
    """Data that a later release of the same server wrote are an error before the older one is let near them."""
    scene.acquire().release()
    product, _, release = scene.record.version.partition(" ")
    later = f"{product} {int(release.partition('.')[0]) + 1}.0.0"
    write_record(scene.data, msgspec.structs.replace(scene.record, version=later))
    with pytest.raises(ConfigError) as caught:
        scene.acquire()
    for part in ("newer", later, scene.record.version, "'headrace[embedded]'", "they are safe"):
        assert part in str(caught.value)
    assert later == scene.record.version


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("Valkey 8.1.4", "Valkey 9.0.0", True),
        ("Valkey 9.0.1", "Valkey 9.1.0", True),
        ("Valkey 9.1.1", "Valkey 9.1.2", False),
        ("Valkey 10.0.0", "Valkey 9.1.2", False),
        ("Redis 7.0.15", "Valkey 9.1.2", False),
        ("", "Valkey 9.1.2", False),
        ("Valkey 9.1.2", "", False),
    ],
)
def test_releases_are_compared(version: str, than: str, older: bool) -> None:
    """A server is older when its product is the same and its release earlier; bug fixes and other products are not."""
    assert older == is_older(version, than)


def test_no_message_advises_to_cut_the_data(scene: Scene) -> None:
    """The servers' advice to cut what they cannot read is left out of what is shown of their log."""
    log = scene.root / "server.log"
    log.write_text(
        "1:M # Bad file format reading the append only file x.aof: make a backup of your AOF file, then use "
        "./valkey-check-aof --fix <filename>\n"
        "1:M # Unexpected end of file. You can: 1) Make a backup of your AOF file, then use ./redis-check-aof --fix.\n"
    )
    tail = read_tail(log, start=0)
    assert ("Bad file format" in tail, "Unexpected end" in tail) == (True, True)
    assert "check-aof" not in tail
