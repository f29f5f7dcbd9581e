"""How many commands the server executed, by its own count: those inside scripts too.

A round trip is a script, a function or a blocking read; what else clients send goes together with one of those, or
happens once in a second.
"""

import redis

TRIPS = ("evalsha", "eval", "fcall", "xreadgroup")
#: The measurement's own, and what every connection begins with.
OWN = ("info", "client", "hello", "ping", "config", "xlen", "xpending", "zcard", "script")


def calls(socket: str) -> dict[str, int]:
    """Return how often each command was executed since the server's start."""
    with redis.Redis(unix_socket_path=socket) as connection:
        found = connection.info("commandstats")
    return {name.removeprefix("cmdstat_").partition("|")[0]: figures["calls"] for name, figures in found.items()}


def held(socket: str, queue: str = "default") -> int:
    """Return how many jobs of a queue the server still holds: queued, or running and not settled."""
    with redis.Redis(unix_socket_path=socket) as connection:
        return int(connection.xlen(f"headrace:{{{queue}}}:jobs"))


def per_job(before: dict[str, int], after: dict[str, int], jobs: int) -> dict[str, float]:
    """Return commands and round trips for each job between two counts."""
    made = {name: count - before.get(name, 0) for name, count in after.items() if name not in OWN}
    return {
        "commands_per_job": sum(made.values()) / jobs,
        "trips_per_job": sum(made.get(name, 0) for name in TRIPS) / jobs,
    }
