"""The blocking side of an engine, for Django, Flask and scripts: submit and wait without an event loop.

Opened at first use, safe to use from any thread, opened anew in a forked process. Inside a running event loop it
refuses and names the form to await, because it would hold up everything else in that loop.
"""

import asyncio
import atexit
import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import msgspec

from headrace.config import units
from headrace.jobs.errors import ConfigError, HeadraceError, QueueFull
from headrace.jobs.results import Decode, plain
from headrace.jobs.submission import SubmitOptions

from .broker.port import Bound, Submission
from .client import batches, new_token, refuse_duplicates, waited_too_long
from .gathering import JobResult, results_blocking, value_or_error
from .handles import Span, SyncJobHandle
from .waiting import backoffs_s

if TYPE_CHECKING:
    from .broker.control import OpenBroker
    from .connection import Connection

R = TypeVar("R")


class SyncClient:
    """Submits from threads.

    Args:
        connection: The engine's; opened at first use, closed when the process ends.
        bound: How full a queue may become.
        on_full: What to do at the bound when the submission does not say.
    """

    def __init__(self, connection: "Connection", bound: Bound, on_full: str) -> None:
        self._connection = connection
        self._bound = bound
        self._on_full = on_full
        self._lock = threading.Lock()
        self._opened_in = 0

    def broker(self) -> "OpenBroker":
        """Return the open broker.

        Raises:
            ConfigError: called inside a running event loop.
        """
        refuse_inside_a_loop()
        pid = os.getpid()
        broker = self._connection.open()
        if self._opened_in == pid:
            self._connection.close()  # opened for good before; this was one user too many
            return broker
        with self._lock:
            if self._opened_in == pid:
                self._connection.close()
            else:
                self._opened_in = pid  # for good: a script has no block to leave, so the process's end closes it
                atexit.register(self._connection.close)
        return broker

    def submit(self, queue: str, jobs: Sequence[Submission], options: SubmitOptions) -> list[str]:
        """Submit a batch and return the ids; raises what `Client.submit` does."""
        broker, token = self.broker(), new_token()
        if (options.on_full or self._on_full) == "reject":
            return refuse_duplicates(jobs, broker.publish(queue, jobs, token, self._bound))
        for pause_s in backoffs_s(options.wait_timeout_s, random.random):
            try:
                return refuse_duplicates(jobs, broker.publish(queue, jobs, token, self._bound))
            except QueueFull as error:
                if pause_s is None:
                    raise waited_too_long(error, options.wait_timeout_s) from None
                time.sleep(pause_s)
        raise AssertionError("backoffs_s ends with None")

    def submit_many(
        self, queue: str, jobs: Iterable[Submission], options: SubmitOptions, decode: Decode = plain
    ) -> list[SyncJobHandle[Any]]:
        """Submit jobs in batches of bounded size; waits while the queue is full unless told to reject."""
        handles: list[SyncJobHandle[Any]] = []
        patient = options if options.on_full else replace_on_full(options)
        for batch in batches(jobs, self._bound):
            handles += self.handles(self.submit(queue, batch, patient), decode)
        return handles

    def handles(self, ids: Iterable[str], decode: Decode = plain) -> list[SyncJobHandle[Any]]:
        """Return handles for ids."""
        return [SyncJobHandle(job_id, self.broker, decode) for job_id in ids]


class SyncEngine:
    """`engine.sync`: submission by name and the results of many jobs, blocking.

    Args:
        submit_by_name: The engine's.
        broker: Opens the broker.
    """

    __slots__ = ("_broker", "_submit_by_name")

    def __init__(self, submit_by_name: Callable[..., SyncJobHandle[Any]], broker: Callable[[], "OpenBroker"]) -> None:
        self._submit_by_name = submit_by_name
        self._broker = broker

    def submit(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> SyncJobHandle[Any]:
        """Submit a job by its handler's name; the blocking twin of `Engine.submit`."""
        return self._submit_by_name(name, args, kwargs or {}, options)

    def results(
        self, handles: Iterable[SyncJobHandle[R]], *, timeout: Span | None = None, ordered: bool = False
    ) -> Iterator[tuple[SyncJobHandle[R], JobResult[R]]]:
        """Return an iterator over `(handle, result)`, as the jobs end; the blocking twin of `Engine.results`."""
        timeout_s = None if timeout is None else units.parse_duration(timeout)
        return results_blocking(self._broker(), handles, timeout_s, ordered)

    @overload
    def gather(
        self,
        handles: Iterable[SyncJobHandle[R]],
        *,
        timeout: Span | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[R]: ...
    @overload
    def gather(
        self, handles: Iterable[SyncJobHandle[R]], *, timeout: Span | None = None, return_exceptions: bool
    ) -> list[R | HeadraceError]: ...
    def gather(
        self, handles: Iterable[SyncJobHandle[R]], *, timeout: Span | None = None, return_exceptions: bool = False
    ) -> Any:
        """Return the values of all these jobs, in the order of the handles; the blocking twin of `Engine.gather`."""
        every, found = list(handles), {}
        timeout_s = None if timeout is None else units.parse_duration(timeout)
        with contextlib.closing(results_blocking(self._broker(), every, timeout_s, ordered=False)) as reader:
            for handle, result in reader:
                found[handle.id] = value_or_error(result) if return_exceptions else result.value
        return [found[handle.id] for handle in every]


def replace_on_full(options: SubmitOptions) -> SubmitOptions:
    """Return the options of a submission of many, which waits unless it was told otherwise."""
    return msgspec.structs.replace(options, on_full="wait")


def refuse_inside_a_loop() -> None:
    """Raise ConfigError when this thread runs an event loop."""
    library = _loop_of_this_thread()
    if library:
        raise ConfigError(
            f"the blocking form was called inside a running {library} event loop, which it would hold up: "
            f"await the form without .sync, such as `await add.submit(1, 2)`"
        )


def _loop_of_this_thread() -> str:
    """Return the name of the library whose loop this thread runs, "" for none.

    Asked of the libraries: context variables, as sniffio has them, follow a call into threads that run no loop.
    """
    in_trio_run = getattr(sys.modules.get("trio.lowlevel"), "in_trio_run", None)  # not imported: it runs nothing
    if in_trio_run is not None and in_trio_run():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return ""
    return "asyncio"
