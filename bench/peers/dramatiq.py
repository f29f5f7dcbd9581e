"""dramatiq: `send` in a loop, one process, only the Retries middleware (and Results, where they are kept).

16 threads for handlers that do nothing, 64 for those that sleep, 8 for lone jobs; 1 to 64 were tried. Counted:
handlers' ends, then the hash of messages, from which an acknowledged one is deleted. Messages of a process that died go
back when its heartbeat is `heartbeat_timeout` old (60 s by default) and another process does maintenance (by chance, in
1 of 1,000 commands by default).
"""

import os
import sys
import time
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware, Retries
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from .marks import marks
from .plan import OTHER, RESULT_TTL_S, SLEEP_S, SLOW_S, TEXT, About, Row, read_plan

PLAN = read_plan()
UVLOOP = False
ABOUT = About(
    packages=("dramatiq", "redis"),
    rows={"": Row("send in a loop, 1 process, 16 threads (sleep 64, lone 8), Retries only, hiredis", 12_000, 12_000)},
    promise="kept until it is acknowledged; runs again",
    redelivery="heartbeat_timeout 60 s, maintenance by chance by default; the probe sets 2 s and always",
    redelivery_s=30,
    source="dramatiq --help: --processes, --threads; dramatiq.io, Reference: middleware, RedisBroker",
    pending=(("HLEN", "dramatiq:default.msgs"),),
)
THREADS = {"noop": 16, "sleep": 64, "stamp": 8, "slow": ABOUT.loss_slots}[PLAN.handler]
URL = f"unix://{PLAN.socket}"
middleware: list[Middleware] = [Retries()]
if PLAN.results:
    middleware.append(Results(backend=RedisBackend(url=URL), store_results=True, result_ttl=RESULT_TTL_S * 1000))
fast = {"heartbeat_timeout": 2_000, "maintenance_chance": 1_000_000} if PLAN.redeliver_fast else {}
broker = RedisBroker(url=URL, middleware=middleware, **fast)
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(number: int, other: int, text: str) -> int | None:
    marks.done()
    return number if PLAN.results else None


@dramatiq.actor
def sleep(number: int, other: int, text: str) -> int | None:
    time.sleep(SLEEP_S)
    marks.done()
    return number if PLAN.results else None


@dramatiq.actor
def stamp(number: int, other: int, text: str) -> None:
    marks.stamp(number)


@dramatiq.actor
def slow(number: int, other: int, text: str) -> None:
    marks.begin(number)
    time.sleep(SLOW_S)
    marks.end(number)


HANDLERS = {"noop": noop, "sleep": sleep, "stamp": stamp, "slow": slow}


class Producer:
    """Submits."""

    def many(self, handler: str, numbers: Sequence[int]) -> None:
        send = HANDLERS[handler].send
        for number in numbers:
            send(number, OTHER, TEXT)

    def one(self, handler: str, number: int) -> None:
        HANDLERS[handler].send(number, OTHER, TEXT)


def work() -> None:
    """Become the worker, by the documented command."""
    os.execv(sys.executable, [
        sys.executable, "-m", "dramatiq", "peers.dramatiq", "--processes", "1", "--threads", str(THREADS),
    ])  # fmt: skip
