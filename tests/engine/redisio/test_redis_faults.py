"""What is said when a server cannot be used: which one, what is wrong and what to do, and never a password."""

import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest
import redis
from redis_scenes import Open, submit

from headrace.engine.broker.redis import RedisBroker
from headrace.engine.redisio import connections
from headrace.jobs.errors import BrokerUnavailable, ConfigError
from servers import Server, free_port, start_valkey

pytestmark = pytest.mark.redis_core


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants a password."""
    with start_valkey(tmp_path_factory.mktemp("locked"), "--requirepass", "s3cret") as server:
        yield server


def complaint(url: str) -> str:
    broker = RedisBroker(url)
    try:
        with pytest.raises(BrokerUnavailable) as raised:
            submit(broker, token="")
    finally:
        broker.close()
    return str(raised.value)


def test_nobody_listens() -> None:
    """A closed port is named, with the advice to start a server or mend the address."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    said = complaint(url)
    assert url in said
    assert "cannot be reached" in said
    assert "start it" in said


def test_no_such_socket(tmp_path: pathlib.Path) -> None:
    """A Unix socket that is not there is named."""
    said = complaint(f"unix://{tmp_path}/none?db=0")
    assert f"unix://{tmp_path}/none?db=0 cannot be reached" in said


def test_no_such_host() -> None:
    """A host whose name is not known is named."""
    assert "redis://nowhere.invalid:6379/0 cannot be reached" in complaint("redis://nowhere.invalid:6379/0")


def test_a_password_is_missing(locked: Server) -> None:
    """Without a password the message says that one is wanted, and where it goes."""
    said = complaint(locked.url)
    assert "wants a password" in said
    assert "redis://:PASSWORD@HOST" in said


@pytest.mark.parametrize("user", ["", "somebody"])
def test_a_wrong_password_is_not_shown(locked: Server, user: str) -> None:
    """A refused password is said to be refused, and is not in the message."""
    said = complaint(locked.url.replace("//", f"//{user}:hunter2@"))
    assert "refuses the user or the password" in said
    assert f"{user}:***@127.0.0.1" in said
    assert "hunter2" not in said


def test_the_right_password(locked: Server) -> None:
    """With its password the server is used, and the broker's url does not show it."""
    broker = RedisBroker(f"{locked.unix_url}&password=s3cret")
    submit(broker)
    assert "password=***" in broker.url
    assert "s3cret" not in broker.url + repr(broker._address.url)
    broker.close()


def test_another_protocol() -> None:
    """A port where another program answers is told from a server that is away."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        said = complaint(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    assert "does not speak the Redis protocol" in said


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and then is silent is given up on in time."""
    monkeypatch.setattr(connections, "REPLY_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        said = complaint(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    assert "did not answer in time" in said


def test_a_key_of_another_program(opened: Open, client: redis.Redis) -> None:
    """A key of the wrong type is blamed on another program's names."""
    client.set("headrace:{q}:jobs", "not ours")
    with pytest.raises(BrokerUnavailable, match=r"another type.*`namespace`"):
        submit(opened(), token="")


def test_a_forbidden_command(opened: Open, client: redis.Redis, server: Server) -> None:
    """What the server's access list forbids is said to be forbidden."""
    client.execute_command("ACL SETUSER poor on >pw ~* +@all -smembers")
    broker = opened(url=server.url.replace("//", "//poor:pw@"))
    submit(broker)
    with pytest.raises(BrokerUnavailable, match="forbids its user a command"):
        broker.queue_names()


def test_a_closed_broker(opened: Open) -> None:
    """A broker that this program closed says so."""
    broker = opened()
    submit(broker)
    broker.close()
    with pytest.raises(BrokerUnavailable, match="was closed by this program"):
        broker.queue_names()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://h:99999/0", "Port out of range"),
        ("redis://h/nonsense", "number of a database"),
        ("unix://", "no path"),
        ("redis://:hunter2@h/0?decode_responses=1", "'decode_responses'"),
        ("redis://:hunter2@h/0?protocol=3", "'protocol'"),
    ],
)
def test_addresses_that_are_none(url: str, words: str) -> None:
    """An address that cannot be one is refused at once, without its password."""
    with pytest.raises(ConfigError) as raised:
        RedisBroker(url)
    assert words in str(raised.value)
    assert "hunter2" not in str(raised.value)
