"""The broker's verbs alone, once, with nothing around them: submit, fetch and settle in batches of 500.

Each phase runs by itself, so that the figures say what one job costs in each; the last one fetches and settles in turn,
as a worker with no-op handlers would. A lost or doubled job ends the probe.
"""

import resource
import time

from measuring.probe import end_by_signal, parser, report
from measuring.profiling import profiled
from measuring.servers import server

from headrace.engine.broker.port import Bound, Registration, Submission
from headrace.engine.broker.redis import RedisBroker
from headrace.jobs import codec
from headrace.jobs.disposition import Disposition, Kind

BATCH = 500


def cpu_s() -> float:
    """Return the CPU time that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(url: str, jobs: int) -> dict[str, float]:
    """Return what was measured, by name."""
    count = max(BATCH, jobs // BATCH * BATCH)  # whole batches
    broker = RedisBroker(url)
    broker.register(Registration("bench", ("bench",), 60.0))
    body = codec.pack_envelope("add", b"\x93\x01\x02\xb00123456789abcdef")
    record = codec.pack_record(codec.ResultRecord(codec.VERSION, "succeeded", codec.NIL, None, "add", 1, 1, 0, 0))
    record += b" " * (60 - len(record))
    figures: dict[str, float] = {"record_bytes": len(record), "body_bytes": len(body)}

    def phase(name: str, began_s: float, began_cpu_s: float) -> None:
        figures[f"{name}_per_s"] = round(count / (time.perf_counter() - began_s))
        figures[f"{name}_cpu_us"] = round((cpu_s() - began_cpu_s) / count * 1e6, 2)

    def publish() -> None:
        for i in range(0, count, BATCH):
            jobs = [Submission(body) for _ in range(BATCH)]
            broker.publish("bench", jobs, f"{time.monotonic_ns()}-{i}", Bound(10_000_000))

    now, used = time.perf_counter(), cpu_s()
    publish()
    phase("publish", now, used)

    now, used = time.perf_counter(), cpu_s()
    batches = [broker.fetch({"bench": BATCH}, 1.0) for _ in range(0, count, BATCH)]
    phase("fetch", now, used)
    assert count == sum(map(len, batches))

    now, used = time.perf_counter(), cpu_s()
    for batch in batches:
        assert broker.settle([Disposition(lease, Kind.DONE, record, 300_000) for lease in batch]) == 0
    phase("settle", now, used)

    publish()
    now, used = time.perf_counter(), cpu_s()
    settled = 0
    while settled < count:
        batch = broker.fetch({"bench": BATCH}, 1.0)
        assert broker.settle([Disposition(lease, Kind.DONE, record, 300_000) for lease in batch]) == 0
        settled += len(batch)
    phase("fetch_and_settle", now, used)
    assert broker.queues(["bench"])[0].running == 0
    broker.close()
    return figures


def main() -> None:
    """Measure once and print."""
    arguments = parser(__doc__).parse_args()
    end_by_signal()
    with server(arguments.fsync) as (socket, _), profiled():
        figures = measure(f"unix://{socket}", arguments.jobs)
    report(figures)


if __name__ == "__main__":
    main()
