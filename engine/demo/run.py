"""Runs the demo: an engine on a server of its own, a job a file, workers in this process, and every job accounted for.

It promises that the user's own jobs and server are never touched, whatever is configured, and that nothing is left
running. SIGINT, SIGTERM or SIGHUP ends it in order, a second one at once. It prints nothing: `show` is told.
"""

import importlib.util
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import anyio
import anyio.abc
import msgspec

from headrace.config import mask_url
from headrace.jobs.errors import ConfigError, HeadraceError, JobFailed, JobNotFound, ResultUnavailable, WaitTimeout

from ..handles import JobHandle
from ..runtime import Engine
from ..sinks.lines import OutcomeLine
from .corpus import Corpus
from .indexer import IndexedFile, index_file
from .page import Setting
from .place import Place, claim
from .summary import JobEnd, Summary, summarize

T = TypeVar("T")

#: Parsing the largest file that is parsed at all takes some ten seconds.
JOB_TIMEOUT_S: Final = 120.0
#: Without any outcome for so long, what is missing is lost: a job's whole time, and a lease to be taken over.
STALLED_S: Final = JOB_TIMEOUT_S + 60.0
#: How often the progress is looked at; the end is seen this much too late at most.
LOOK_S: Final = 0.02
#: Results asked for together: one question to the server.
RESULTS_COUNT: Final = 500
#: How long to ask for results once nothing has happened for long: what is not there then will not come.
ASKED_S: Final = 5.0
#: Long enough for any folder; the data are deleted at the end.
KEPT: Final = "1d"


class Interrupted(HeadraceError):
    """A signal ended the demo before its last job: nobody's fault; run it again."""

    exit_code = 130  #: 128 + SIGINT: what shells expect of Ctrl-C


class Finished(msgspec.Struct, frozen=True):
    """A demo that came to its end.

    Attributes:
        summary: Its figures.
        setting: Where they come from.
    """

    summary: Summary
    setting: Setting


def run(corpus: Corpus, loop: str | None, show: Callable[[int], None], *, url: str | None = None) -> Finished:
    """Index the files and return the figures.

    Args:
        corpus: The files.
        loop: "asyncio", "uvloop" or "trio"; None leaves it to the settings.
        show: Called every now and then with the number of jobs that have ended.
        url: What the user asked for as the server; only memory:// will do.

    Raises:
        ConfigError: another url, no server to embed, no folder to write to, or a wrong setting.
        Interrupted: by a signal; says how far it came.
    """
    if url is not None and not url.startswith("memory:"):
        raise ConfigError(
            f"the demo runs on a server of its own, so that it never touches your jobs, and not on {mask_url(url)}: "
            "leave --url out, or use --url memory:// to run it without a server"
        )
    with claim(os.environ) as place:
        engine = Engine()
        wanted = url or engine.settings.url or ""
        in_memory = wanted.startswith("memory:")
        engine.configure(
            # memory:// touches nobody's jobs, and is for machines without a server to embed.
            url=wanted if in_memory else f"embedded://{place.data}",
            namespace="headrace-demo",
            log_outcomes=str(place.outcome_log),
            result_ttl=KEPT,
            max_queue_length=0,
            max_payload="1MiB",
            max_result="16MiB",
        )
        name = loop or engine.settings.loop
        ends, elapsed_s = run_on(name, _Demo(engine, corpus, place, show).run)
        setting = Setting(
            root=os.path.join(corpus.root, ""),
            loop=name,
            processes=engine.settings.process_slots_resolved,
            server="jobs in memory" if in_memory else "embedded server",
            outcome_log=str(place.outcome_log),
        )
        return Finished(summarize(ends, _read_log(place), elapsed_s), setting)


