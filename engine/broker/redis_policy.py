"""Look at a server's own settings when a worker starts: whether it keeps what it is given.

A policy that lets the server delete any key at its maxmemory is refused, since it deletes jobs; what costs only safety
is logged. A server that forbids the question is trusted. Changes nothing; no state.
"""

from collections.abc import Sequence
from typing import Any, Final

from headrace.config.errors import ConfigError
from headrace.config.logs import logger

from ..redisio.connections import Command

log = logger("headrace.redis")

#: What to ask; the replies go to `check_policy`, in this order.
QUESTIONS: Final[tuple[Command, ...]] = ((b"INFO", b"memory"), (b"INFO", b"persistence"))


def check_policy(replies: Sequence[Any], url: str) -> None:
    """Judge a server by its answers.

    Args:
        replies: What it answered to QUESTIONS; errors count as no answer.
        url: Its address without password, for messages.

    Raises:
        ConfigError: at its maxmemory it would delete jobs.
    """
    told = {name: value for reply in replies for name, value in _fields(reply)}
    policy = told.get("maxmemory_policy", "")
    if policy.startswith("allkeys-"):
        raise ConfigError(
            f"the server at {url} has maxmemory-policy {policy}: at its maxmemory it deletes any key, and queued jobs "
            "with it. Set `maxmemory-policy noeviction` in its configuration (at once: CONFIG SET maxmemory-policy "
            "noeviction), or use a server that is no cache"
        )
    if policy.startswith("volatile-"):
        log.warning(
            "the server may delete results early",
            policy=policy,
            why="at its maxmemory it deletes keys that have a time to live, which results and dead letters have",
            then="set maxmemory-policy noeviction",
        )
    if told.get("aof_enabled") == "0":
        log.info(
            "the server keeps no append-only file",
            why="jobs since its last snapshot, if it makes any, are lost when it ends",
            then="set appendonly yes, if they matter",
        )


def _fields(reply: Any) -> list[tuple[str, str]]:
    if not isinstance(reply, bytes):
        return []
    lines = [line.partition(":") for line in reply.decode(errors="replace").splitlines()]
    return [(name, value.strip()) for name, colon, value in lines if colon]
