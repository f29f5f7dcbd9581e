"""`headrace.AsyncClient`: the HTTP API from asyncio and trio, with the engine's words and the engine's errors.

It keeps connections, speaks HTTP/2 over TLS, and sends again what may be sent again. Opened at first use, in each event
loop that uses it; it owns a pool for each.
"""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel

from headrace.config import units
from headrace.jobs.errors import HeadraceError

from ..gathering import value_or_error
from . import calls, many
from .async_verbs import AsyncVerbs
from .event_reader import RemoteEvents
from .feeding import Feeding
from .options import TIMEOUT_S, client_options, httpx_module, why_lost
from .results import Gathering, RemoteResults, id_of, many_of
from .wire import Call, Lost, Pause, Reply, Send

T = TypeVar("T")


class AsyncRemoteHandle:
    """A job that was submitted over HTTP.

    Attributes:
        id: The job's id.
    """

    __slots__ = ("_client", "id")

    def __init__(self, client: "AsyncClient", job_id: str) -> None:
        self._client = client
        self.id = job_id

    def __repr__(self) -> str:
        return f"<AsyncRemoteHandle {self.id}>"

    async def status(self) -> str:
        """Return where the job is; raises JobNotFound, ResultUnavailable and BrokerUnavailable."""
        return await self._client.call(calls.status(self._client.options, self.id))

    async def result(self, timeout: calls.Span | None = None) -> Any:
        """Return what the handler returned, as JSON says it; waits through outages of the server.

        Args:
            timeout: Seconds (or a timedelta, or "30s") to wait; None waits as long as it takes.

        Raises:
            JobFailed: it failed for good, or a subclass: JobTimedOut, JobCancelled, JobExpired, JobCrashed.
            WaitTimeout: only the wait ended.
            JobNotFound: there is no such job.
            ResultUnavailable: it ended, but its value or its record was not kept.
        """
        timeout_s = None if timeout is None else units.parse_duration(timeout)
        return await self._client.call(calls.result(self._client.options, self.id, timeout_s))

    async def cancel(self) -> bool:
        """Cancel the job; False when it has ended already."""
        return await self._client.call(calls.cancel(self._client.options, self.id))


