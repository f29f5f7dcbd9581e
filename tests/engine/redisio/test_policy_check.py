"""What a worker says of the settings of the server that it starts on."""

import pytest

from headrace.config.errors import ConfigError
from headrace.engine.broker.redis_policy import check_policy

URL = "redis://cache:6379"


def replies(policy: str, aof: int = 1) -> list[bytes]:
    """Return what a server with these settings answers."""
    memory = f"# Memory\r\nused_memory:1\r\nmaxmemory_policy:{policy}\r\n"
    return [memory.encode(), f"# Persistence\r\naof_enabled:{aof}\r\n".encode()]


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_cache_is_refused(policy: str) -> None:
    """A server that deletes any key at its maxmemory is an error that names the remedy."""
    with pytest.raises(ConfigError, match=rf"{URL} has maxmemory-policy {policy}.*maxmemory-policy noeviction"):
        check_policy(replies(policy), URL)


@pytest.mark.parametrize(
    ("policy", "aof", "levels"),
    [
        ("noeviction", 1, []),
        ("volatile-lru", 1, ["warning"]),
        ("volatile-ttl", 0, ["warning", "info"]),
        ("noeviction", 0, ["info"]),
    ],
)
def test_what_costs_safety_is_logged(
    caplog: pytest.LogCaptureFixture, policy: str, aof: int, levels: list[str]
) -> None:
    """Results that may be deleted are a warning, no append-only file is a word, and a good server is silence."""
    with caplog.at_level("INFO", logger="headrace.redis"):
        check_policy(replies(policy, aof), URL)
    assert levels == [entry.levelname.lower() for entry in caplog.records]


def test_a_server_that_does_not_answer_is_trusted() -> None:
    """A user who may not ask is no error."""
    check_policy([PermissionError("NOPERM"), PermissionError("NOPERM")], URL)
