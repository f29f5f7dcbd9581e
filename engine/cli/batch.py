"""`headrace submit --batch`: one job a line, from a file of any length with bounded memory, in batches for each queue.

A bad line is reported by its number and skipped; the others are submitted. A full queue makes it wait. Owns what is
gathered and not yet sent.
"""

import math
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from headrace.config import limits
from headrace.jobs import codec
from headrace.jobs.errors import DuplicateJob, HeadraceError, QueueFull, UnknownHandler
from headrace.jobs.ids import check_queue
from headrace.jobs.submission import SubmitOptions

from .. import inspect
from ..broker.port import Submission
from ..broker.views import BrokerViews
from ..observe.fleet import HandlerCard
from ..packing import bound_of, submission_of
from ..synchronous import SyncClient
from .lines import lines
from .opening import opened_connection
from .output import print_json

#: Bytes gathered for all queues together before they are sent, however few jobs they are.
_GATHERED_MAX_BYTES: Final = 8 * 1024 * 1024
#: Jobs gathered for all queues together; a file with a queue for each job must not be held in memory.
_GATHERED_MAX_COUNT: Final = 10 * limits.SUBMIT_BATCH_COUNT
#: How often, at the most, the workers are asked anew about a name that none had.
_ASK_AGAIN_S: Final = 1.0
_BAD_LINES_EXIT_CODE: Final = 2
_PLAIN: Final = SubmitOptions()
_IMPATIENT: Final = SubmitOptions(on_full="reject")
#: As long as it takes: whoever submits a file watches it, and Ctrl-C ends it.
_PATIENT: Final = SubmitOptions(on_full="wait", wait_timeout_s=math.inf)


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a batch file."""

    name: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: str | None = None


class Summary(msgspec.Struct):
    """How many lines became jobs, and how many did not."""

    accepted: int = 0
    rejected: int = 0


class KnownHandlers:
    """What the workers publish, asked anew when a name is missing.

    Args:
        views: Whom to ask.
        allow_unknown: Whether a name may be unknown to all of them.
    """

    def __init__(self, views: BrokerViews, *, allow_unknown: bool) -> None:
        self._views = views
        self._allow_unknown = allow_unknown
        self._cards: dict[str, HandlerCard] = {}
        self._asked_s: float | None = None

    def card(self, name: str) -> HandlerCard | None:
        """Return a handler's card; None where there is none to check against.

        Raises:
            UnknownHandler: workers are there, and none has it.
        """
        now_s = time.monotonic()
        if name not in self._cards and (self._asked_s is None or now_s - self._asked_s > _ASK_AGAIN_S):
            self._asked_s = now_s
            self._cards = inspect.handlers(self._views)
        if name not in self._cards and self._cards and not self._allow_unknown:
            raise UnknownHandler(f"no running worker has a handler called {name!r}; --allow-unknown submits it")
        return self._cards.get(name)

    @property
    def nobody_there(self) -> bool:
        """Whether no worker has published anything."""
        return not self._cards


class Parser:
    """From a line to a queue and an envelope.

    Args:
        known: What the workers publish.
        default_queue: Where jobs go whose line does not say; None for where their handler's worker says.
        max_payload_bytes: The most that an envelope may take.
    """

    def __init__(self, known: KnownHandlers, default_queue: str | None, max_payload_bytes: int) -> None:
        self.longest_bytes = max_payload_bytes * codec.JSON_FACTOR
        self._known = known
        self._default_queue = default_queue
        self._max_payload_bytes = max_payload_bytes
        self._decode = msgspec.json.Decoder(Line).decode

    def parse(self, text: bytes) -> tuple[str, Submission]:
        """Return where the job goes, and the job.

        Raises:
            HeadraceError, ValueError: the line is no job; says why.
        """
        if len(text) > self.longest_bytes:
            raise ValueError(f"longer than {self.longest_bytes:,} bytes, so the job would be larger than max_payload")
        line = self._decode(text)
        card = self._known.card(line.name)
        if card is not None:
            inspect.check_arguments(line.name, card, line.args, line.kwargs)
        call, rule = codec.pack_call(line.name, line.args, line.kwargs), card.rule if card is not None else None
        job = submission_of(line.name, call, _PLAIN, self._max_payload_bytes, rule)
        queue = self._default_queue if line.queue is None else check_queue(line.queue)
        return queue or (card.queue if card is not None else "default"), job


class Gathering:
    """Jobs by queue, sent in batches.

    Args:
        client: Sends them.
        batch_count: Jobs in a batch.
        summary: Where accepted jobs are counted.
    """

    def __init__(self, client: SyncClient, batch_count: int, summary: Summary) -> None:
        self._client = client
        self._batch_count = batch_count
        self._summary = summary
        self._waiting: dict[str, list[Submission]] = {}
        self._count = self._bytes = 0
        self._said_full = False

    def add(self, queue: str, job: Submission) -> None:
        """Take a job; sends what is due.

        Raises:
            DuplicateJob: another job has its unique key; then it was not submitted, and those before it were.
        """
        if job.unique and queue in self._waiting:  # it goes alone, so that a duplicate is a bad line of its own
            self._send(queue)
        waiting = self._waiting.setdefault(queue, [])
        waiting.append(job)
        self._count += 1
        self._bytes += len(job.body)
        if self._bytes >= _GATHERED_MAX_BYTES or self._count >= _GATHERED_MAX_COUNT:
            self.send_all()
        elif job.unique or len(waiting) >= self._batch_count:
            self._send(queue)

    def send_all(self) -> None:
        """Send everything gathered; waits while a queue is full."""
        for queue in list(self._waiting):
            self._send(queue)

    def _send(self, queue: str) -> None:
        jobs = self._waiting.pop(queue)
        try:
            self._client.submit(queue, jobs, _IMPATIENT)
        except QueueFull as error:
            if not self._said_full:
                self._said_full = True
                click.echo(f"headrace: waiting for room: {error}", err=True)
            self._client.submit_many(queue, jobs, _PATIENT)  # in smaller batches where the bound is small
        finally:
            self._count -= len(jobs)
            self._bytes -= sum(len(job.body) for job in jobs)
        self._summary.accepted += len(jobs)


def submit_file(path: str, queue: str | None, *, allow_unknown: bool) -> None:
    """Submit a job for each line of a file, or of stdin for "-", and print a summary; exit code 2 when a line was bad.

    Args:
        path: The file.
        queue: Where jobs go whose line does not say; None for where their handler's worker says.
        allow_unknown: Whether names that no worker knows are taken.
    """
    default_queue = None if queue is None else check_queue(queue)
    summary = Summary()
    with _opened(path) as descriptor, opened_connection() as (settings, connection):
        client = SyncClient(connection, bound_of(settings), "wait")
        known = KnownHandlers(client.broker(), allow_unknown=allow_unknown)
        # A batch is taken whole or not at all, so one that is larger than the queue would never fit.
        batch_count = min(limits.SUBMIT_BATCH_COUNT, settings.max_queue_length or limits.SUBMIT_BATCH_COUNT)
        gathering = Gathering(client, batch_count, summary)
        parser = Parser(known, default_queue, settings.max_payload_bytes)
        try:
            with _progress(descriptor, summary) as advance:
                _submit_lines(descriptor, gathering, summary, parser, advance)
                gathering.send_all()
        finally:
            if known.nobody_there and summary.accepted and not allow_unknown:
                click.echo("headrace: no worker is running, so names and arguments were not checked", err=True)
            print_json(summary)
    if summary.rejected:
        sys.exit(_BAD_LINES_EXIT_CODE)


def _submit_lines(
    descriptor: int, gathering: Gathering, summary: Summary, parser: Parser, advance: Callable[[int], None]
) -> None:
    number = 0
    for text in lines(descriptor, parser.longest_bytes):
        if text is None:
            gathering.send_all()
            continue
        number += 1
        advance(len(text) + 1)
        if not text.strip():
            continue
        try:
            queue, job = parser.parse(text)
        except (HeadraceError, ValueError, RecursionError) as error:
            summary.rejected += 1
            click.echo(f"headrace: line {number}: {error}", err=True)
            continue
        try:
            gathering.add(queue, job)
        except DuplicateJob as error:
            summary.rejected += 1
            click.echo(f"headrace: line {number}: {error}", err=True)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    if path == "-":
        yield sys.stdin.fileno()
        return
    with Path(path).open("rb", buffering=0) as file:
        yield file.fileno()


@contextmanager
def _progress(descriptor: int, summary: Summary) -> Iterator[Callable[[int], None]]:
    """Show on stderr, if that is a terminal, how far it is; give what to call with the bytes that were read."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    status = os.fstat(descriptor)
    total = status.st_size if stat.S_ISREG(status.st_mode) else None
    shown = "{task.fields[accepted]:,} jobs, {task.fields[rejected]:,} bad lines"
    columns = (BarColumn(), TaskProgressColumn(), TextColumn(shown), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("submitting", total=total, accepted=0, rejected=0)

        def advance(count_bytes: int) -> None:
            progress.update(bar, advance=count_bytes, accepted=summary.accepted, rejected=summary.rejected)

        yield advance
        progress.update(bar, completed=total, accepted=summary.accepted, rejected=summary.rejected)
