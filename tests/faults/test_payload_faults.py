"""Payloads that are too large, empty, deep or wrong: refused at admission, or dead letters; nothing stops a reader."""

import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
import redis
from adding import make_engine
from fleet import LONG, LOOPS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal import until
from lone import Lone, lone_worker
from rubbish import entry

from headrace import Engine, InvalidArguments, JobFailed, PayloadTooLarge
from headrace.config import limits
from headrace.engine.broker.port import Lease, Source
from headrace.engine.broker.redis_entries import lease_of
from headrace.engine.loops.assigner import Assigner
from headrace.engine.loops.assignment import BoundHandler, Terms
from headrace.jobs import codec
from headrace.jobs.disposition import DeadLetter, Rules, unpack_letter
from headrace.jobs.outcome import Outcome, Status
from headrace.jobs.unread import bury_unread
from headrace.workers.runner import RemoteFailure
from headrace.workers.slot import Slot
from runner_handlers import plan_of
from servers import Server

PROGRAM = Path(__file__).with_name("adding.py")
MEGABYTE = 1 << 20
WAIT_S = 60.0
#: One of each is 64 MB; more of that size at once ask for more of a busy machine's memory than of the engine.
OTHERS_BYTES = 8 * MEGABYTE
JOBS, DELAYED, DEAD = (f"headrace:{{default}}:{kind}" for kind in ("jobs", "delayed", "dead"))
SOURCE = Source("default", "w")
RULES = Rules(result_ttl_s=1, max_result_bytes=MEGABYTE)
#: Entries of one round, and of all rounds on both loops.
ROUND_COUNT = 20_000 if LONG else 2_000
CASES = 1_000_000 if LONG else 2 * ROUND_COUNT


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A client of the server."""
    with redis.Redis(unix_socket_path=server.unix_socket) as client:
        yield client


@pytest.fixture(params=LOOPS)
def worker(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[Lone]:
    """A worker on each loop."""
    with lone_worker(PROGRAM, tmp_path, server.url, request.param) as worker:
        yield worker


def deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


#: What is too large for any queue.
LARGE: dict[str, Any] = {
    "64 MB of bytes": lambda: bytes(64 * MEGABYTE),
    "text": lambda: "x" * OTHERS_BYTES,
    "a million keys": lambda: {str(number): number for number in range(1_000_000 if LONG else 150_000)},
}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", LARGE)
async def test_what_is_too_large_is_refused_at_admission(server: Server, client: redis.Redis, kind: str) -> None:
    """However it is submitted, a job larger than max_payload is refused with its size, and the server never sees it."""
    engine = Engine(server.url)

    @engine.job
    async def take(value: Any) -> None: ...

    value, before, foreign = LARGE[kind](), client.info("memory"), Engine(server.url)
    async with engine, foreign:
        for refused in (
            lambda: take.submit(value),
            lambda: take.submit_many([(1,), (value,)]),
            lambda: foreign.submit("take", (), {"value": value}),
            lambda: anyio.to_thread.run_sync(foreign.sync.submit, "take", (value,)),
        ):
            with pytest.raises(
                PayloadTooLarge, match=r"the job takes \d{1,3},\d{3},\d{3} bytes, max_payload is 1,048,"
            ):
                await refused()
        assert 0 == client.xlen(JOBS)
        assert client.info("memory")["used_memory_peak"] < before["used_memory_peak"] + 4 * MEGABYTE


@pytest.mark.anyio
async def test_what_is_empty_or_deep_is_told_from_what_is_good(server: Server, client: redis.Redis) -> None:
    """Nothing at all arrives as nothing; what is nested too deeply is refused, or is its own job's failure alone."""
    engine, foreign = Engine(server.url, drain_timeout=5), Engine(server.url)

    @engine.job
    async def take(*values: Any) -> Any:
        return list(values)

    async with engine.running(), foreign:
        for nothing in ((), (b"",), ("",), ([],), ({},), (None,), ([[], {}, ""],)):
            assert list(nothing) == await (await take.submit(*nothing)).result(timeout=WAIT_S)
        assert [deep(99)] == await (await take.submit(deep(99))).result(timeout=WAIT_S)
        for depth in (101, 100_000):
            with pytest.raises(InvalidArguments, match=r"nested more than 100 levels|cannot be packed|recursion"):
                await take.submit(deep(depth))
        with pytest.raises(InvalidArguments, match="cannot be packed"):
            await foreign.submit("take", (deep(100_000),))
        unread = [
            engine.handle(f"default:{client.xadd(JOBS, fields).decode()}")
            for fields in (
                {"name": "take", "args": "[" * 50_000 + "]" * 50_000},
                {"m": codec.pack_envelope("take", b"\x91" * 100_000 + b"\xc0")},
            )
        ]
        for handle in unread:
            with pytest.raises(JobFailed, match="malformed"):
                await handle.result(timeout=WAIT_S)
        # Between what a handler's own engine refuses and what nobody can read, it is as deep as it was sent.
        assert [deep(400)] == await (await foreign.submit("take", (deep(400),))).result(timeout=WAIT_S)
        assert [1] == await (await take.submit(1)).result(timeout=WAIT_S)


