"""Introducing: what a worker says of itself to everyone, again and again: who it is, what it can run, how it does.

What stays the same is put together once. Pure apart from reading this machine's name; the worker that owns it asks for
the record whenever it reports.
"""

import os
import secrets
import socket
import time
from collections.abc import Iterable

from headrace.jobs.handler import HandlerPlan

from ..observe.fleet import FleetRecord, WorkerState
from ..observe.report import WorkerReport
from .gauges import card_of


class Introduction:
    """One worker's word of itself.

    Args:
        queues: The queues that it reads.
        plans: Its handlers.
        version: headrace's version.

    Attributes:
        worker: The worker's id, unique for each run of a process.
    """

    def __init__(self, queues: Iterable[str], plans: Iterable[HandlerPlan], version: str) -> None:
        host = socket.gethostname()
        self.worker = f"{host[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
        self._host = host
        self._queues = tuple(queues)
        self._cards = {plan.name: card_of(plan) for plan in plans}
        self._version = version
        self._started_at_ms = time.time_ns() // 1_000_000

    @property
    def handlers(self) -> list[str]:
        """The handlers' names."""
        return sorted(self._cards)

    def to_bytes(self, report: WorkerReport, *, stuck: Iterable[str], fetch_age_s: float, state: WorkerState) -> bytes:
        """Return the record of now, packed.

        Args:
            report: How it is doing.
            stuck: Labels of jobs that go on although they were told to stop.
            fetch_age_s: Seconds since it last asked for jobs, or was last held back by full pools.
            state: What it is about.
        """
        return FleetRecord(
            worker=self.worker,
            host=self._host,
            pid=os.getpid(),
            started_at_ms=self._started_at_ms,
            version=self._version,
            queues=self._queues,
            handlers=self._cards,
            stuck=tuple(stuck),
            report=report,
            fetch_age_s=fetch_age_s,
            stopping=state == "stopping",
            quiet=state == "quiet",
        ).to_bytes()
