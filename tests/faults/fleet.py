"""Workers and producers as processes that a test kills, stops and starts again, as a supervisor would."""

import os
import random
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import redis
from checker import Fault, Report, check, connections, leftovers
from journal import Journal, until
from program import SLOTS, make_engine

from headrace import JobNotFound, ResultUnavailable
from headrace.config import limits
from headrace.engine.handles import SyncJobHandle
from servers import Server

PROGRAM = Path(__file__).with_name("program.py")
LOOPS = ("asyncio", "trio")
#: `make faults` asks for the counts of a release; `make test` for what a minute allows.
LONG = os.environ.get("TEST_FAULTS") == "long"
#: What is promised within a second is asserted within one by `make faults`, on a machine of its own; in `make test`,
#: where replacements start slowly beside other work, it is a deadline only.
SOON_S = 1.0 if LONG else 15.0
#: What a worker may have started and not settled: its slots, and a batch of outcomes.
IN_HAND = SLOTS + 256
#: With the server away, outcomes gather up to the bound.
IN_HAND_AWAY = SLOTS + limits.SETTLE_BACKLOG_MAX_COUNT


#: A worker's connections: reading, settling, renewing, listening, and four for all else.
CONNECTIONS_MAX = 8


class Fleet:
    """The processes of one test, on one server, with one journal; ends them by their own ids.

    Args:
        server: The server.
        folder: Where the journal and the logs go.
        lease_s: The workers' lease.
        seed: What chance depends on.
        url: How the processes reach the server; the server's own address by default.
    """

    def __init__(self, server: Server, folder: Path, lease_s: float = 1.0, seed: int = 0, url: str = "") -> None:
        self.server = server
        self.journal = Journal(folder / "journal")
        self.lease_s = lease_s
        self.seed = seed or random.randrange(1_000_000)
        self.random = random.Random(self.seed)
        self.faults: list[Fault] = []
        self.log = folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._log: IO[bytes] = self.log.open("ab")
        self._url = url or server.url
        self._numbers = count(1)
        self.engine = make_engine(server.unix_url, self.journal, lease_s)

    def __enter__(self) -> Self:
        with redis.Redis(unix_socket_path=self.server.unix_socket) as client:
            client.flushall()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._log.close()
        if error is not None:
            print(f"seed {self.seed}; the processes said:\n{self.log.read_text()[-6000:]}")

    def worker(self, loop: str, *breaks: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self._start("work", loop, *breaks)

    def workers(self) -> list[subprocess.Popen[bytes]]:
        """Start a worker on each loop, and return them once they have registered."""
        started = [self.worker(loop) for loop in LOOPS]
        with redis.Redis(unix_socket_path=self.server.unix_socket) as client:
            until(lambda: client.zcard("headrace:{default}:workers") == len(LOOPS), "workers")
        return started

    def producer(self, loop: str, milliseconds: float = 1.0) -> subprocess.Popen[bytes]:
        """Start a producer of jobs that take so long."""
        return self._start("submit", loop, str(milliseconds))

    def submit(self, name: str, jobs: int, *args: float) -> list[str]:
        """Submit jobs from here and return their ids, which are noted as acknowledged."""
        ids = []
        for _ in range(jobs):
            number = next(self._numbers)
            ids.append(self.engine.sync.submit(name, (number, *args)).id)
            self.journal.note("ok", ids[-1], number)
        return ids

    def kill(self, victim: subprocess.Popen[bytes]) -> float:
        """End a process as a crash does; return when that was."""
        victim.kill()
        victim.wait()
        killed_at_s = time.monotonic()
        self.faults.append(Fault(self.journal.size, victim.pid))
        return killed_at_s

    def strike(self, pid: int = 0) -> None:
        """Note that something was done that has hit a process; by default everybody."""
        self.faults.append(Fault(self.journal.size, pid))

    def stop(self, *processes: subprocess.Popen[bytes]) -> None:
        """End processes in order; they must end well."""
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [0] * len(processes) == [process.wait(20.0) for process in processes]

    def leave(self, *crew: subprocess.Popen[bytes]) -> None:
        """See that the server holds nothing that it should not, with these workers and after they have ended."""
        with redis.Redis(unix_socket_path=self.server.unix_socket) as client:
            # A worker that has not registered yet has not asked for its signals either, and would end by them.
            until(lambda: all(_is_registered(client, worker) for worker in crew), "each worker to register")
            until(lambda: not leftovers(client, workers=len(crew)), f"{leftovers(client, workers=len(crew))} to go")
            assert connections(client) <= CONNECTIONS_MAX * len(crew)
            self.stop(*crew)
            until(lambda: not connections(client), "the last connection to go")
            assert [] == leftovers(client, workers=0)

    def drained(self, in_hand: int = IN_HAND, patience_s: float = 60.0) -> Report:
        """Return what became of the jobs once each of them has ended, or time is up."""
        ends_s = time.monotonic() + patience_s
        while self._open() and time.monotonic() < ends_s:
            time.sleep(0.05)
        return check(self.journal, self.states(), self.faults, in_hand)

    def states(self) -> dict[str, str]:
        """Return what the server says of all acknowledged jobs."""
        return {line.subject: self.state(line.subject) for line in self.journal.lines("ok")}

    def state(self, job_id: str) -> str:
        """Return what the server says of a job."""
        try:
            return self.handle(job_id).status()
        except (JobNotFound, ResultUnavailable):
            return "gone"

    def handle(self, job_id: str) -> SyncJobHandle[Any]:
        """Return a blocking handle."""
        return SyncJobHandle(job_id, self.engine._blocking().broker)

    def _open(self) -> bool:
        ended = {line.subject for line in self.journal.lines("end")}
        left = [line.subject for line in self.journal.lines("ok") if line.subject not in ended]
        return any(self.state(job) in ("queued", "running", "delayed", "retrying") for job in left)

    def _start(self, role: str, loop: str, *more: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            str(PROGRAM),
            role,
            self._url,
            str(self.journal.path),
            loop,
            str(self.lease_s),
            *more,
        ]
        process = subprocess.Popen(command, stderr=self._log)
        self.processes.append(process)
        return process


def _is_registered(client: redis.Redis, worker: subprocess.Popen[bytes]) -> bool:
    """Return whether this very process is registered, and not one that was killed before it."""
    members = client.zrange("headrace:{default}:workers", 0, -1)
    return any(f"-{worker.pid}-" in member.decode() for member in members)  # type: ignore[union-attr]