def letters(client: redis.Redis, job_ids: Sequence[str]) -> dict[str, DeadLetter]:
    """Return the dead letters that there are of these jobs."""
    found = client.mget([f"headrace:{{default}}:deadletter:{job_id}" for job_id in job_ids])
    return {job_id: unpack_letter(letter) for job_id, letter in zip(job_ids, found, strict=True) if letter}


def test_what_is_too_large_in_the_queue_is_a_dead_letter(server: Server, client: redis.Redis, worker: Lone) -> None:
    """Put there by hand, or by a producer that may send more, it ends with its size and bytes; its neighbours run."""
    engine, roomy = make_engine(server.url), Engine(server.url, max_payload="8MiB")
    blob = msgspec.msgpack.encode([bytes(64 * MEGABYTE)])
    entries = [
        {b"m": codec.pack_envelope("measure", blob)},
        {b"name": b"measure", b"args": b'["' + b"A" * OTHERS_BYTES + b'"]'},
        {b"name": b"add", b"args": b"[" + b"[]," * (OTHERS_BYTES // 3) + b"[]]"},
        {b"m": b"\xdd\x00\xff\xff\xff" * (OTHERS_BYTES // 5)},
    ]
    good, bad = [], []
    for number, fields in enumerate(entries):
        good += [engine.sync.submit("add", (number, each)) for each in range(10)]
        bad.append(f"default:{client.xadd(JOBS, fields).decode()}")
    lowered = roomy.sync.submit("measure", (bytes(2 * MEGABYTE),))
    good += [engine.sync.submit("add", (9, each)) for each in range(10)]
    sums = [number + each for number in (0, 1, 2, 3, 9) for each in range(10)]
    assert sums == [handle.result(timeout=WAIT_S) for handle in good]
    until(lambda: not client.xlen(JOBS), "the queue to be empty")
    found = letters(client, [*bad, lowered.id])
    assert {"too_large"} == {letter.reason for letter in found.values()}
    for job_id, fields in zip(bad, entries, strict=True):
        assert found[job_id].body == (fields.get(b"m") or msgspec.msgpack.encode(fields))
        assert f"the entry takes {len(found[job_id].body):,} bytes" in found[job_id].error
        assert "max_payload is 1,048,576" in found[job_id].error
    with pytest.raises(JobFailed, match=r"too_large: the entry takes 2,097,\d{3} bytes"):
        lowered.result(timeout=WAIT_S)
    assert 11 == engine.sync.submit("add", (5, 6)).result(timeout=WAIT_S)
    print(f"peak of the worker: {worker.peak_bytes // MEGABYTE} MiB")
    assert worker.peak_bytes < 1024 * MEGABYTE  # all four at once, some of them twice


def insist_on(client: redis.Redis, leases: Sequence[Lease]) -> int:
    """See that what is malformed is a dead letter with its bytes, and all else has ended; return how many were."""
    found = letters(client, [lease.job_id for lease in leases])
    asked = client.pipeline(transaction=False)
    for lease in leases:
        entry_id = lease.entry.decode()
        asked.exists(f"headrace:{{default}}:result:{lease.job_id}")
        asked.hexists(f"headrace:{{default}}:results:{entry_id[:-2]}", entry_id[-2:])
    records = sum(map(int, asked.execute()))
    malformed = 0
    for lease in leases:
        letter = found.get(lease.job_id)
        try:
            envelope = codec.unpack_envelope(lease.body) if lease.problem is None else None
        except codec.Malformed:
            envelope = None
        if envelope is None:
            malformed += 1
            assert letter is not None, lease
            if lease.moved_id is None:  # else another entry may have said that it is the same job
                assert ("malformed", lease.body) == (letter.reason, letter.body)
        elif letter is not None and lease.moved_id is None:
            assert letter.reason in ("unknown_handler", "invalid_arguments", "crashed")
            assert lease.body == letter.body
    assert records > len(leases) // 2
    return malformed


async def add(a: int, b: int = 0) -> int:
    """The handler of the program, for what needs no worker."""
    return a + b


PLAN = plan_of(add, "async")
BOUND = BoundHandler(PLAN, add, terms=Terms(timeout_s=0, ttl_ms=1000, max_deliveries=5))


@settings(max_examples=20_000 if LONG else 200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_any_entry_becomes_a_call_or_a_letter(dice: random.Random) -> None:
    """Whatever an entry holds, it is one call of a handler, whose arguments fit or not, or it is given up in words."""
    fields = entry(dice)
    lease = lease_of(SOURCE, b"1700000000000-0", [part for pair in fields.items() for part in pair])
    put: list[Outcome] = []
    batches = Assigner({"add": BOUND}, 0, MEGABYTE, put.append).assign([lease])
    assert 1 == len(put) + sum(map(len, batches.values()))
    for assignment in batches.get("async", ()):
        with contextlib.suppress(RemoteFailure):  # the arguments do not fit
            assignment.start(Slot(0)).close()
    for outcome in put:
        if outcome.status is Status.UNREADABLE:
            work = outcome.work
            buried = bury_unread(lease, lease.job_id, "default", RULES, reason=work.reason, error=work.error, now_ms=1)
            assert lease.body == unpack_letter(buried.letter).body
            assert 0 < len(work.error) < limits.ERROR_MESSAGE_MAX_CHARS


def test_rubbish_in_bulk_never_stops_the_reader(server: Server, client: redis.Redis, worker: Lone) -> None:
    """Of any number of bent entries each ends, the malformed as dead letters with their bytes, in bounded memory."""
    engine = make_engine(server.url)
    good = [engine.sync.submit("add", (number, 1)) for number in range(10)]
    assert list(range(1, 11)) == [handle.result(timeout=WAIT_S) for handle in good]
    malformed, first_bytes = 0, worker.peak_bytes
    for _ in range(CASES // ROUND_COUNT // len(LOOPS)):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        dice = random.Random(seed)
        rows = [entry(dice) for _ in range(ROUND_COUNT)]
        pipeline = client.pipeline(transaction=False)
        for fields in rows:
            pipeline.xadd(JOBS, fields)
        ids = pipeline.execute()
        late = engine.sync.submit("add", (20, 22))
        until(lambda: not client.xlen(JOBS) and not client.zcard(DELAYED), "the queue to be empty", WAIT_S)
        assert 42 == late.result(timeout=WAIT_S)
        malformed += insist_on(
            client,
            [
                lease_of(SOURCE, job_id, [part for pair in fields.items() for part in pair])
                for job_id, fields in zip(ids, rows, strict=True)
            ],
        )
        client.delete(*client.scan_iter("headrace:{default}:[dr]e*:*", count=10_000), DEAD)
    peak = (worker.peak_bytes - first_bytes) // MEGABYTE
    print(f"{malformed} of {CASES // len(LOOPS)} malformed; the worker grew by {peak} MiB")
    assert malformed > CASES // len(LOOPS) // 3
    assert [b"1"] == [each.rpartition(b":")[2] for each in client.zrange("headrace:{default}:workers", 0, -1)]
    assert peak < 200
    assert json.loads(worker.said.splitlines()[0])  # its log is still one line an event
    assert 0 == sum(line.count('"level": "error"') for line in worker.said.splitlines())
