"""The async buffered file, once: how many records a second it takes until all of them are on the disk, as promised.

Several writers append to one file. The other way, for comparison, is what one would write without it: an async file
that is written to record by record, with a hop to a thread for each.
"""

import argparse
import pathlib
import time

import anyio
from measuring.probe import end_by_signal, parser, report, run_on
from measuring.servers import scratch

from headrace.engine.files.buffered import BufferedFile
from headrace.engine.files.settings import FileSettings, Fsync


async def buffered(path: pathlib.Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Write by the buffered file; returns its counters."""
    settings = FileSettings(fsync=Fsync(arguments.sync))
    async with BufferedFile(path, settings) as file:
        await share(arguments, file.write)
        await file.flush()
        statistics = file.statistics()
    return {"fsyncs": statistics.fsyncs, "flushes": statistics.flushes}


async def plain(path: pathlib.Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Write record by record, as any async file does."""
    async with await anyio.open_file(path, "ab", buffering=0) as file:

        async def write(records: list[bytes]) -> None:
            await file.write(b"".join(record + b"\n" for record in records))

        await share(arguments, write)
    return {"fsyncs": 0, "flushes": arguments.jobs // arguments.batch}


async def share(arguments: argparse.Namespace, write: object) -> None:
    """Have the writers write all records, a batch at a time."""
    batch = [b"x" * arguments.record_bytes] * arguments.batch
    turns = iter(range(arguments.jobs // arguments.batch))

    async def some() -> None:
        for _ in turns:
            await write(batch)  # type: ignore[operator]

    async with anyio.create_task_group() as group:
        for _ in range(arguments.writers):
            group.start_soon(some)


async def measure(folder: pathlib.Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Return the figures, with what is in the file in the end."""
    path = folder / "records"
    began_s, cpu_s = time.perf_counter(), time.process_time()
    counters = await (plain if arguments.plain else buffered)(path, arguments)
    took_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    records = arguments.jobs // arguments.batch * arguments.batch
    written = path.stat().st_size // (arguments.record_bytes + 1)
    return {
        "records_per_s": records / took_s,
        "mb_per_s": records * (arguments.record_bytes + 1) / took_s / 1e6,
        "cpu_us_per_record": used_s / records * 1e6,
        "lost": max(0, records - written),
        "duplicates": max(0, written - records),
        **counters,
    }


def main() -> None:
    """Measure once and print."""
    made = parser(__doc__)
    made.add_argument("--sync", choices=[mode.value for mode in Fsync], default="interval")
    made.add_argument("--writers", type=int, default=1)
    made.add_argument("--batch", type=int, default=1, help="records of one write")
    made.add_argument("--record-bytes", type=int, default=100)
    made.add_argument("--plain", action="store_true", help="an async file, record by record")
    arguments = made.parse_args()
    end_by_signal()
    with scratch() as folder:
        report(run_on(arguments.loop, measure, folder, arguments))


if __name__ == "__main__":
    main()
