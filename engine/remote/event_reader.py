"""Events over HTTP in an event loop: an async iterator that connects again, and lets go of its connection when left.

An iterator of its own, not an async generator: one that is left behind would be ended by the loop whenever it likes. It
owns the response that it reads.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import anyio

from headrace.jobs.events import Event

from .feeding import Feeding
from .options import httpx_module
from .wire import Reply


class RemoteEvents:
    """What happens, as the API tells it.

    Args:
        open_http: Returns httpx's client.
        feeding: What is known of the streams before.
    """

    def __init__(self, open_http: Callable[[], Any], feeding: Feeding) -> None:
        self._open = open_http
        self._feeding = feeding
        self._ready: deque[Event] = deque()
        self._response: Any = None
        self._pieces: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> Event:
        """Return the next event; raises InvalidArguments and ConfigError where the request is refused for good."""
        httpx = httpx_module()
        while not self._ready:
            try:
                if self._pieces is None:
                    await self._connect()
                if self._pieces is not None:
                    piece = await anext(self._pieces, None)
                    if piece is not None:
                        self._ready += self._feeding.take(piece)
                        continue
            except httpx.TransportError:
                self._feeding.lost()
            await self.aclose()
            await anyio.sleep(self._feeding.pause_s())
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Let go of the connection; reading on opens another, and goes on where it was."""
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _connect(self) -> None:
        http = self._open()
        request = http.build_request("GET", "/v1/events", **self._feeding.request())
        self._response = response = await http.send(request, stream=True)
        if response.status_code == 200:
            self._pieces = response.aiter_raw()
        else:
            self._feeding.refused(Reply(response.status_code, dict(response.headers), await response.aread()))