class AsyncClient(AsyncVerbs):
    """The HTTP API, from an event loop.

    ```python
    async with AsyncClient("http://127.0.0.1:8787") as client:
        handle = await client.submit("add", args=(1, 2))
        print(await handle.result(timeout=10))
    ```

    Args:
        url: Where the API is; None for HEADRACE_API, or else this machine's port 8787.
        token: The bearer token; None for HEADRACE_TOKEN, or else none.
        timeout: Seconds (or "30s") for a call with all its tries.
        verify: Whether the server's certificate is checked; an ssl.SSLContext says by what.
        transport: httpx's transport, for tests and unusual ways; None for the network.

    Raises:
        ConfigError: the extra is not installed, or an option cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: calls.Span = TIMEOUT_S,
        verify: Any = True,
        transport: Any = None,
    ) -> None:
        self.options = client_options(url, token, timeout, verify, os.environ)
        self._transport = transport
        #: httpx's clients by event loop: a connection is its loop's, and of no use to another.
        self._opened: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<AsyncClient {self.options.url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections of this event loop; the next call opens new ones."""
        with self._lock:
            http = self._opened.pop(_loop(), None)
        if http is not None:
            with anyio.CancelScope(shield=True):
                await http.aclose()

    async def submit(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        on_full: str = "wait",
        **options: Any,
    ) -> AsyncRemoteHandle:
        """Submit a job by its handler's name.

        Args:
            name: The handler's name or alias.
            args: Its positional arguments, as far as JSON goes.
            kwargs: Its arguments by name.
            idempotency_key: One job for all submissions with this key; None makes one for this call alone, so that a
                try after a lost answer adds nothing.
            on_full: "wait" tries again until the client's timeout, as long as the server says; "reject" does not.
            options: queue, delay, at, unique, timeout, expires, attempts, as the engine takes them.

        Raises:
            InvalidArguments: they do not fit the handler, or an option is wrong.
            UnknownHandler: no worker has the handler, and there are workers.
            DuplicateJob: another job has its unique key.
            PayloadTooLarge: they take more than `max_payload`.
            QueueFull: the queue is at its bound.
            BrokerUnavailable: the API or its server is away.
        """
        job = calls.job_of(name, args, kwargs, options)
        return AsyncRemoteHandle(self, await self.call(calls.submit(self.options, job, idempotency_key, on_full)))

    async def submit_many(self, name: str, items: Iterable[Sequence[Any]], **options: Any) -> list[AsyncRemoteHandle]:
        """Submit a job for each tuple of arguments, in batches of bounded size; waits while the queue is full.

        Args:
            name: The handler's name.
            items: Any iterable of argument tuples; read no further than the batch at hand.
            options: As for `submit`, without unique; and wait_timeout: how long each batch waits for room, 60 s.

        Raises:
            BatchRejected: some cannot be submitted (an InvalidArguments; it says which); all others were.
            QueueFull: the queue stayed full; those before were submitted.
            BrokerUnavailable: the server is away; the same.
        """
        ids = await self.call(many.submit_many(self.options, name, items, options))
        return [AsyncRemoteHandle(self, job_id) for job_id in ids]

    def handle(self, job_id: str) -> AsyncRemoteHandle:
        """Return a handle for a job whose id is known."""
        return AsyncRemoteHandle(self, job_id)

    def results(
        self, handles: Iterable[AsyncRemoteHandle | str], *, timeout: calls.Span | None = None, ordered: bool = False
    ) -> RemoteResults[AsyncRemoteHandle]:
        """Return an async iterator over `(handle, result)`, as the jobs end; one that failed ends nothing.

        `result.value` is what the handler returned and raises where the job failed; `result.error` says why. Of a long
        or endless iterable up to 1,000 are held at a time. Waits through outages of the server.

        Args:
            handles: Handles or ids of jobs; for an id its handle is given back.
            timeout: Seconds (or a timedelta, or "30s") to wait for all of them; None waits as long as it takes.
            ordered: Give results in the order of the handles.

        Raises:
            WaitTimeout: while reading, when some of those held had not ended in time; of these, what was known to have
                is given out before, or where they are ordered what stood before the first that had not.
            InvalidArguments: one id was given in place of many.
        """
        timeout_s = None if timeout is None else units.parse_duration(timeout)
        return RemoteResults(self.call, Gathering(self.options, handles, self.handle, timeout_s, ordered))

    async def gather(
        self,
        handles: Iterable[AsyncRemoteHandle | str],
        *,
        timeout: calls.Span | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Return the values of all these jobs, in the order of the handles.

        Args:
            handles: As for `results`.
            timeout: As for `results`.
            return_exceptions: Give the errors of jobs that failed in place of their values, instead of raising the
                first that there is; the other jobs go on either way.

        Raises:
            what `handle.result()` does, and what `results` does.
        """
        every, found = list(many_of(handles)), {}
        async for handle, result in self.results(every, timeout=timeout):
            found[handle.id] = value_or_error(result) if return_exceptions else result.value
        return [found[id_of(handle)] for handle in every]

    def events(self, after: str | None = None, queue: str | None = None) -> "RemoteEvents":
        """Return an async iterator over what happens; connects again where the connection ends.

        Leave it by `async with`, or `aclose`, where it is not read to the end of the program.

        Args:
            after: The `cursor` of the event behind which to go on; "0" for all that is kept, None for from now on.
            queue: The queue; None for all.
        """
        return RemoteEvents(self.open, Feeding(after, queue))

    async def call(self, steps: Call[T]) -> T:
        """Carry out a call."""
        heard: Reply | Lost | None = None
        try:
            while True:
                step = steps.send(heard)
                heard = await self._take(step)
        except StopIteration as end:
            value: T = end.value
            return value

    async def _take(self, step: Send | Pause) -> Reply | Lost | None:
        if isinstance(step, Pause):
            await anyio.sleep(step.seconds)
            return None
        request, httpx = step.request, httpx_module()
        params = {name: value for name, value in request.params.items() if value is not None}
        try:
            response = await self.open().request(
                request.method, request.path, params=params, content=request.content or None, headers=request.headers,
                timeout=step.timeout_s,
            )  # fmt: skip
        except httpx.TransportError as error:
            return Lost(*why_lost(error, self.options.url))
        except httpx.HTTPError as error:
            raise HeadraceError(f"the answer of {self.options.url} cannot be read: {error}") from error
        return Reply(response.status_code, dict(response.headers), response.content)

    def open(self) -> Any:
        """Return httpx's client of this event loop, which is made at first use."""
        loop = _loop()
        with self._lock:
            http = self._opened.get(loop)
            if http is None:
                self._forget_closed()
                httpx = httpx_module()
                http = self._opened[loop] = httpx.AsyncClient(
                    transport=self._transport, **self.options.for_httpx(httpx)
                )
            return http

    def _forget_closed(self) -> None:
        """Let go of what was left open in loops that have ended; asyncio's connections hold on to theirs."""
        for loop in list(self._opened):
            if hasattr(loop, "is_closed") and loop.is_closed():
                del self._opened[loop]


def _loop() -> Any:
    """Return what stands for the running event loop: asyncio's loop itself, or trio's token."""
    return anyio.lowlevel.current_token().native_token
