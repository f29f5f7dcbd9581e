"""Herds, storms and floods: a million jobs due at once, a target that is down, a producer faster than its workers."""

import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest
from fleet import LONG, LOOPS
from journal import until
from load_scene import Load, Pings, Samples, quantiles_ms, waited_for_core_s
from loaded import BATCH_COUNT, OTHER, RETRY_MAX_S, SLOTS

from servers import Server

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory and files are read from /proc"),
    pytest.mark.alone,
]

#: Jobs that are due at once, and seconds for submitting them before they are.
HERD_COUNT, HERD_AHEAD_S = (1_000_000, 150.0) if LONG else (10_000, 2.5)
#: How long the herd may take: some 20,000 jobs a second are done on two cores, 2,000 on a busy machine.
HERD_PATIENCE_S = 30.0 + HERD_COUNT / 2_000
#: How late a live job may start beside the herd. A worker has 100 ms of work waiting in the queue, 40 ms in hand, and
#: what it settles; without pacing it would be behind the whole herd.
LIVE_LATE_S = 0.5
#: How late the server may answer 99 of 100; the longest script takes it some 5 ms.
PING_LATE_S = 0.02
#: Both are deadlines only in `make test`, and where other processes keep the server waiting for a core for longer than
#: this share of the time, so that it is halted in the middle of things.
BUSY_LIVE_LATE_S, BUSY_PING_LATE_S, WAITED_MAX = 10.0, 1.0, 0.1
#: Jobs whose target is down, for how long, and jobs of a healthy handler beside them: so many each 50 ms.
CALLERS, OUTAGE_S, HEALTHY_COUNT = 300, 120.0 if LONG else 2.5, 20
#: Over how long the rates of these and of the calls at the end of the outage are taken.
WINDOW_S, AT_THE_END_S = (5.0, 30.0) if LONG else (0.6, 1.0)
#: A flood's length, how long records are kept, and how long it goes on before anybody looks: until as many records
#: expire as come, and as many tokens of submissions, which are kept for 120 s.
FLOOD_S, RECORD_S, WARM_UP_S = (600.0, 10, 150.0) if LONG else (4.0, 0.5, 1.0)
#: How much memory may grow from the second fifth to the last: in a few seconds most of it is warming up.
GROWTH_MAX = 0.05 if LONG else 1.0
#: Or by so much, which is over 5 % of a server of 15 MB: it grows like this when a table of its doubles, or when jobs
#: come faster than ever before. Twenty bytes left behind by each job would be more.
GROWTH_MAX_MB = 2.5
FLOOD_BOUND = 2_000


@pytest.mark.parametrize("loop", LOOPS)
def test_a_herd_lets_live_jobs_pass(server: Server, tmp_path: Path, loop: str) -> None:
    """However many jobs are due in one second, the server answers, live jobs start soon, and each job is done once."""
    with Load(server, tmp_path, max_queue_length=HERD_COUNT + 10_000, result_ttl=60, lease=5) as load:
        worker = load.worker(loop)
        usual = live_jobs(load, lambda: load.truth.count("live") >= 2 * 30)
        due_at = datetime.now(UTC) + timedelta(seconds=HERD_AHEAD_S)
        due = load.jobs["due"].options(at=due_at).sync
        for first in range(0, HERD_COUNT, 10_000):
            batch = range(first, first + 10_000)
            due.submit_many((number,) for number in batch)
            load.truth.note("ok", *batch)
        ahead_s = (due_at - datetime.now(UTC)).total_seconds()
        assert ahead_s > 0 or not LONG, "this machine takes so long to submit a herd that it is none; begin earlier"
        time.sleep(max(0.0, ahead_s))
        began_s, waited_s = time.monotonic(), waited_for_core_s(server.process.pid)
        with Pings(server) as pings:
            beside = live_jobs(load, lambda: load.truth.count("done") >= HERD_COUNT, HERD_PATIENCE_S)
        took_s = time.monotonic() - began_s
        waited = (waited_for_core_s(server.process.pid) - waited_s) / took_s
        is_own = LONG and waited < WAITED_MAX
        live_late_s, ping_late_s = (LIVE_LATE_S, PING_LATE_S) if is_own else (BUSY_LIVE_LATE_S, BUSY_PING_LATE_S)
        print(f"\n{HERD_COUNT} jobs due at once, {loop}: done in {took_s:.1f} s, {HERD_COUNT / took_s:,.0f}/s")
        print(f"  PING ms: {quantiles_ms(pings.took_s)}; the server waited for a core {waited:.0%} of the time")
        for queue, waits_s in beside.items():
            print(f"  live jobs, queue {queue}, ms: usually {quantiles_ms(usual[queue])}, now {quantiles_ms(waits_s)}")
            assert quantiles_ms(waits_s)["p99"] < live_late_s * 1000
        assert quantiles_ms(pings.took_s)["p99"] < ping_late_s * 1000
        load.leave(worker)


