"""rq: `enqueue_many` of 1000, SimpleWorker (no fork for each job), the JSON serializer, no job timeout.

With results: `result_ttl=500`, its default; without: `result_ttl=0`, which deletes the job at its end. Counted:
handlers' ends, then the list and the registry of started jobs. A job whose worker died runs again only if it was
enqueued with a `Retry`, 60 s after its timeout, when a worker does its maintenance (each 600 s by default).
"""

import os
import sys
from collections.abc import Sequence

from redis import Redis
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from .plan import OTHER, TEXT, About, Row, read_plan

PLAN = read_plan()
UVLOOP = False
ABOUT = About(
    packages=("rq", "redis"),
    rows={"": Row("enqueue_many of 1000, SimpleWorker, JSON, no job timeout, hiredis", 1_000, 1_000)},
    promise="kept; fails for good unless it has a Retry, then runs again",
    redelivery="timeout (180 s) + 60 s, checked each 600 s, no Retry by default; the probe: 61 s, 1 s, Retry(3)",
    redelivery_s=120,
    source="python-rq.org, Workers, and docs/benchmark.md of its repository: SimpleWorker is the fastest",
    pending=(("LLEN", "rq:queue:default"), ("ZCARD", "rq:wip:default")),
    loss_slots=1,
)
URL = f"unix://{PLAN.socket}"
OPTIONS = {
    "timeout": 1 if PLAN.redeliver_fast else -1,
    "result_ttl": 500 if PLAN.results else 0,
    "retry": Retry(max=3) if PLAN.redeliver_fast else None,
}


class Producer:
    """Submits."""

    def open(self) -> None:
        self.queue = Queue(connection=Redis(unix_socket_path=PLAN.socket), serializer=JSONSerializer)

    def many(self, handler: str, numbers: Sequence[int]) -> None:
        prepare, name = Queue.prepare_data, f"peers.blocking.{handler}"
        self.queue.enqueue_many([prepare(name, (number, OTHER, TEXT), **OPTIONS) for number in numbers])

    def one(self, handler: str, number: int) -> None:
        options = {"job_timeout": -1, "result_ttl": OPTIONS["result_ttl"]}
        self.queue.enqueue(f"peers.blocking.{handler}", args=(number, OTHER, TEXT), **options)


def work() -> None:
    """Become the worker, by the documented command."""
    fast = ["--maintenance-interval", "1", "--worker-ttl", "20"] if PLAN.redeliver_fast else []
    os.execv(sys.executable, [
        sys.executable, "-m", "rq.cli", "worker", "--worker-class", "rq.worker.SimpleWorker", "--quiet",
        "--serializer", "json", "--url", URL, *fast, "default",
    ])  # fmt: skip
