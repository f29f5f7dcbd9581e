"""The supervisor: starts its children, starts them again when they die, hands signals on, and ends when all have ended.

Children are started by our own command, never forked, each in a session of its own, so that Ctrl-C reaches the
supervisor alone. Each holds a leash, by which it is told to stop and learns of the supervisor's death. None outlives
it by more than its drain. All state belongs to the loop that `run` runs in.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio
import anyio.abc

from headrace.config.logs import logger

from .leash import NOW, QUIET
from .policy import YOUNG_S, ChildPlan, Ended, giving_up, is_young, pause_s

log = logger("headrace.supervisor")

#: How long children may take to end at once before they are killed.
NOW_WITHIN_S: Final = 12.0


class _Child:
    """A child that is kept: its process while there is one, and how the last one ended."""

    def __init__(self, plan: ChildPlan) -> None:
        self.plan = plan
        self.process: anyio.abc.Process | None = None
        self.leash: int | None = None
        self.began_s = 0.0
        self.starts = 0
        self.young_deaths = 0
        self.last: Ended | None = None

    @property
    def trouble(self) -> Ended | None:
        """How it ended last, unless it has started well since."""
        well = self.process is not None and time.monotonic() - self.began_s > YOUNG_S
        return None if well else self.last


class Supervisor:
    """Keeps children.

    Args:
        plans: The children.
        burst: Whether a worker that ends by itself with 0 is done.
        patience_s: How long children may take to end in order before they are killed.
    """

    def __init__(self, plans: Sequence[ChildPlan], *, burst: bool, patience_s: float) -> None:
        self._children = [_Child(plan) for plan in plans]
        self._burst = burst
        self._patience_s = patience_s
        self._code = 0
        self._order: bytes | None = None
        self._ordered = anyio.Event()
        self._hurried = anyio.Event()

    async def run(self) -> int:
        """Keep the children until a signal, the end of a burst, or a reason to give up; return the exit code."""
        async with anyio.create_task_group() as around:
            await around.start(self._listen)
            around.start_soon(self._enforce)
            async with anyio.create_task_group() as group:
                for child in self._children:
                    group.start_soon(self._keep, child)
            around.cancel_scope.cancel()
        log.info("supervisor ends", code=self._code)
        return self._code

    async def _listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            urgent = False
            async for number in signals:
                name = signal.Signals(number).name
                log.info("signal", name=name, then="stop at once" if urgent else "drain all workers")
                self._tell(NOW if urgent else QUIET)
                urgent = True

    async def _enforce(self) -> None:
        """Kill what has not ended in time."""
        await self._ordered.wait()
        with anyio.move_on_after(self._patience_s):
            await self._hurried.wait()
            await anyio.sleep(NOW_WITHIN_S)
        for child in self._children:
            if child.process is not None:
                log.error("killed", child=child.plan.name, pid=child.process.pid, why="it did not end in time")
                with suppress(ProcessLookupError):
                    child.process.kill()

    async def _keep(self, child: _Child) -> None:
        while self._order is None:
            child.began_s = time.monotonic()
            code = await self._run_once(child)
            child.last = Ended(code, time.monotonic() - child.began_s, child.starts)
            if self._order is not None:
                # Killed by the request to stop before it could obey it: nothing ran yet.
                if code not in (0, -signal.SIGTERM, -signal.SIGINT):
                    log.error("ended badly", child=child.plan.name, code=code)
                    self._code = self._code or 1
                return
            if self._is_done(child):
                return
            child.young_deaths = child.young_deaths + 1 if is_young(child.last) else 0
            wait_s = pause_s(child.young_deaths)
            log.warning("ended", child=child.plan.name, code=code, starts_again_in_s=wait_s)
            with anyio.move_on_after(wait_s):
                await self._ordered.wait()

    async def _run_once(self, child: _Child) -> int:
        """Start a child's process, wait for its end, and return its exit code."""
        theirs, ours = os.pipe()
        command = (*child.plan.command, "--leash", str(theirs))
        try:
            child.process = await anyio.open_process(
                command, stdin=subprocess.DEVNULL, stdout=None, stderr=None, pass_fds=(theirs,), start_new_session=True
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        child.leash = ours
        child.starts += 1
        log.info("started", child=child.plan.name, pid=child.process.pid)
        if self._order is not None:
            self._send(child, self._order)
        try:
            return await child.process.wait()
        finally:
            child.process = child.leash = None
            os.close(ours)

    def _is_done(self, child: _Child) -> bool:
        """Say whether a child that ended by itself is not to be started again; tells the others where that ends all."""
        assert child.last is not None
        peers = [other for other in self._children if other.plan.role == child.plan.role]
        code = giving_up([other.trouble for other in peers])
        if code is not None:
            who = f"every {child.plan.role}" if len(peers) > 1 else child.plan.name
            log.error("giving up", why=f"{who} ended at its start with exit code {code}, and says above what is wrong")
            self._code = code
            self._tell(QUIET)
            return True
        if self._burst and child.plan.role == "worker" and child.last.code == 0:
            if all(other.last is not None and other.last.code == 0 for other in peers):
                self._tell(QUIET)  # the API beside them has nothing left to serve
            return True
        return False

    def _tell(self, order: bytes) -> None:
        """Give all children an order, and start none any more."""
        self._order = order
        self._ordered.set()
        if order == NOW:
            self._hurried.set()
        for child in self._children:
            self._send(child, order)

    def _send(self, child: _Child, order: bytes) -> None:
        if child.leash is not None:
            with suppress(OSError):  # it is ending already
                os.write(child.leash, order)