def live_jobs(load: Load, is_over: Callable[[], bool], patience_s: float = 30.0) -> dict[str, list[float]]:
    """Submit a job to each of the two queues every 20 ms until it is over; return how long they waited, by queue."""
    seen, ends_s = len(load.truth.read("live")), time.monotonic() + patience_s
    queues = {"default": load.jobs["live"].sync, OTHER: load.jobs["live"].options(queue=OTHER).sync}
    submitted = 0
    while not is_over():
        assert time.monotonic() < ends_s, f"not over after {patience_s} s"
        for kind, live in enumerate(queues.values()):
            live.submit(kind, time.monotonic())
            submitted += 1
        time.sleep(0.02)
    until(lambda: load.truth.count("live") // 2 >= seen // 2 + submitted, "all live jobs to start")
    pairs = load.truth.read("live")
    fresh = list(zip(pairs[seen::2], pairs[seen + 1 :: 2], strict=True))
    return {queue: [wait_s for number, wait_s in fresh if number == kind] for kind, queue in enumerate(queues)}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_target_that_is_down_is_called_no_more_than_backing_off_allows(
    server: Server, tmp_path: Path, loop: str
) -> None:
    """While a target is down its jobs back off, others go on, and when it is back all are done without a collapse.

    There is no retry budget yet: what bounds the calls is that each job waits longer each time, apart from the others.
    """
    target = tmp_path / "target"
    with Load(server, tmp_path, result_ttl=60, lease=5) as load:
        worker = load.worker(loop)
        with Healthy(load) as healthy:
            time.sleep(0.3)
            before = healthy.rate(WINDOW_S)
            calls = range(CALLERS)
            load.jobs["call"].sync.submit_many((number, str(target)) for number in calls)
            load.truth.note("ok", *calls)
            time.sleep(OUTAGE_S)
            down_until_s = time.monotonic()
            meanwhile = healthy.rate(WINDOW_S)
            target.touch()
            back_s = time.monotonic()
            until(lambda: CALLERS <= sum(0 <= number < CALLERS for number in load.truth.read("done")), "all calls")
            recovered_s = time.monotonic() - back_s
            after = healthy.rate(WINDOW_S)
        tried = [at_s for at_s in load.truth.read("tried") if at_s <= down_until_s]
        last = sum(at_s > down_until_s - AT_THE_END_S for at_s in tried)
        print(f"\n{CALLERS} jobs, {loop}, target down {OUTAGE_S:.0f} s: {len(tried)} calls")
        print(f"  in the last {AT_THE_END_S:.0f} s {last / AT_THE_END_S:.0f}/s")
        rates = [round(each) for each in (before, meanwhile, after)]
        print(f"  all done {recovered_s:.2f} s after it was back; healthy jobs/s before, meanwhile, after: {rates}")
        # However late it is, between two calls of a job lies half of the longest wait.
        assert 0 < last <= CALLERS * (AT_THE_END_S / (RETRY_MAX_S / 2) + 1)
        assert min(meanwhile, after) > 0.5 * before
        if LONG:
            assert recovered_s < RETRY_MAX_S + 1.0
        load.leave(worker)


class Healthy:
    """Submits jobs of a healthy handler at a steady rate, from a thread; use it as a context manager.

    Args:
        load: Where to.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def rate(self, seconds: float) -> float:
        """Return how many of these jobs end in a second, over so long."""
        before = self._ended()
        time.sleep(seconds)
        return (self._ended() - before) / seconds

    def _ended(self) -> int:
        return sum(number >= CALLERS for number in self._load.truth.read("done"))

    def _run(self) -> None:
        number = CALLERS
        while not self._done.wait(0.05):
            batch = range(number, number + HEALTHY_COUNT)
            self._load.jobs["slow"].sync.submit_many((each, 5.0) for each in batch)
            self._load.truth.note("ok", *batch)
            number += HEALTHY_COUNT


def test_a_flood_is_refused_and_memory_stays_flat(server: Server, tmp_path: Path) -> None:
    """Producers faster than the workers are refused all the time, nobody's memory grows, and nothing is lost."""
    settings = {"max_queue_length": FLOOD_BOUND, "result_ttl": RECORD_S, "lease": 5}
    with Load(server, tmp_path, **settings) as load:
        workers = {f"worker {loop}": load.worker(loop) for loop in LOOPS}
        producers = {f"producer {loop}": load.flood(loop) for loop in LOOPS}
        until(lambda: bool(load.truth.count("refused")), "the first refusal")
        time.sleep(WARM_UP_S)
        everybody = {**workers, **producers, "server": server.process}
        samples, refusals, done = Samples({name: each.pid for name, each in everybody.items()}), [], []
        used_mb = []
        for _ in range(5):
            samples.watch(FLOOD_S / 5)
            refusals.append(load.truth.count("refused"))
            done.append(load.truth.count("done"))
            used_mb.append(round(load.client.info("memory")["used_memory"] / 1e6, 1))
        load.stop(*producers.values())
        print(f"\n{FLOOD_S:.0f} s of flood, bound {FLOOD_BOUND}, records kept {RECORD_S} s")
        print(f"  done {done}, refused {refusals}, server's data {used_mb} MB")
        for name, fifths in samples.fifths_mb().items():
            print(f"  {name}, MB by fifths: {[round(each, 1) for each in fifths]}, {fifths[4] / fifths[1] - 1:+.1%}")
            assert fifths[4] < max(fifths[1] * (1 + GROWTH_MAX), fifths[1] + GROWTH_MAX_MB), name
        assert sorted(set(refusals)) == refusals
        # A log, a listing, a connection that is opened when it is first needed; a leak would be hundreds.
        assert max(samples.more_files().values()) <= 4
        assert load.client.xlen("headrace:{default}:jobs") <= FLOOD_BOUND + BATCH_COUNT + 2 * SLOTS
        load.leave(*workers.values())
