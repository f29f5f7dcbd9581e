"""celery: one producer and `apply_async` in a loop; no gossip, mingle, heartbeat, events or remote control.

The solo pool with a prefetch of 64 for handlers that do nothing, 8 threads for those that sleep; prefork 1 to 4,
threads 2 to 50 and prefetch 1 to 64 were tried. By default a job is acknowledged before its handler runs, so what a
dying worker was at is lost; the variant "late" sets `task_acks_late`. Counted: handlers' ends, then the list and the
hash of unacknowledged messages. With results: the Redis result backend.
"""

import os
import sys
from collections.abc import Sequence

from celery import Celery

from .blocking import HANDLERS as BODIES
from .plan import OTHER, RESULT_TTL_S, TEXT, About, Row, read_plan

PLAN = read_plan()
UVLOOP = False
COMMON = "apply_async in a loop, solo pool, prefetch 64 (sleep: 8 threads), no gossip, mingle, heartbeat, events"
ABOUT = About(
    packages=("celery", "kombu", "redis"),
    rows={
        "": Row(COMMON, 4_000, 4_000),
        "late": Row(f"{COMMON}; task_acks_late", 4_000, 4_000),
    },
    promise="acknowledged before it runs by default, so lost; late: kept until it has run",
    redelivery="visibility_timeout 3600 s, looked for each 100 s by default; the probe: 2 s, 1 s, prefork 10",
    redelivery_s=45,
    source="docs.celeryq.dev, User Guide, Optimizing: a prefetch of 64 or more for short tasks; celery worker --help",
    pending=(("LLEN", "celery"), ("HLEN", "unacked")),
)
#: Looked for each second, each time: by default each 10 s, each tenth time.
FAST = {"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
URL = f"redis+socket://{PLAN.socket}"
app = Celery("bench", broker=URL, backend=URL if PLAN.results else None)
app.conf.update(
    task_ignore_result=not PLAN.results, result_expires=RESULT_TTL_S, worker_enable_remote_control=False,
    worker_send_task_events=False, task_acks_late=PLAN.variant == "late", worker_hijack_root_logger=False,
    worker_prefetch_multiplier=64 if PLAN.handler == "noop" else 8, broker_connection_retry_on_startup=True,
    broker_transport_options=FAST if PLAN.redeliver_fast else {},
)  # fmt: skip
HANDLERS = {name: app.task(name=name)(body) for name, body in BODIES.items()}


class Producer:
    """Submits."""

    def open(self) -> None:
        self.producer = app.amqp.Producer(app.connection_for_write())

    def close(self) -> None:
        self.producer.close()

    def many(self, handler: str, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.one(handler, number)

    def one(self, handler: str, number: int) -> None:
        HANDLERS[handler].apply_async((number, OTHER, TEXT), producer=self.producer)


def work() -> None:
    """Become the worker, by the documented command."""
    pool = {"noop": ["solo"], "stamp": ["solo"], "sleep": ["threads", "--concurrency", "8"]}.get(
        PLAN.handler, ["prefork", "--concurrency", str(ABOUT.loss_slots)]
    )
    os.execv(sys.executable, [
        sys.executable, "-m", "celery", "--app", "peers.celery", "worker", "--pool", *pool, "--loglevel", "WARNING",
        "--without-gossip", "--without-mingle", "--without-heartbeat", "--hostname", f"{os.getpid()}@bench",
    ])  # fmt: skip
