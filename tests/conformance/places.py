"""The places where brokers keep their jobs, one class each: what the conformance suite needs beside the port itself.

A place hands out brokers that share their jobs, lets time pass, and adds entries past the port. Each test has a place
of its own, and `close` ends all that it opened.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import redis

from headrace.engine.broker.control import OpenBroker
from headrace.engine.broker.memory import MemoryBroker

T = TypeVar("T")
_numbers = itertools.count()


class FullBroker(OpenBroker, Protocol):
    """All ports."""


class Place(Protocol):
    """Where the brokers of one test keep their jobs."""

    def connect(self) -> FullBroker:
        """Return another broker on the same jobs, as another process would have it."""

    def advance(self, seconds: float) -> None:
        """Let that much time pass by the broker's clock."""

    def add_raw(self, queue: str, fields: Mapping[bytes, bytes]) -> str:
        """Append an entry of any fields and return its id."""

    def close(self) -> None:
        """End all that was opened."""


class MemoryPlace:
    """Brokers of one name in this process, on a clock that only `advance` moves."""

    def __init__(self) -> None:
        self._url = f"memory://conformance-{next(_numbers)}"
        self._clock_ms = 1_795_406_593_154
        self._brokers: list[MemoryBroker] = []

    def connect(self) -> FullBroker:
        self._brokers.append(MemoryBroker(self._url, now_ms=lambda: self._clock_ms))
        return self._brokers[-1]

    def advance(self, seconds: float) -> None:
        self._clock_ms += round(seconds * 1000)

    def add_raw(self, queue: str, fields: Mapping[bytes, bytes]) -> str:
        return self._brokers[0].add_raw(queue, fields)

    def close(self) -> None:
        for broker in self._brokers:
            broker.close()


class RedisPlace:
    """Brokers on a server, emptied first; its clock is the machine's, so time passes by sleeping."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._brokers: list[FullBroker] = []
        self._client = redis.Redis.from_url(url)
        self._client.flushall()

    def connect(self) -> FullBroker:
        from headrace.engine.broker.redis import RedisBroker

        self._brokers.append(RedisBroker(self._url))
        return self._brokers[-1]

    def advance(self, seconds: float) -> None:
        assert seconds <= 0.3, "a test that runs on a real clock must not wait for long"
        time.sleep(seconds)

    def add_raw(self, queue: str, fields: Mapping[bytes, bytes]) -> str:
        entry = self._client.xadd(f"headrace:{{{queue}}}:jobs", dict(fields))
        return f"{queue}:{entry.decode()}"

    def close(self) -> None:
        for broker in self._brokers:
            broker.close()
        self._client.close()


def eventually(look: Callable[[], T], within_s: float = 10.0) -> T:
    """Return the first true thing that `look` returns; fail when there is none in time."""
    deadline_s = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < deadline_s, f"nothing came within {within_s} s; last seen: {seen!r}"
        time.sleep(0.005)
    return seen