class _Demo:
    """One run: its engine and how far it is."""

    def __init__(self, engine: Engine, corpus: Corpus, place: Place, show: Callable[[int], None]) -> None:
        self._engine = engine
        self._index = engine.job(runner="process", timeout=JOB_TIMEOUT_S, retry=None)(index_file)
        self._paths = corpus.paths
        self._place = place
        self._show = show
        self._done = 0
        self._signal = ""

    async def run(self) -> tuple[list[JobEnd], float]:
        """Return what became of every job, and the seconds from the first submission to the last result."""
        ends: list[JobEnd] = []
        elapsed_s = 0.0
        waiting = anyio.CancelScope()
        try:
            async with anyio.create_task_group() as group:
                await group.start(self._watch_signals, waiting, group.cancel_scope)
                async with self._engine.running():
                    with waiting:  # inside: leaving it early lets the workers end in order
                        self._show(0)
                        began_s = time.monotonic()
                        handles = await self._index.submit_many((path,) for path in self._paths)
                        within_s = STALLED_S if await self._follow(len(handles)) else ASKED_S
                        ends = await self._collect(handles, within_s)
                        elapsed_s = time.monotonic() - began_s
                group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        if self._signal:
            raise Interrupted(
                f"stopped by {self._signal} after {self._done:,} of {len(self._paths):,} files; nothing is left "
                f"running, and what had ended is in {self._place.outcome_log}"
            )
        return ends, elapsed_s

    async def _watch_signals(
        self,
        waiting: anyio.CancelScope,
        everything: anyio.CancelScope,
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        with anyio.open_signal_receiver(*_signals()) as signals:
            task_status.started()
            async for number in signals:
                if self._signal:
                    everything.cancel()
                self._signal = signal.Signals(number).name
                waiting.cancel()

    async def _follow(self, count: int) -> bool:
        """Tell how far it is until there are as many outcomes as jobs; False when nothing has happened for long.

        A job whose process crashed is run again and has two: the last jobs may still be running at the end.
        """
        sink = f"file:{self._place.outcome_log}"
        moved_s = time.monotonic()
        while self._done < count and time.monotonic() - moved_s < STALLED_S:
            await anyio.sleep(LOOK_S)
            written = self._engine.statistics().backpressure.sinks[sink].written
            if written != self._done:
                self._done, moved_s = written, time.monotonic()
                self._show(min(written, count))
        return self._done >= count

    async def _collect(self, handles: Sequence[JobHandle[IndexedFile]], within_s: float) -> list[JobEnd]:
        """Return what became of each job; only so many are asked for at a time."""
        ends: list[JobEnd] = []
        for start in range(0, len(handles), RESULTS_COUNT):
            stop = start + RESULTS_COUNT
            part = list(zip(handles[start:stop], self._paths[start:stop], strict=True))
            found: dict[str, JobEnd] = {}

            async def ask(handle: JobHandle[IndexedFile], path: str, found: dict[str, JobEnd] = found) -> None:
                found[handle.id] = await _end_of(handle, path, within_s)

            async with anyio.create_task_group() as group:
                for handle, path in part:
                    group.start_soon(ask, handle, path)
            ends += [found[handle.id] for handle, _ in part]
        return ends


def run_on(loop: str, function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function on an event loop by its name.

    Raises:
        ConfigError: uvloop is not installed.
    """
    if loop == "trio":
        return anyio.run(function, backend="trio")
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise ConfigError("uvloop is not installed: run `pip install 'headrace[uvloop]'`, or choose --loop asyncio")
    return anyio.run(function, backend="asyncio", backend_options={"use_uvloop": loop == "uvloop"})


def _signals() -> list[signal.Signals]:
    """Return the signals that end the demo; a closed terminal is one, unless whoever started us said `nohup`."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hang_up]


async def _end_of(handle: JobHandle[IndexedFile], path: str, within_s: float) -> JobEnd:
    try:
        return JobEnd(handle.id, path, file=await handle.result(within_s))
    except JobFailed as error:
        return JobEnd(handle.id, path, error=error.error or str(error))
    except (JobNotFound, ResultUnavailable, WaitTimeout):
        return JobEnd(handle.id, path)  # counted as lost


def _read_log(place: Place) -> list[OutcomeLine]:
    decode = msgspec.json.Decoder(OutcomeLine).decode
    try:
        with place.outcome_log.open("rb") as file:
            return [decode(line) for line in file]
    except FileNotFoundError:
        return []


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that a user is to see: the first of headrace's own, else the first."""
    leaves: list[BaseException] = []
    ahead: list[BaseException] = [errors]
    while ahead:
        error = ahead.pop(0)
        if isinstance(error, BaseExceptionGroup):
            ahead += error.exceptions
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, HeadraceError)), leaves[0])
