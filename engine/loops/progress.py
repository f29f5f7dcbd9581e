"""The board on which running jobs write how far they are, and its way to the server.

Each job's newest note wins, and all that changed goes in one call, at most every 200 ms; while nobody writes, nothing
runs. Notes come from any thread and never wait. Lossy by intent: a server that is away is not waited for.
"""

import threading
from typing import Final

import anyio

from headrace.config.logs import logger
from headrace.jobs.errors import BrokerUnavailable
from headrace.workers.runners.portal import Portal

from ..broker.control import BrokerControl
from ..broker.courier import Courier
from ..broker.views import Progress
from ..observe.seldom import Seldom

seldom = Seldom(logger("headrace.progress"))

#: How often notes go to the server.
WRITE_EVERY_S: Final = 0.2


class ProgressBoard:
    """Keeps the newest note of each job until it is written."""

    def __init__(self) -> None:
        self._news: dict[str, Progress] = {}
        self._lock = threading.Lock()
        self._portal: Portal | None = None
        self._noted = anyio.Event()

    def note(self, job_id: str, done: float, total: float | None) -> None:
        """Take a note; from any thread."""
        with self._lock:
            is_first = not self._news
            self._news[job_id] = Progress(done, total)
        if is_first and self._portal is not None:
            self._portal.post(self._wake)

    async def run(self, control: BrokerControl) -> None:
        """Write notes until cancelled, and in the end what is left."""
        self._portal = Portal.open()
        courier = Courier(control.waits)
        try:
            while True:
                self._noted = anyio.Event()
                if not self._news:
                    await self._noted.wait()
                await self._write(control, courier)
                await anyio.sleep(WRITE_EVERY_S)
        finally:
            self._portal = None
            with anyio.CancelScope(shield=True):
                await self._write(control, courier)

    async def _write(self, control: BrokerControl, courier: Courier) -> None:
        with self._lock:
            news, self._news = self._news, {}
        if not news:
            return
        try:
            await courier.call(control.progress_put, news)
        except BrokerUnavailable as error:
            seldom.warning("progress not written", jobs=len(news), error=str(error))

    def _wake(self) -> None:
        self._noted.set()
