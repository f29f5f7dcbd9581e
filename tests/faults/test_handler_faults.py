"""Handlers that raise or return anything, or do not stop: only their own job is hit, and its slot is free after it."""

import asyncio
import gc
import json
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
import trio
from fleet import LONG, LOOPS
from journal import until
from lone import Lone, lone_worker
from misbehaving import ERRORS, MEGABYTE, SLOTS, VALUES

from headrace import Engine, JobFailed, JobTimedOut, ResultUnavailable
from headrace.config import limits
from headrace.engine import inspect
from headrace.engine.broker.control import OpenBroker
from headrace.engine.handles import SyncJobHandle
from headrace.jobs.disposition import unpack_letter
from headrace.workers import native
from servers import Server, start_valkey

PROGRAM = Path(__file__).with_name("misbehaving.py")
RUNNERS = tuple(SLOTS)
WAIT_S = 60.0
TIMEOUT_S = 0.05
#: The classes of what is raised, where they are not in the name of it.
TYPES = {
    "nested groups": "ExceptionGroup",
    "long chain": "ValueError",
    "circular chain": "ValueError",
    "10 MB of notes": "ValueError",
    "10 MB of text": "ValueError",
    "10 MB of repr": "Large",
    "mute": "Mute",
    "unpicklable": "Unpicklable",
    "odd text": "ValueError",
    "closed": "Closed",
}
#: Those whose traceback cannot be made, since they refuse to be asked for it.
UNTRACED = ("mute", "closed")
#: What is said of results that are too large.
SIZES = {"too large": "takes 2,097,", "far too large": "takes 16,777,", "too many": "takes 1,"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all of these; each test leaves its queue empty."""
    with start_valkey(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module", params=LOOPS)
def worker(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lone]:
    """One worker on each loop that has to outlive all of these."""
    with lone_worker(PROGRAM, tmp_path_factory.mktemp("worker"), server.url, request.param) as worker:
        yield worker


@pytest.fixture
def engine(server: Server) -> Engine:
    """Submits."""
    return Engine(server.url)


def meet(engine: Engine, folder: Path, runner: str) -> set[int]:
    """See that all slots of a runner are free, since as many jobs meet there; return the ids of the processes."""
    place = folder / f"meeting-{runner}-{time.monotonic_ns()}"
    place.mkdir()
    count = SLOTS[runner]
    handles = [engine.sync.submit(f"meet-{runner}", (str(place), count)) for _ in range(count)]
    return {handle.result(timeout=WAIT_S) for handle in handles}


def is_stuck(broker: OpenBroker, *labels: str) -> bool:
    """Whether this, and nothing else, is what the only worker says does not stop."""
    return [labels] == [record.stuck for record in inspect.workers(broker)]


def has_one_stuck(broker: OpenBroker, runner: str) -> bool:
    """Whether all slots of a runner are there, one of them is taken, and that one is stuck."""
    pool = inspect.statistics(broker).concurrency.runners[runner]
    return (SLOTS[runner], 1, 1) == (pool.slots, pool.busy, pool.stuck)


def lines(worker: Lone) -> list[dict[str, Any]]:
    """Return what a worker said."""
    return [json.loads(line) for line in worker.said.splitlines()]


def fail(handle: SyncJobHandle[Any]) -> JobFailed:
    """Return the error that a job ended with."""
    with pytest.raises(JobFailed) as failure:
        handle.result(timeout=WAIT_S)
    return failure.value


def test_whatever_is_raised_is_its_own_jobs_failure(
    engine: Engine, worker: Lone, server: Server, tmp_path: Path
) -> None:
    """Anything that a handler raises fails its job, told in bounds; neighbours are done, and no slot is lost."""
    bad, good = {}, []
    for number, kind in enumerate(ERRORS):
        for runner in RUNNERS:
            bad[kind, runner] = engine.sync.submit(f"raise-{runner}", (kind, bool(number % 2)))
            good.append(engine.sync.submit(f"add-{runner}", (number, 1)))
    assert [number + 1 for number in range(len(ERRORS)) for _ in RUNNERS] == [
        handle.result(timeout=WAIT_S) for handle in good
    ]
    for (kind, runner), handle in bad.items():
        error = fail(handle)
        kept = TYPES.get(kind, kind.rpartition(".")[2])
        assert (kept, type(error)) == (error.error.partition(":")[0], JobFailed), f"{kind} of {runner}"
        assert len(error.error) <= limits.ERROR_MESSAGE_MAX_CHARS + len(kept) + 2
        assert "misbehaving.py" in error.traceback or kind in UNTRACED
        assert len(error.traceback) <= limits.TRACEBACK_MAX_CHARS
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        letters = client.mget([f"headrace:{{default}}:deadletter:{handle.id}" for handle in bad.values()])
        assert {"failed"} == {unpack_letter(letter).reason for letter in letters}
        assert max(map(len, letters)) < 4 * limits.TRACEBACK_MAX_CHARS
    assert len(worker.said) < MEGABYTE
    for runner in RUNNERS:
        pids = meet(engine, tmp_path, runner)
        assert (worker.process.pid in pids) == (runner != "process")


def test_what_cannot_be_kept_is_a_success_that_says_so(engine: Engine, worker: Lone, tmp_path: Path) -> None:
    """A job whose result is too large or cannot be packed has succeeded, once, and its result says why not."""
    bad, good, broker = {}, [], engine.connection.open()
    for number, kind in enumerate(VALUES):
        for runner in RUNNERS:
            bad[kind, runner] = engine.sync.submit(f"return-{runner}", (kind,))
            good.append(engine.sync.submit(f"add-{runner}", (number, 1)))
    assert [number + 1 for number in range(len(VALUES)) for _ in RUNNERS] == [
        handle.result(timeout=WAIT_S) for handle in good
    ]
    for (kind, runner), handle in bad.items():
        with pytest.raises(ResultUnavailable, match="succeeded, but") as missing:
            handle.result(timeout=WAIT_S)
        why = SIZES.get(kind, "packed" if runner != "process" else "cannot be sent back")
        assert why in str(missing.value), f"{kind} of {runner}"
        assert len(str(missing.value)) < 2 * limits.ERROR_MESSAGE_MAX_CHARS
        shown = inspect.job(broker, handle.id)
        assert ("succeeded", 1, 1) == (shown["status"], shown["attempts"], shown["deliveries"])
    for runner in RUNNERS:
        meet(engine, tmp_path, runner)


def test_what_does_not_stop_keeps_its_slot_and_no_other(engine: Engine, worker: Lone, tmp_path: Path) -> None:
    """What goes on past its timeout, in the loop or in a thread, is listed with its stack; then its slot is free."""
    gate = tmp_path / "gate"
    broker = engine.connection.open()
    for runner in ("async", "thread"):
        good = [engine.sync.submit(f"add-{runner}", (number, 1)) for number in range(20)]
        deaf = engine.sync.submit(f"deaf-{runner}", (str(gate),))
        good += [engine.sync.submit(f"add-{runner}", (number, 1)) for number in range(20)]
        until(partial(is_stuck, broker, f"deaf-{runner}"), f"deaf-{runner} to be listed")
        said = next(line for line in lines(worker) if (line["event"], line.get("runner")) == ("stuck", runner))
        assert ("timeout", f"deaf-{runner}") == (said["told"], said["handler"])
        assert f"in deaf_in_{'loop' if runner == 'async' else 'thread'}" in said["stack"]
        assert [*range(1, 21), *range(1, 21)] == [handle.result(timeout=WAIT_S) for handle in good]
        assert "running" == deaf.status()
        until(partial(has_one_stuck, broker, runner), "the statistics to show one slot busy, and that one stuck")
        gate.touch()
        with pytest.raises(JobTimedOut, match=r"its timeout is 0\.1 s"):
            deaf.result(timeout=WAIT_S)
        gate.unlink()
        meet(engine, tmp_path, runner)
        until(partial(is_stuck, broker), "nothing to be stuck")


def test_a_child_that_does_not_stop_is_killed(engine: Engine, worker: Lone, tmp_path: Path) -> None:
    """A process handler that hears no signal, in Python or in C, is killed at its timeout and its child replaced."""
    before = meet(engine, tmp_path, "process")
    notes = [tmp_path / "Python", tmp_path / "C"]
    deaf = [engine.sync.submit("deaf-process", (note.name, str(note))) for note in notes]
    good = [engine.sync.submit("add-process", (number, 1)) for number in range(10)]
    for handle in deaf:
        with pytest.raises(JobTimedOut, match=r"its timeout is 0\.3 s"):
            handle.result(timeout=WAIT_S)
    assert list(range(1, 11)) == [handle.result(timeout=WAIT_S) for handle in good]
    killed = {int(note.read_text()) for note in notes}
    assert before == killed
    for pid in killed:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not killed & meet(engine, tmp_path, "process")


def living_count() -> int:
    """Return how many coroutines the loop runs."""
    if native.on_asyncio():
        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living


@pytest.fixture
def loaded_for_good() -> Iterator[None]:
    """Do with this process what `headrace run` does with its own: a full collection would stop its loop for 100 ms."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.anyio
@pytest.mark.usefixtures("loaded_for_good")
async def test_timeouts_in_great_numbers_come_in_time(server: Server) -> None:
    """Jobs that sleep beyond their 50 ms are all stopped soon after it; no coroutine, thread or slot is left over."""
    count = 10_000 if LONG else 1_000
    namespace = f"timeouts-{'asyncio' if native.on_asyncio() else 'trio'}"
    engine = Engine(server.url, namespace=namespace, slots=100, drain_timeout=5)
    overruns_s: list[float] = []

    @engine.job(timeout=TIMEOUT_S, retry=None)
    async def oversleep() -> None:
        began_s = time.monotonic()
        try:
            await anyio.sleep_forever()
        finally:
            overruns_s.append(time.monotonic() - began_s - TIMEOUT_S)

    @engine.job
    async def add(number: int) -> int:
        await anyio.sleep(0.001)
        return number + 1

    async def add_all() -> None:
        handles = await add.submit_many((number,) for number in range(100))
        assert list(range(1, 101)) == [await handle.result(timeout=WAIT_S) for handle in handles]

    with redis.Redis(unix_socket_path=server.unix_socket) as client, anyio.fail_after(3 * WAIT_S):
        async with engine.running():
            await add_all()
            coroutines, threads = living_count(), threading.active_count()
            await oversleep.submit_many(() for _ in range(count))
            while client.zcard(f"{namespace}:{{default}}:dead") < count:
                await anyio.sleep(0.05)
            await add_all()
            errors = engine.statistics().errors
            assert (count, count, 0) == (errors.timed_out, errors.dead, errors.retried)
            while coroutines < living_count() or threads < threading.active_count():
                await anyio.sleep(0.05)  # for the coroutine and thread of a call under way
    p99_s = sorted(overruns_s)[count * 99 // 100]
    print(
        f"{count} timeouts of 50 ms: overrun p50 {sorted(overruns_s)[count // 2] * 1000:.1f}, p99 {p99_s * 1000:.1f} ms"
    )
    assert count == len(overruns_s)
    assert p99_s < (0.02 if LONG else 5.0)
