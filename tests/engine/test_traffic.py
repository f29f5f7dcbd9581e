"""What a process moved is counted: to and from servers, to files, and the waits for disks."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from headrace import Engine
from headrace.engine.broker.port import Bound, Submission
from headrace.engine.broker.redis import RedisBroker
from headrace.engine.traffic import WINDOW_S, Traffic, moved
from headrace.jobs.codec import EnvelopeOptions, pack_envelope
from servers import Server, start_valkey

WAIT_S = 20.0
BIG = 200_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for this file."""
    with start_valkey(tmp_path_factory.mktemp("traffic")) as server:
        yield server


def test_threads_that_count_at_once_lose_nothing() -> None:
    """Four threads that count 20,000 times each are all in the sums."""
    traffic = Traffic()

    def count() -> None:
        for _ in range(20_000):
            traffic.receive(3)
            traffic.send(2)
            traffic.write(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (240_000, 160_000, 80_000) == (traffic.received_bytes, traffic.sent_bytes, traffic.written_bytes)


def test_the_longest_wait_is_of_the_last_minute() -> None:
    """It is remembered for 60 seconds, and a slot that is used again after an hour does not hold what was there."""
    traffic = Traffic()
    assert traffic.longest_wait_s(1000.0) is None
    for now_s, took_s in ((1000.2, 0.002), (1000.4, 0.005), (1000.6, 0.001), (1030.0, 0.003)):
        traffic.confirm(now_s, took_s)
    assert 0.005 == traffic.longest_wait_s(1031.0)
    assert 0.003 == traffic.longest_wait_s(1001.0 + WINDOW_S)
    assert traffic.longest_wait_s(1031.0 + WINDOW_S) is None
    traffic.confirm(1000.0 + 64 * 60, 0.0005)
    assert 0.0005 == traffic.longest_wait_s(1000.0 + 64 * 60)


def test_a_forked_child_begins_at_nought() -> None:
    """Also where another thread was counting at that moment, and had the lock."""
    moved.send(1)
    with moved._lock:
        child = os.fork()
        if not child:
            moved.receive(7)
            os._exit(0 if (7, 0) == (moved.received_bytes, moved.sent_bytes) else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.redis_core
@pytest.mark.parametrize("scheme", ["url", "unix_url"])
def test_bytes_of_connections_are_counted(server: Server, scheme: str) -> None:
    """What is submitted goes out once, what is looked up comes in once, and no more than a little beside it."""
    broker = RedisBroker(getattr(server, scheme))
    body = pack_envelope("add", b"\x91" + b"\xc6" + BIG.to_bytes(4, "big") + bytes(BIG), b"\x80", EnvelopeOptions())
    try:
        broker.publish("q", [Submission(pack_envelope("add"))], f"first-{scheme}", Bound())  # now it knows the scripts
        sent, received = moved.sent_bytes, moved.received_bytes
        (job_id,) = broker.publish("q", [Submission(body)], f"traffic-{scheme}", Bound())
        assert BIG <= moved.sent_bytes - sent <= BIG + 20_000
        assert moved.received_bytes - received <= 20_000
        received = moved.received_bytes
        (view,) = broker.lookup([job_id])
        assert view is not None
        assert BIG <= moved.received_bytes - received <= BIG + 20_000
    finally:
        broker.close()


@pytest.mark.anyio
@pytest.mark.redis_core
async def test_a_worker_tells_what_it_moved(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its statistics have the bytes of its connections and of its sink's file, and how long the disk took."""
    path = tmp_path / "outcomes.ndjson"
    engine = Engine(
        server.url, namespace=f"traffic-{os.urandom(4).hex()}", log_outcomes=str(path), file={"fsync": "always"}
    )

    @engine.job
    async def echo(text: str) -> str:
        return text

    monkeypatch.setattr(moved, "_longest", [(0, 0.0)] * 64)  # other tests waited for disks too
    written = moved.written_bytes
    async with engine.running():
        before = engine.statistics().process
        assert "x" * BIG == await (await echo.submit("x" * BIG)).result(timeout=WAIT_S)
        with anyio.fail_after(WAIT_S):
            while engine.statistics().process.fsync_ms is None:  # the last that is counted
                await anyio.sleep(0.01)
        after = engine.statistics().process
    assert path.stat().st_size == moved.written_bytes - written
    # There and back, to the worker and to the waiter.
    assert 2 * BIG <= after.net_in_bytes - before.net_in_bytes
    assert 2 * BIG <= after.net_out_bytes - before.net_out_bytes
    assert path.stat().st_size <= after.disk_written_bytes
    assert 0 < (after.fsync_ms or 0)
